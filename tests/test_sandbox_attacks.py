"""Code in the sandbox cannot reach the user's files, network or processes, nor cheat; the next call works."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trace_adapters.errors import SandboxError, SandboxKilled
from trace_adapters.sandbox import Limits, SandboxPool

ECHO = "def f(x):\n    return x\n"
FULL = "seccomp+landlock"


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(limits=Limits(grace_s=0.2)) as pool:
        if pool.level() != FULL:
            pytest.skip(f"this machine confines by {pool.level()} only")
        yield pool


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("key")
    return path


# Each body is the function f(path), which must raise what stands beside it.
REFUSED = {
    "read a file of the user": ("return open(path).read()", PermissionError),
    "read through a descriptor": ("import os; return os.read(os.open(path, os.O_RDONLY), 9)", PermissionError),
    "write over a file": ("return open(path, 'w').write('x')", PermissionError),
    "append to a file": ("return open(path, 'a').write('x')", PermissionError),
    "make a file": ("return open(path + '.new', 'x')", PermissionError),
    "remove a file": ("import os; os.unlink(path)", PermissionError),
    "rename a file": ("import os; os.rename(path, path + '.old')", PermissionError),
    "change its mode": ("import os; os.chmod(path, 0o777)", PermissionError),
    "make a directory": ("import os; os.mkdir(path + '.d')", PermissionError),
    "make a symlink": ("import os; os.symlink('/etc/passwd', path + '.l')", PermissionError),
    "make a hard link": ("import os; os.link(path, path + '.l')", PermissionError),
    "truncate a file": ("import os; os.truncate(path, 0)", PermissionError),
    "list a directory": ("import os; return os.listdir(os.path.dirname(path))", PermissionError),
    "list the root": ("import os; return os.listdir('/')", PermissionError),
    "read the password file": ("return open('/etc/passwd').read()", PermissionError),
    "read the environment of the host": ("import os; return open(f'/proc/{os.getppid()}/environ').read()", OSError),
    "read its own memory map": ("return open('/proc/self/maps').read()", OSError),
    "write its own memory": ("return open('/proc/self/mem', 'r+b')", OSError),
    "read this package": ("import trace_adapters; return trace_adapters.__path__", ModuleNotFoundError),
    "open a TCP socket": ("import socket; socket.socket(socket.AF_INET)", PermissionError),
    "open a UNIX socket": ("import socket; socket.socket(socket.AF_UNIX)", PermissionError),
    "open a netlink socket": ("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", PermissionError),
    "make a socket pair": ("import socket; socket.socketpair()", PermissionError),
    "ask for a name": ("import socket; return socket.gethostbyname('localhost.example')", OSError),
    "open a page": ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')", OSError),
    "fork": ("import os; os.fork()", PermissionError),
    "vfork by hand": (
        "import ctypes, os; n = ctypes.CDLL(None, use_errno=True)\n    if n.vfork() < 0: raise OSError",
        OSError,
    ),
    "execute": ("import os; os.execv('/bin/sh', ['sh'])", PermissionError),
    "spawn": ("import os; os.posix_spawn('/bin/sh', ['sh'], {})", PermissionError),
    "run a command": ("import subprocess; subprocess.run(['id'])", OSError),
    "start a thread": ("import threading; threading.Thread(target=print).start()", RuntimeError),
    "use a process pool": (
        "import concurrent.futures as c; c.ProcessPoolExecutor(1).submit(print).result()",
        Exception,
    ),
    "kill the host": ("import os; os.kill(os.getppid(), 9)", PermissionError),
    "kill its group": ("import os; os.killpg(0, 9)", PermissionError),
    "signal the host through a pipe": (
        "import fcntl, os\n    for n in range(9):\n        try: os.fstat(n)\n        except OSError: continue\n"
        "        fcntl.fcntl(n, fcntl.F_SETOWN, os.getppid())",
        PermissionError,
    ),
    "raise its limits": ("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))", (OSError, ValueError)),
    "lower its priority": ("import os; os.nice(1)", PermissionError),
    "take all memory": ("return len(bytearray(2 * 10**9))", MemoryError),
    "map all memory": ("import mmap; mmap.mmap(-1, 2 * 10**9)", OSError),
    "make a memory file": ("import os; os.memfd_create('x')", PermissionError),
    "make a pipe": ("import os; os.pipe()", PermissionError),
    "chroot": ("import os; os.chroot('/')", PermissionError),
    "change user": ("import os; os.setuid(1)", PermissionError),
    "use shared memory": (
        "from multiprocessing import shared_memory as s; s.SharedMemory(create=True, size=9)",
        OSError,
    ),
    "trace the host": (
        "import ctypes, os\n    c = ctypes.CDLL(None, use_errno=True)\n"
        "    if c.ptrace(16, os.getppid(), 0, 0) < 0: raise OSError(ctypes.get_errno(), 'x')",
        OSError,
    ),
    "use io_uring": (
        "import ctypes\n    c = ctypes.CDLL(None, use_errno=True)\n"
        "    if c.syscall(425, 8, 0) < 0: raise OSError(ctypes.get_errno(), 'x')",
        OSError,
    ),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_what_code_may_not_do_is_refused(pool, secret, attack):
    body, expected = REFUSED[attack]
    with pytest.raises(expected) as raised:
        pool.run(f"def f(path):\n    {body}\n", "f", [str(secret)])
    assert not isinstance(raised.value, SandboxKilled)
    assert secret.read_text() == "key"
    assert sorted(path.name for path in secret.parent.iterdir()) == ["secret.txt"]
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_the_environment_and_the_arguments_are_empty(pool):
    text = "import os, sys\ndef f():\n    return [dict(os.environ), sys.argv, os.getcwd()]\n"
    environment, arguments, directory = pool.run(text, "f")
    assert (environment.keys() - {"PYTHONHASHSEED", "LC_CTYPE"}, arguments, directory) == (set(), ["-c"], "/")


def test_only_its_own_pipes_are_open(pool):
    text = (
        "import os\ndef f():\n    found = []\n    for n in range(32):\n        try: os.fstat(n)\n"
        "        except OSError: continue\n        found.append(n)\n    return found\n"
    )
    assert len(pool.run(text, "f")) == 5  # three at the null device, one in, one out


def test_installed_packages_cannot_be_read(pool):
    with pytest.raises(ModuleNotFoundError):
        pool.run("def f():\n    import pytest\n", "f")


def _run_twice(pool: SandboxPool, text: str) -> None:
    pool.run(text, "f", ["honest"])
    pool.run(text, "f", ["honest"])


FORGED = """
import json, os, struct
def f(x):
    data = json.dumps({"id": %s, "value": "forged"}).encode()
    for n in range(3, 10):
        try: os.write(n, struct.pack(">I", len(data)) + data)
        except OSError: pass
    return x
