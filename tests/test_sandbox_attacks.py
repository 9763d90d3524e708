"""Code that attacks the protocol or its own worker harms neither the host nor the next call; see also sandbox/."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator

import pytest

from trace_adapters.errors import SandboxError
from trace_adapters.sandbox import Limits, SandboxPool

ECHO = "def f(x):\n    return x\n"
FULL = "seccomp+landlock"


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(limits=Limits(grace_s=0.2)) as pool:
        if not pool.level().endswith(FULL):
            pytest.skip(f"this machine confines by {pool.level()} only")
        yield pool


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
        '{"id": 1, "value": {"$": "handle", "v": -1, "kind": "list"}}',
        '{"id": 1, "error": 3}',
        "{",
        "1" * 9_000,
    ],
)
def test_a_malformed_reply_is_an_error_and_no_more(pool, data):
    text = (
        "import os, struct\ndef f(data):\n    data = data.encode()\n    data = struct.pack('>I', len(data)) + data\n"
        "    for n in range(3, 10):\n        try:\n            while data: data = data[os.write(n, data):]\n"
        f"        except OSError: pass\n    os._exit(0)  # {len(data)}: so that each has a process of its own\n"
    )
    with pytest.raises(SandboxError, match=r"cannot be read|no message"):
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
