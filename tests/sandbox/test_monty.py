"""Monty runs a learned function as the worker process does, where the function fits into its subset of Python."""

from __future__ import annotations

import asyncio
import datetime
import functools
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import trace_adapters as ta
from trace_adapters.errors import BudgetExceeded, SandboxError, SandboxTimeout
from trace_adapters.extend import SandboxPool
from trace_adapters.learned import LearnedFunction
from trace_adapters.sandbox.portable import MODULES, check_portable

pytest.importorskip("pydantic_monty")

ECHO = "def f(x):\n    return x\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(sandbox="monty") as pool:
        yield pool


@pytest.mark.parametrize(
    "value",
    [
        None,
        True, 2**80, -0.5, math.inf, "é\n", b"\x00", (1, (2,)), {1, 2}, frozenset({1}), {"a": {1: [2]}}, {(1, 2): 3},
        datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 1, 12), datetime.timedelta(1), 1j,
    ],
)  # fmt: skip
def test_values_survive_the_way_in_and_back(pool, value):
    returned = pool.run(ECHO, "f", [value])
    assert (type(returned), returned) == (type(value), value)


def test_imports_constants_and_keywords_are_found(pool):
    text = "def f(a, *, b):\n    return [m.floor(a), count(b), LIMIT]\n"
    around = {"imports": {"m": "math", "count": "collections:Counter"}, "constants": {"LIMIT": 3}}
    assert pool.run(text, "f", [1.5], {"b": "aa"}, **around) == [1, {"a": 2}, 3]


def test_an_exception_comes_back_with_its_place_and_what_was_printed(pool):
    with pytest.raises(KeyError, match="'k'") as raised:
        pool.run("def f(d):\n    print('seen')\n    return d['k']\n", "f", [{}])
    assert raised.value.trace_adapters_place == (3, "    return d['k']")
    assert raised.value.trace_adapters_stdout == "seen\n"


def test_what_monty_lacks_is_explained(pool):
    with pytest.raises(NotImplementedError, match=r"yield.*a subset of Python"):
        pool.run("def f():\n    yield 1\n", "f")
    with pytest.raises(ModuleNotFoundError, match=r"'string'.*of the standard library only"):
        pool.run("def f():\n    import string\n", "f")


def test_every_listed_module_is_there(pool):
    text = "".join(f"import {name}\n" for name in MODULES) + ECHO
    assert pool.run(text, "f", [1]) == 1
    check_portable(text)


def test_code_may_call_what_uses_declares(pool):
    assert pool.run("def f(x):\n    return ask(x, n=2)\n", "f", ["a"], uses={"ask": lambda x, n: x * n}) == "aa"


def test_an_error_of_the_host_is_the_same_object(pool):
    error = LookupError("gone")

    def ask() -> None:
        raise error

    with pytest.raises(LookupError) as raised:
        pool.run("def f():\n    return ask()\n", "f", uses={"ask": ask})
    assert raised.value is error
    text = "def f():\n    try:\n        ask()\n    except LookupError as e:\n        return str(e)\n"
    assert pool.run(text, "f", uses={"ask": ask}) == "gone"


def test_code_cannot_go_on_after_the_budget_is_spent(pool):
    def ask() -> None:
        raise BudgetExceeded("spent")

    text = "def f():\n    try:\n        ask()\n    except BaseException:\n        return 'on'\n"
    with pytest.raises(BudgetExceeded):
        pool.run(text, "f", uses={"ask": ask})


def test_code_cannot_call_the_host_without_end(pool):
    text = "def f():\n    while True:\n        try: ask()\n        except BaseException: return 1\n"
    with pytest.raises(SandboxError, match="more than 1000 times"):
        pool.run(text, "f", uses={"ask": lambda: 1})


def test_async_code_awaits_the_host_in_its_loop(pool):
    async def ask(x):
        await asyncio.sleep(0)
        return x + 1

    text = "async def f(x):\n    return await ask(x)\n"
    assert asyncio.run(pool.arun(text, "f", [1], uses={"ask": ask})) == 2