"""


@pytest.mark.parametrize("number", [1, 2])
def test_a_forged_reply_never_reaches_another_call(pool, number):
    try:  # it may lie about its own result, which it could do by returning it
        assert pool.run(FORGED % number, "f", ["honest"]) == "forged"
    except SandboxError as error:
        assert "was stopped" in str(error)  # noqa: PT017
    with pytest.raises(SandboxError, match="was stopped"):
        _run_twice(pool, FORGED % number)
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_printing_to_the_descriptor_of_standard_output_does_nothing(pool):
    text = (
        "import os, sys\ndef f(x):\n    os.write(1, b'\\x00\\x00\\x00\\x02{}')\n    os.write(2, b'x')\n    return x\n"
    )
    assert [pool.run(text, "f", [1]), pool.run(text, "f", [2])] == [1, 2]


def test_a_callback_that_was_not_declared_is_refused(pool):
    text = FORGED.replace('"value": "forged"', '"callback": "eval", "args": ["1"], "kwargs": {}') % 1
    with pytest.raises(SandboxError, match="which uses= does not declare"):
        pool.run(text, "f", [1])


@pytest.mark.parametrize(
    "data",
    [
        "[" * 200_000 + "]" * 200_000,
        '{"id": 1, "value": {"$": "set", "v": [[]]}}',
        '{"id": 1, "error": 3}',
        "{",
        "1" * 9_000,
    ],
)
def test_a_malformed_reply_is_an_error_and_no_more(pool, data):
    text = (
        "import os, struct\ndef f(data):\n    data = data.encode()\n    data = struct.pack('>I', len(data)) + data\n"
        "    for n in range(3, 10):\n        try:\n            while data: data = data[os.write(n, data):]\n"
        "        except OSError: pass\n    os._exit(0)\n"
    )
    with pytest.raises(SandboxError):
        pool.run(text, "f", [data])
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_a_reply_that_claims_to_be_huge_is_not_read(pool):
    text = (
        "import os\ndef f():\n    for n in range(3, 10):\n"
        "        try: os.write(n, b'\\xff' * 8)\n        except OSError: pass\n"
    )
    with pytest.raises(SandboxError, match="more than"):
        pool.run(text, "f")


@pytest.mark.parametrize(
    "body",
    [
        "import builtins; builtins.len = builtins.isinstance = None",
        "import json; json.dumps = json.loads = json.JSONEncoder.encode = None",
        "import os, sys; os.write = os.read = None; sys.modules.clear()",
        "import signal; signal.setitimer = None; signal.signal(signal.SIGALRM, signal.SIG_IGN)",
        "import sys; sys.settrace(print); sys.setrecursionlimit(10**6)",
        "import gc; [o.clear() for o in gc.get_objects() if type(o) is dict and 'f' in o]",
        "import sys; frame = sys._getframe(1); frame.f_locals['self']._channel._sink = 1",
        "import sys\n    class Hook:\n        def find_spec(self, *a): 1 / 0\n    sys.meta_path[:] = [Hook()]",
    ],
)
def test_what_a_source_does_to_its_worker_stays_there(pool, body):
    try:
        pool.run(f"def f():\n    {body}\n", "f", timeout_s=0.5)
    except Exception as error:  # it may break its own worker
        assert isinstance(error, Exception)  # noqa: PT017
    assert pool.run("import json\ndef f(x):\n    return json.loads(json.dumps([x, len(x)]))\n", "f", ["ab"]) == [
        "ab",
        2,
    ]


def test_candidates_do_not_see_each_others_state(pool):
    pool.run("import json\ndef f():\n    json.answer = 42\n", "f")
    assert pool.run("import json\ndef f():\n    return hasattr(json, 'answer')\n", "f") is False


def test_code_that_closes_everything_is_stopped(pool):
    with pytest.raises(SandboxError):
        pool.run("import os\ndef f():\n    os.closerange(0, 99)\n    while True: pass\n", "f", timeout_s=0.5)
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_nothing_runs_at_exit(pool, tmp_path):
    text = (
        "import atexit\nclass A:\n    def __del__(self): open(PATH, 'w')\n"
        "a = A()\ndef f():\n    atexit.register(a.__del__)\n"
    )
    pool.run(text, "f", constants={"PATH": str(tmp_path / "made")})
    pool.close()
    assert list(tmp_path.iterdir()) == []


def test_exceptions_of_the_code_run_nothing_here(pool):
    text = (
        "class E(Exception):\n    def __str__(self): raise SystemExit\n"
        "    def __reduce__(self): return (eval, ('1/0',))\ndef f():\n    raise E(E())\n"
    )
    with pytest.raises(Exception) as raised:  # noqa: PT011
        pool.run(text, "f")
    assert isinstance(raised.value, SandboxError)


def test_a_name_of_a_host_type_is_looked_up_in_builtins_only(pool):
    text = "class open(Exception): pass\nopen.__module__ = 'builtins'\ndef f():\n    raise open('a')\n"
    with pytest.raises(SandboxError) as raised:
        pool.run(text, "f")
    assert type(raised.value) is not builtins.open
    assert os.path.exists("/")
