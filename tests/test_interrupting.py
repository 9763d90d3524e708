"""Ctrl-C ends a run soon, says what it waits for, and loses nothing that was recorded."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from trace_adapters.study import Store
from trace_adapters.threads import threads

ROOT = Path(__file__).parents[1]
WAIT_S = 60  # for what takes a moment on an idle machine
RUN = """
    import json, os, sys, time
    from pathlib import Path
    import trace_adapters as ta

    here, held = Path(sys.argv[1]), sys.argv[2] == "held"

    class Held(ta.Module):
        def __init__(self):
            self.k = ta.node(1, name="k", trainable=True)

        def forward(self, q):
            if held and q in (2, 3):
                os.write(1, b"in flight\\n")
                while not (here / "go on").exists():
                    time.sleep(0.01)
                if q == 3:
                    raise RuntimeError("as if Ctrl-C had ended a process of the program's")
            return self.k * q

    examples = [{"q": n} for n in range(6)]
    result = ta.optimize(
        Held(), examples, lambda example, output: 0.5, lm=ta.ScriptedLM(lambda messages: "no change"), workers=2,
        store=f"sqlite:///{here / 'study.db'}", study="held", resume=True, max_steps=1,
    )
    print(json.dumps([result.stopped, result.study.fingerprint()]), flush=True)
"""


@contextmanager
def _program(here: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN), str(here), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that started the tests in the background has them, and all they start, ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _first_ctrl_c(process: subprocess.Popen[str]) -> None:
    """Press it when two runs are in flight, and read what is said to that."""
    assert [process.stdout.readline() for _ in range(2)] == ["in flight\n"] * 2
    process.send_signal(signal.SIGINT)
    said = next(line for line in iter(process.stderr.readline, "") if "Ctrl-C" in line)
    assert "2 runs in flight" in said


def _recorded(here: Path) -> list[str]:
    with Store.open(here / "study.db") as store:
        return [record.example_id for record in store.load_study("held").evaluations()]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_first_ctrl_c_waits_for_the_runs_in_flight_and_says_so(tmp_path):
    """What they give is kept; what fails in them is not, as Ctrl-C may be why; a resumed run ends as any other."""
    with _program(tmp_path, "held") as process:
        _first_ctrl_c(process)
        (tmp_path / "go on").touch()
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert json.loads(out)[0] == "interrupted"
    assert _recorded(tmp_path) == ["0", "1", "2"]
    whole = tmp_path / "whole"
    whole.mkdir()
    ends = []
    for here in (tmp_path, whole):
        with _program(here, "free") as process:
            out, err = process.communicate(timeout=WAIT_S)
        ends.append(json.loads(out))
    assert ends[0] == ends[1], err


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_second_ctrl_c_leaves_at_once(tmp_path):
    """The runs in flight never end here; what was recorded before is there."""
    with _program(tmp_path, "held") as process:
        _first_ctrl_c(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert _recorded(tmp_path) == ["0", "1"]


def test_threads_give_results_and_errors_in_order():
    with threads(3) as pool:
        assert list(pool.map(lambda n: n * n, range(50))) == [n * n for n in range(50)]
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()
        assert pool.submit(lambda: 1).result() == 1
    with pytest.raises(RuntimeError, match="ended"):
        pool.submit(print)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems refuse the size itself")
def test_as_many_threads_do_the_work_as_the_machine_gives():
    with threads(8) as pool:
        assert pool.submit(int).result() == 0
        before = threading.stack_size(2**52)  # more than there are addresses
        try:
            with pytest.raises(RuntimeError, match="new thread"):
                threading.Thread(target=int).start()
            assert list(pool.map(lambda n: n * n, range(50))) == [n * n for n in range(50)]
        finally:
            threading.stack_size(before)


def test_threads_drop_what_has_not_begun_when_the_block_fails():
    begun, ending = threading.Event(), threading.Event()
    jobs = []

    def first() -> str:
        begun.set()
        assert ending.wait(WAIT_S)
        return "done"

    def fail(pool) -> None:
        jobs.extend([pool.submit(first), pool.submit(print)])
        assert begun.wait(WAIT_S)
        jobs[1].add_done_callback(lambda _: ending.set())
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"), threads(1) as pool:
        fail(pool)
    assert jobs[0].result() == "done"
    assert jobs[1].cancelled()
