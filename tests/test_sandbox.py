"""Code in the sandbox computes what it would compute here, and what goes wrong comes back as feedback."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import decimal
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter, namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any

import pytest

from trace_adapters import sandbox
from trace_adapters.code import error_place, read_source
from trace_adapters.errors import BudgetExceeded, SandboxError, SandboxKilled, SandboxTimeout
from trace_adapters.sandbox import Limits, SandboxPool, register_codec

RANDOM_CHOICE = "from random import choice\ndef f(x):\n    return choice(range(10**6))\n"
ECHO = "def f(x):\n    return x\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(limits=Limits(result_bytes=100_000, callbacks=5)) as pool:
        yield pool


class Colour(IntEnum):
    RED = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        10**30,
        1 << 20_000,
        2.5,
        math.inf,
        "é \ud800 \x00",
        b"\x00\xff",
        bytearray(b"a"),
        (1, (2,)),
        [[], {}],
        {1, 2},
        frozenset("ab"),
        {"a": {"b": 1}},
        {1: "one", (1, 2): None},
        {"$": "a key of the protocol", "v": []},
        datetime.datetime(2020, 1, 2, 3, tzinfo=datetime.UTC),
        datetime.date(2020, 1, 2),
        datetime.time(1, 2, 3, 4),
        datetime.timedelta(days=-1, microseconds=5),
        decimal.Decimal("1.50"),
        1 + 2j,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_survive_the_way_in_and_back(pool, value):
    returned = pool.run(ECHO, "f", [value])
    assert returned == value
    assert type(returned) is type(value)


def test_nan_survives(pool):
    assert math.isnan(pool.run(ECHO, "f", [math.nan]))


@pytest.mark.parametrize(
    ("value", "plain"), [(Colour.RED, 1), (Point(1, 2), (1, 2)), (Counter("aab"), {"a": 2, "b": 1})]
)
def test_subclasses_travel_as_their_base(pool, value, plain):
    returned = pool.run(ECHO, "f", [value])
    assert (returned, type(returned)) == (plain, type(plain))


def test_keyword_arguments_imports_and_constants_are_found(pool):
    text = "def f(a, *, b):\n    return [a, b, encoded.dumps(LIMITS), dict(Count('aa')), WORD.findall('ab')]\n"
    result = pool.run(
        text,
        "f",
        [1],
        {"b": 2},
        imports={"encoded": "json", "Count": "collections:Counter", "unused": "no_such_module"},
        constants={"LIMITS": {"a": 1}, "WORD": re.compile("a")},
    )
    assert result == [1, 2, '{"a": 1}', {"a": 2}, ["a"]]


def strip_answer(response, marker="Answer:"):
    return re.split(marker, response)[1].strip()


def test_a_function_that_was_read_runs_as_it_is(pool):
    source = read_source(strip_answer)
    result = pool.run(source.text, source.name, ["So. Answer: 4 "], imports=source.imports, constants=source.constants)
    assert result == "4"


def test_helpers_classes_and_state_of_a_source_live_in_its_worker(pool):
    text = "import itertools\nclass A:\n    n = itertools.count()\ndef g(): return next(A.n)\ndef f(): return g()\n"
    with SandboxPool(max_workers=1) as own:
        assert [own.run(text, "f"), own.run(text, "f")] == [0, 1]
        assert own.run(text + "\n", "f") == 0


def test_an_exception_comes_back_with_its_type_place_and_output(pool):
    text = "def f(x):\n    print('before')\n    return x[5]\n"
    with pytest.raises(IndexError, match="list index out of range") as raised:
        pool.run(text, "f", [[]])
    assert error_place(raised.value) == (3, "    return x[5]")
    assert raised.value.trace_adapters_stdout == "before\n"
    assert raised.value.__notes__ == ["In the sandbox, line 3: return x[5]"]


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("return {}['a']", KeyError, "'a'"),
        ("return b'\\xff'.decode()", UnicodeDecodeError, "invalid start byte"),
        ("return f()", RecursionError, "maximum recursion depth"),
        ("return 'a' * 10**10", MemoryError, "In the sandbox"),
        ("raise", RuntimeError, "No active exception"),
        ("return unknown", NameError, "declare it with uses="),
        ("import numpy", ModuleNotFoundError, "only the standard library"),
        ("return object()", TypeError, "builtins.object cannot leave the sandbox"),
        ("x = []; x.append(x); return x", TypeError, "cyclic"),
        ("return 'a' * 200_000", ValueError, "at most 100000"),
        ("return input()", EOFError, "In the sandbox"),
        ("raise ExceptionGroup('a', [ValueError()])", SandboxError, "ExceptionGroup: a"),
        ("import json; json.loads('{')", ValueError, "JSONDecodeError: Expecting"),
        ("class Mine(LookupError): pass\n    raise Mine('a')", LookupError, "Mine: a"),
        ("raise SystemExit(3)", SandboxError, "SystemExit: 3"),
        ("raise KeyboardInterrupt", SandboxError, "KeyboardInterrupt"),
        ("raise StopIteration(1)", SandboxError, "StopIteration: 1"),
        ("raise GeneratorExit", SandboxError, "GeneratorExit"),
    ],
)
def test_failures_have_the_type_that_python_gives_them(pool, body, kind, message):
    text = f"def f():\n    {body}\n"
    with pytest.raises(kind, match=re.escape(message)) as raised:
        pool.run(text, "f")
    assert isinstance(raised.value, Exception)
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_an_error_of_an_unknown_type_is_named(pool):
    with pytest.raises(SandboxError) as raised:
        pool.run("import json\ndef f():\n    json.loads('{')\n", "f")
    assert type(raised.value).__name__ == "JSONDecodeError"


def test_a_syntax_error_is_placed(pool):
    with pytest.raises(SyntaxError) as raised:
        pool.run("def f():\n    return (\n", "f")
    assert error_place(raised.value) is not None


def test_a_source_that_fails_to_load_fails_each_time(pool):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            pool.run("X = 1 / 0\ndef f():\n    return 1\n", "f")


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
        "import time; time.sleep(60)",
    ],
)
def test_code_that_takes_too_long_is_stopped_at_its_line(pool, body):
    with pytest.raises(SandboxTimeout, match="longer than 1 s") as raised:
        pool.run(f"def f():\n    print('started')\n    {body}\n", "f", timeout_s=1.0)
    assert error_place(raised.value) == (3, f"    {body}")
    assert raised.value.trace_adapters_stdout == "started\n"
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_code_that_will_not_stop_is_killed():
    text = "import time\ndef f():\n  while True:\n    try: time.sleep(9)\n    except BaseException: pass\n"
    with SandboxPool(limits=Limits(grace_s=0.1)) as pool:
        with pytest.raises(SandboxTimeout, match="killed"):
            pool.run(text, "f", timeout_s=0.2)
        assert pool.run(ECHO, "f", ["next"]) == "next"


def test_a_worker_that_dies_is_replaced(pool):
    with pytest.raises(SandboxKilled, match="exit status 3"):
        pool.run("import os\ndef f():\n    os._exit(3)\n", "f")
    with pytest.raises(SandboxKilled, match="SIGSEGV"):
        pool.run("import ctypes\ndef f():\n    ctypes.string_at(0)\n", "f")
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_of_a_flood_of_output_the_end_is_kept(pool):
    text = "def f():\n    for i in range(20_000):\n        print('line', i)\n    raise ValueError\n"
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        pool.run(text, "f")
    assert raised.value.trace_adapters_stdout.endswith("line 19999\n")
    assert len(raised.value.trace_adapters_stdout) == Limits().stdout_chars


def test_code_may_call_what_uses_declares(pool):
    text = "def f(x):\n    return ask(x, times=2) + '!'\n"
    assert pool.run(text, "f", ["a"], uses={"ask": lambda word, times: word * times}) == "aa!"


def test_callbacks_run_in_the_calling_thread_and_context(pool):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("here")
    seen = pool.run("def f():\n    return ask()\n", "f", uses={"ask": lambda: [variable.get(), threading.get_ident()]})
    assert seen == ["here", threading.get_ident()]


def test_a_source_finds_the_constants_of_its_call(pool):
    """The same text may stand for functions of two modules."""
    text = "def f():\n    return LIMIT\n"
    assert [pool.run(text, "f", constants={"LIMIT": limit}) for limit in (1, 2, 1)] == [1, 2, 1]


def test_a_pattern_goes_in_and_does_not_come_out(pool):
    """The host compiles nothing that a model wrote."""
    assert pool.run("def f(p):\n    return p.findall('a1')\n", "f", [re.compile("[a-z]")]) == ["a"]
    with pytest.raises(SandboxError, match="cannot be read"):
        pool.run("import re\ndef f():\n    return re.compile('a')\n", "f")


def test_time_in_a_callback_is_not_the_codes_time(pool):
    assert pool.run("def f():\n    return ask()\n", "f", uses={"ask": lambda: time.sleep(2.0)}, timeout_s=1.0) is None


def test_an_error_of_the_host_can_be_caught_by_the_code(pool):
    def ask():
        raise KeyError("gone")

    text = "def f():\n    try:\n        return ask()\n    except KeyError as error:\n        return repr(error)\n"
    assert pool.run(text, "f", uses={"ask": ask}) == "KeyError(\"'gone'\")"


def test_an_error_of_the_host_that_is_not_caught_is_the_same_object(pool):
    error = ConnectionError("down")

    def ask():
        raise error

    with pytest.raises(ConnectionError) as raised:
        pool.run("def f():\n    return ask()\n", "f", uses={"ask": ask})
    assert raised.value is error
    assert error_place(error) == (2, "    return ask()")


@pytest.mark.parametrize("stop", [BudgetExceeded("spent"), KeyboardInterrupt()])
def test_code_cannot_catch_what_stops_the_host(pool, stop):
    def ask():
        raise stop

    text = "def f():\n    try:\n        return ask()\n    except BaseException:\n        return 'went on'\n"
    with pytest.raises(type(stop)):
        pool.run(text, "f", uses={"ask": ask})
    assert pool.run(ECHO, "f", ["next"]) == "next"


def test_code_cannot_call_the_host_without_end(pool):
    text = "def f():\n    while True:\n        ask()\n"
    with pytest.raises(SandboxError, match="more than 5 times"):
        pool.run(text, "f", uses={"ask": lambda: 1})


def test_a_callback_may_use_the_sandbox_itself():
    with SandboxPool(max_workers=1) as pool:
        ask = lambda x: pool.run(ECHO, "f", [x])  # noqa: E731
        assert pool.run("def f(x):\n    return ask(x)\n", "f", ["a"], uses={"ask": ask}) == "a"


def test_async_code_and_async_callbacks_run_in_the_callers_loop(pool):
    async def ask(x):
        await asyncio.sleep(0)
        return [x, id(asyncio.get_running_loop())]

    async def main():
        text = "async def g(x):\n    return await ask(x)\nasync def f(x):\n    return await g(x)\n"
        return await pool.arun(text, "f", ["a"], uses={"ask": ask}), id(asyncio.get_running_loop())

    (answer, seen), expected = asyncio.run(main())
    assert (answer, seen) == ("a", expected)


def test_many_async_calls_within_callbacks_cannot_block_each_other():
    async def inner(n):
        return await pool.arun("def f(n):\n    return n + 1\n", "f", [n])

    async def all_of_them():
        calls = [
            pool.arun("async def f(n):\n    return await inner(n)\n", "f", [n], uses={"inner": inner}) for n in many
        ]
        return await asyncio.wait_for(asyncio.gather(*calls), 60)

    many = range(12)
    with SandboxPool(max_workers=12) as pool:
        assert asyncio.run(all_of_them()) == [n + 1 for n in many]


def test_an_async_callback_works_without_a_loop(pool):
    async def ask():
        return 3

    assert pool.run("async def f():\n    return await ask()\n", "f", uses={"ask": ask}) == 3


def test_blocking_the_loop_with_an_async_callback_is_refused(pool):
    async def ask():
        return 3

    async def main():
        return pool.run("async def f():\n    return await ask()\n", "f", uses={"ask": ask})

    with pytest.raises(SandboxError, match=r"Use arun\(\)"):
        asyncio.run(main())


def test_a_dropped_pool_ends_its_workers():
    pool = SandboxPool()
    worker = pool.run("import os\ndef f():\n    return os.getpid()\n", "f")
    del pool
    assert _ends(worker)


def test_waiting_for_anything_else_is_refused(pool):
    with pytest.raises(RuntimeError, match="event loop"):
        pool.run("import asyncio\nasync def f():\n    await asyncio.sleep(1)\n", "f")


class Connection:
    def __init__(self) -> None:
        self.asked: list[str] = []


def test_an_object_without_a_codec_is_lent(pool):
    connection = Connection()

    def query(where: Connection, text: str) -> str:
        where.asked.append(text)
        return text.upper()

    text = "def f(c, texts):\n    return [query(c, t) for t in texts], repr(c), {'same': c}\n"
    answers, shown, returned = pool.run(text, "f", [connection, ["a", "b"]], uses={"query": query})
    assert (answers, shown, connection.asked) == (["A", "B"], "<Connection of the program>", ["a", "b"])
    assert returned["same"] is connection


def test_what_a_host_function_returns_may_be_lent_too(pool):
    uses = {"connect": Connection, "name_of": lambda c: type(c).__name__}
    assert pool.run("def f():\n    return name_of(connect())\n", "f", uses=uses) == "Connection"


def test_a_lent_object_cannot_be_looked_into(pool):
    with pytest.raises(AttributeError, match="a Connection stays in the program: pass it to a function"):
        pool.run("def f(c):\n    return c.asked\n", "f", [Connection()])


def test_a_handle_of_an_earlier_call_stands_for_nothing(pool):
    text = "kept = []\ndef f(*c):\n    kept.extend(c)\n    return kept[0]\n"
    first = Connection()
    assert pool.run(text, "f", [first]) is first
    with pytest.raises(SandboxError, match="stands for nothing"):
        pool.run(text, "f", [])


def test_a_cyclic_argument_is_refused(pool):
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SandboxError, match="cyclic"):
        pool.run(ECHO, "f", [loop])


class Prediction:
    def __init__(self, **fields: Any) -> None:
        self.fields = fields


def test_a_codec_takes_objects_in_and_back(pool):
    register_codec(Prediction, lambda p: p.fields, lambda fields: Prediction(**fields))
    text = "def f(p):\n    p.seen = [p.answer, p['answer'], hasattr(p, 'missing'), p.items]\n    return p\n"
    returned = pool.run(text, "f", [Prediction(answer="a", items=3)])
    assert isinstance(returned, Prediction)
    assert returned.fields == {"answer": "a", "items": 3, "seen": ["a", "a", False, 3]}


def test_many_threads_share_a_small_pool():
    with SandboxPool(max_workers=2) as pool, ThreadPoolExecutor(8) as threads:
        texts = [f"def f(x):\n    return x + {i % 3}\n" for i in range(24)]
        results = list(threads.map(lambda text: pool.run(text, "f", [1]), texts))
    assert results == [1 + i % 3 for i in range(24)]


def test_the_order_of_sets_is_the_same_in_every_worker():
    text = "def f():\n    return list({'a', 'b', 'c', 'd', 'e', 'f'})\n"
    with SandboxPool() as one, SandboxPool() as other:
        assert one.run(text, "f") == other.run(text, "f")


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, math.inf])
def test_a_time_limit_is_a_positive_number(pool, timeout_s):
    with pytest.raises(ValueError, match="timeout_s"):
        pool.run(ECHO, "f", [1], timeout_s=timeout_s)


def test_the_memory_of_one_call_can_be_chosen(pool):
    text = "def f(n):\n    return len(bytearray(n))\n"
    with pytest.raises(MemoryError):
        pool.run(text, "f", [200 * 2**20], memory_mb=100)
    assert pool.run(text, "f", [200 * 2**20], memory_mb=400) == 200 * 2**20


def test_the_face_uses_one_pool():
    assert sandbox.default_pool() is sandbox.default_pool()
    assert sandbox.run(ECHO, "f", [1]) == 1
    assert asyncio.run(sandbox.arun(ECHO, "f", [2])) == 2
    assert sandbox.level() == sandbox.default_pool().known_level


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_gets_workers_of_its_own(pool):
    script = """
        import os
        from trace_adapters import sandbox
        text = "import os\\ndef f():\\n    return os.getpid()\\n"
        first = sandbox.run(text, "f")
        child = os.fork()
        if child == 0:
            os._exit(0 if sandbox.run(text, "f") != first else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert sandbox.run(text, "f") == first
    """
    with _host(script) as host:
        assert host.wait(60) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_machine_that_gives_no_process_is_no_fault_of_a_candidate():
    """As when too many files are open: the search ends, and no program is scored 0 for it."""
    script = """
        import os, resource
        from trace_adapters import sandbox
        from trace_adapters.errors import SandboxUnavailable
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            os.close(held.pop())
        try:
            sandbox.run("def f():\\n    return 1\\n", "f")
        except SandboxUnavailable as error:
            assert "could not be started: Too many open files" in str(error), error
            raise SystemExit(0)
        raise SystemExit(1)
    """
    with _host(script) as host:
        assert host.wait(60) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux ends workers with their host")
def test_workers_end_when_the_host_is_killed():
    script = """
        from trace_adapters import sandbox
        def tell(pid):
            print(pid, flush=True)
        text = "import os\\ndef f():\\n    tell(os.getpid())\\n    while True: pass\\n"
        sandbox.run(text, "f", uses={"tell": tell}, timeout_s=60)
    """
    with _host(script) as host:
        worker = int(host.stdout.readline())
        host.send_signal(signal.SIGKILL)
    assert _ends(worker)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_workers_outlive_an_interrupt_and_leave_no_zombie():
    script = """
        import os, signal, subprocess
        from trace_adapters import sandbox
        text = "import os\\ndef f():\\n    return os.getpid()\\n"
        worker = sandbox.run(text, "f")
        os.kill(worker, signal.SIGINT)
        assert sandbox.run(text, "f") == worker
        sandbox.default_pool().close()
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            raise SystemExit(0)
        raise SystemExit(1)
    """
    with _host(script) as host:
        assert host.wait(60) == 0


def _host(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)


def _ends(pid: int) -> bool:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":  # killed; its new parent has not asked yet
                return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("text", ["import random\ndef f(x):\n    return random.random()\n", RANDOM_CHOICE])
def test_chance_is_the_same_for_the_same_call_in_every_worker(pool, text):
    with SandboxPool() as another:
        first = pool.run(text, "f", [1])
        assert [pool.run(text, "f", [1]), another.run(text, "f", [1])] == [first, first]
        assert pool.run(text, "f", [2]) != first
