"""The sandbox that is asked for is the one that runs code, or nothing runs; the study says which it was."""

from __future__ import annotations

import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Barrier, BrokenBarrierError

import pytest
from typer.testing import CliRunner

import trace_adapters as ta
from trace_adapters.cli.app import app
from trace_adapters.confining import levels
from trace_adapters.errors import CodeError, SandboxUnavailable, SettingError
from trace_adapters.extend import SandboxPool, choosing_sandbox, noting_levels
from trace_adapters.learned import LearnedFunction
from trace_adapters.sandbox import pool as pools, processes, starting, workers
from trace_adapters.sandbox.portable import CONSTRAINT
from trace_adapters.targets import wrap

FULL = workers.FULL_LEVEL
WEAK = "rlimits"


def double(x):
    """Double a number."""
    return x + x


REPLY = 'Three times.\n<value name="double">\ndef double(x):\n    return 3 * x\n</value>'
LEARNED = "def double(x):\n    return 2 * x\n"


@pytest.fixture
def weak_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose workers say that only resource limits hold."""
    real = processes.Worker.level
    monkeypatch.setattr(processes.Worker, "level", property(lambda worker: real.fget(worker) and WEAK))
    monkeypatch.setattr(pools, "_default", {})
    monkeypatch.setattr(workers, "_warned", set())


def learned_level(**options: str) -> set[str]:
    seen = set()
    with noting_levels(lambda _function, level: seen.add(level)):
        assert LearnedFunction(double, **options).call(LEARNED, [21], {}) == 42
    return seen


def test_a_function_chooses_before_what_is_around_it():
    with choosing_sandbox("strict"):
        assert learned_level(trust="in-process") == {"in-process"}
        if (level := pools.default_pool().level()).endswith(FULL):
            assert learned_level() == {level}


def test_the_original_source_runs_here_and_says_nothing():
    seen = []
    with noting_levels(lambda *note: seen.append(note)):
        LearnedFunction(double).call(LearnedFunction(double).source.text, [1], {})
    assert seen == []


@pytest.mark.parametrize("make", [LearnedFunction, lambda f, **o: ta.bundle(trainable=True, **o)(f)])
def test_an_unknown_sandbox_is_refused(make):
    with pytest.raises(SettingError, match="'auto', 'strict', 'bwrap', 'monty'"):
        make(double, sandbox="jail")


def test_one_cannot_ask_for_a_sandbox_and_for_none():
    with pytest.raises(SettingError, match="in no sandbox"):
        LearnedFunction(double, trust="in-process", sandbox="strict")


def test_a_weak_machine_is_warned_of_once(weak_machine):
    with pytest.warns(RuntimeWarning, match="confined by 'rlimits' only"):
        assert learned_level() == {WEAK}
    with warnings.catch_warnings(), SandboxPool() as another:
        warnings.simplefilter("error")
        assert another.level() == WEAK


def test_strict_runs_nothing_on_a_weak_machine(weak_machine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SandboxUnavailable, match=r"asks for 'seccomp\+landlock'.*by 'rlimits' only"):
            learned_level(sandbox="strict")


def test_bubblewrap_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(starting.shutil, "which", lambda name: None)
    with SandboxPool(sandbox="bwrap") as pool, pytest.raises(SandboxUnavailable, match="install the package"):
        pool.level()


def test_bubblewrap_that_cannot_work_is_said(monkeypatch):
    monkeypatch.setattr(starting.shutil, "which", lambda name: "/bin/false")
    with SandboxPool(sandbox="bwrap") as pool, pytest.raises(SandboxUnavailable, match="user namespaces"):
        pool.level()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_bubblewrap_shows_no_files_of_the_user(tmp_path):
    with SandboxPool(sandbox="bwrap") as pool:
        try:
            assert pool.level() == f"bwrap+{FULL}"
        except SandboxUnavailable as error:
            pytest.skip(str(error))
        text = "import os\ndef f(paths):\n    return [os.path.exists(path) for path in paths]\n"
        assert pool.run(text, "f", [[str(tmp_path), "/etc/passwd", "/proc", "/var"]]) == [False] * 4


def test_monty_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    with SandboxPool(sandbox="monty") as pool, pytest.raises(SandboxUnavailable, match=r"trace-adapters\[monty\]"):
        pool.level()


def test_the_optimizer_is_told_what_monty_lacks():
    function = ta.bundle(trainable=True, sandbox="monty")(double)
    assert function.parameters()[0].constraint.endswith(CONSTRAINT)
    assert CONSTRAINT not in ta.bundle(trainable=True)(double).parameters()[0].constraint


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("    yield x\n", "`yield`"),
        ("    del x\n", "`del`"),
        ("    import string\n    return x\n", "module 'string'"),
        ("    class A(list): pass\n    return x\n", "'A' that inherits"),
    ],
)
def test_a_source_that_monty_cannot_run_is_refused_with_the_reason(body, what):
    with pytest.raises(CodeError, match=f"Line 2 uses .*{what}"):
        LearnedFunction(double, sandbox="monty").check("def double(x):\n" + body)


def test_a_machine_without_the_sandbox_is_no_fault_of_a_candidate(weak_machine):
    program = ta.bundle(trainable=True, sandbox="strict")(double)
    with pytest.raises(SandboxUnavailable):
        wrap(program).run({"double": LEARNED}, (1, 2))


def _optimize(store: str, **options: object) -> ta.Store:
    program = ta.bundle(trainable=True)(double)
    result = ta.optimize(
        program,
        [(1, 3), (2, 6)],
        lambda example, output: float(output == example[1]),
        lm=ta.ScriptedLM(lambda _messages: REPLY),
        store=store,
        study="triple",
        budget=40,
        max_steps=1,
        progress=False,
        **options,
    )
    return result.study


def test_a_study_records_what_confined_its_code(tmp_path):
    store = f"sqlite:///{tmp_path / 's.db'}"
    study = _optimize(store, workers=2)
    level = pools.default_pool().level()
    assert levels(study) == [level]
    assert study.events("sandbox")[0].payload == {"level": level, "asked": None, "function": "double"}
    shown = CliRunner().invoke(app, ["show", "triple", "--store", store])
    assert f"learned code ran in: {level}" in shown.output


def test_a_study_asks_for_its_sandbox_before_it_starts(tmp_path, weak_machine):
    with pytest.raises(SandboxUnavailable):
        _optimize(f"sqlite:///{tmp_path / 's.db'}", sandbox="strict")
    assert not (tmp_path / "s.db").exists()


def test_a_study_without_code_needs_no_sandbox(tmp_path, weak_machine):
    number = ta.node(1, name="number", trainable=True)
    result = ta.optimize(
        wrap(lambda x: number.data * x, parameters=[number]), [(1, 1)], lambda example, output: output == example[1],
        lm=ta.ScriptedLM([]), store=tmp_path / "s.db", sandbox="strict", progress=False,
    )  # fmt: skip
    assert result.best.score == 1.0


def test_monty_is_chosen_by_functions(tmp_path):
    with pytest.raises(SettingError, match="each function must ask"):
        _optimize(f"sqlite:///{tmp_path / 's.db'}", sandbox="monty")


def test_a_pool_makes_room_for_the_calls_that_run_side_by_side():
    pool = SandboxPool(max_workers=1)
    with pool, pool.room_for(3):
        text = "def f(n):\n    return ask(n)\n"
        together = Barrier(3, timeout=30)

        def ask(n):
            together.wait()
            return n

        with ThreadPoolExecutor(3) as threads:
            done = list(threads.map(lambda n: pool.run(text, "f", [n], uses={"ask": ask}), range(3)))
        assert done == [0, 1, 2]
        assert pool._count == 3
    assert pool._count <= 1


def test_room_ends_with_the_last_block_that_asked_for_it():
    """Studies that overlap end in any order; the pool kept the room of the second for ever."""
    pool = SandboxPool(max_workers=1)
    together = Barrier(2, timeout=1)

    def ask(n):
        with suppress(BrokenBarrierError):
            together.wait()
            met.append(n)
        return n

    met = []
    first, second = ExitStack(), ExitStack()
    with pool, ThreadPoolExecutor(2) as threads:
        first.enter_context(pool.room_for(3))
        second.enter_context(pool.room_for(2))
        first.close()
        second.close()
        text = "def f(n):\n    return ask(n)\n"
        assert list(threads.map(lambda n: pool.run(text, "f", [n], uses={"ask": ask}), range(2))) == [0, 1]
    assert met == []


OFF = {
    "namespace": "import trace_adapters.sandbox.namespaces as n; n.show_only = lambda *a: False\n",
    "landlock": "import trace_adapters.sandbox.landlock as l; l.allow_only_reading = lambda *a: False\n",
    "seccomp": "import trace_adapters.sandbox.seccomp as s; s.allow_only_computing = lambda *a: False\n",
}
ALL = ("namespace", "seccomp", "landlock")


@pytest.mark.parametrize(
    "missing", [{"landlock"}, {"seccomp"}, {"namespace", "landlock"}, {"namespace", "seccomp"}, {*ALL}]
)
def test_a_worker_says_what_the_kernel_lacks(monkeypatch, missing):
    with SandboxPool() as pool:
        there = pool.level().split("+")
    start = "from trace_adapters.sandbox.worker import main"
    without = starting._BOOT.replace(start, "".join(OFF[name] for name in sorted(missing)) + start)
    monkeypatch.setattr(starting, "_BOOT", without)
    monkeypatch.setattr(workers, "_warned", set())
    expected = "+".join(name for name in ALL if name in there and name not in missing) or "rlimits"
    with SandboxPool() as pool, pytest.warns(RuntimeWarning, match="confined by"):
        assert pool.level() == expected
    with SandboxPool(sandbox="strict") as pool, pytest.raises(SandboxUnavailable, match="strict"):
        pool.run(LEARNED, "double", [1])