def test_state_lives_in_a_source_and_time_limits_end_it(pool):
    text = "kept = []\ndef f(x):\n    kept.append(x)\n    while x > 1:\n        pass\n    return len(kept)\n"
    assert [pool.run(text, "f", [1]), pool.run(text, "f", [1])] == [1, 2]
    with pytest.raises(SandboxTimeout):
        pool.run(text, "f", [2], timeout_s=1.0)
    assert pool.run(text, "f", [1], timeout_s=1.0) == 1


def test_objects_are_not_lent(pool):
    with pytest.raises(SandboxError, match="cannot be lent to Monty"):
        pool.run(ECHO, "f", [object()])
    assert pool.run(ECHO, "f", [1]) == 1


def test_threads_share_a_small_pool():
    with SandboxPool(2, sandbox="monty") as pool, ThreadPoolExecutor(6) as threads:
        texts = [f"def f(x):\n    return x + {n % 3}\n" for n in range(12)]
        assert list(threads.map(lambda text: pool.run(text, "f", [1]), texts)) == [1, 2, 3] * 4


def test_methods_see_plain_attributes_and_what_they_use():
    class Agent(ta.Module):
        def __init__(self) -> None:
            self.mark = "!"

        def call_llm(self, text):
            return f"said {text}"

        def answer(self, text):
            """Answer."""
            return self.call_llm(text)

    learned = LearnedFunction(Agent.answer, uses={"call_llm": Agent.call_llm}, sandbox="monty")
    text = "def answer(self, text):\n    return self.call_llm(text) + self.mark\n"
    assert learned.call(text, [Agent(), "it"], {}, bound=True) == "said it!"


async def test_an_async_method_gives_what_it_returns():
    """A coroutine that nobody awaited came back as text."""

    class Agent(ta.Module):
        def __init__(self) -> None:
            self.factor = 3

        @ta.bundle(trainable=True, sandbox="monty")
        async def scale(self, x):
            """Scale."""
            return x

    agent = Agent()
    agent.scale.parameter.data = "async def scale(self, x):\n    return x * self.factor\n"
    assert (await agent.scale(2)).data == 6


_FORKING = """
    import gc, os, sys
    from trace_adapters import sandbox
    from trace_adapters.errors import SandboxUnavailable

    text = "def f(x):\\n    return x\\n"
    def refused():
        try:
            sandbox.run(text, "f", [1], sandbox="monty")
        except SandboxUnavailable as error:
            sys.exit("spawn" not in str(error))
        sys.exit("it ran")
    assert sandbox.run(text, "f", [1], sandbox="monty") == 1
    child = os.fork()
    if child == 0:
        gc.collect()
        {child}
    assert os.waitpid(child, 0)[1] == 0
    assert sandbox.run(text, "f", [2], sandbox="monty") == 2
    sandbox.default_pool("monty").close()
    print("closed", flush=True)
"""
_CHILDREN = {
    "ends at once": "os._exit(0)",
    "ends as a program does": "sys.exit(0)",
    "ends its own pool": 'sandbox.default_pool("monty").close(); os._exit(0)',
    "wants to use it": "refused()",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("child", _CHILDREN)
def test_a_fork_leaves_the_process_of_the_parent_alone(child):
    """What a forked process frees was once freed for its parent too, which then waited at its exit for ever."""
    script = textwrap.dedent(_FORKING).format(child=_CHILDREN[child])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_ctrl_c_does_not_reach_the_process():
    """A terminal sends it to the whole group; the program waits for the run in flight, which must not look crashed."""
    script = """
        import os, signal
        from trace_adapters import sandbox

        def press():
            try:
                os.killpg(0, signal.SIGINT)
                signal.pause()
            except KeyboardInterrupt:
                return "pressed"

        print(sandbox.run("def f():\\n    return press()\\n", "f", uses={"press": press}, sandbox="monty"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert done.stdout == "pressed\n", done.stderr
