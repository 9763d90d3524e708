"""How plain programs are run: also those that are async, or that end the process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

import trace_adapters as ta
from trace_adapters.extend import record_calls
from trace_adapters.targets import Run


class Doubler(ta.Module):
    def __init__(self) -> None:
        self.factor = ta.node(3, name="factor", trainable=True)

    @ta.bundle()
    async def multiply(self, factor: int, q: int) -> int:
        """Multiply them."""
        await asyncio.sleep(0)
        return factor * q

    async def forward(self, q: int) -> Any:
        if q < 0:
            raise ValueError(f"got {q}")
        return await self.multiply(self.factor, q)


def right(example: Any, output: Any) -> float:
    return float(output == 2 * example["q"])


def test_an_async_program_is_awaited() -> None:
    run = ta.wrap(Doubler()).run({"factor": 2}, {"q": 4})
    assert (run.output, run.error) == (8, None)
    assert ta.propagate(run.node, 1.0).candidate == {"factor": 2}


def test_an_async_program_that_fails_is_a_failed_run() -> None:
    run = ta.wrap(Doubler()).run({}, {"q": -1})
    assert isinstance(run.error, ValueError)


async def test_an_async_program_runs_where_a_loop_runs_already() -> None:
    assert ta.wrap(Doubler()).run({"factor": 2}, {"q": 4}).output == 8


async def test_an_async_program_is_optimized(tmp_path: Path) -> None:
    """As in a notebook: a loop is running in the thread that calls."""
    result = ta.optimize(
        Doubler(),
        [{"q": 1}, {"q": 2}],
        right,
        lm=ta.ScriptedLM(lambda messages: '<value name="factor">\n2\n</value>'),
        store=tmp_path / "t.db",
        workers=2,
        progress=False,
    )
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert (await result.program(3)).data == 6


async def test_an_async_function_keeps_its_values_until_it_ends() -> None:
    factor = ta.node(3, name="factor", trainable=True)

    async def double(q: int) -> Any:
        await asyncio.sleep(0)
        return factor * q

    target = ta.wrap(double, parameters=[factor])
    assert target.run({"factor": 2}, {"q": 4}).output == 8
    assert (await target.with_values({"factor": 2})(q=4)).data == 8


def leave(q: int) -> None:
    sys.exit(f"bad input {q}")


def test_a_program_that_ends_the_process_has_failed(tmp_path: Path) -> None:
    n = ta.node(1, name="n", trainable=True)
    target = ta.wrap(leave, parameters=[n])
    run = target.run({}, {"q": 4})
    assert isinstance(run.error, SystemExit)
    assert "SystemExit: bad input 4" in target.judge(right, {"q": 4}, run).text
    result = ta.optimize(
        target, [{"q": 1}], right, lm=ta.ScriptedLM(lambda messages: ""), store=tmp_path / "t.db", max_steps=1
    )
    assert [trial.error for trial in result.study.trials()] == ["SystemExit: bad input 1"]


def test_ctrl_c_in_a_program_passes() -> None:
    def interrupted(q: int) -> Run:
        raise KeyboardInterrupt

    target = ta.wrap(interrupted, parameters=[ta.node(1, name="n", trainable=True)])
    with pytest.raises(KeyboardInterrupt):
        target.run({}, {"q": 4})


def test_parameters_outside_of_a_program_are_in_its_learned_copy() -> None:
    """What `wrap(program, parameters=[...])` names beside the program's own is learned, so the copy has it."""
    start = ta.node("a", name="start", trainable=True)

    @ta.bundle
    def join(q: str) -> str:
        """Put the start before it."""
        return str(start.data + q)

    class Joiner(ta.Module):
        def __init__(self) -> None:
            self.end = ta.node("z", name="end", trainable=True)

        def forward(self, q: str) -> Any:
            return join(q) + self.end

    class AsyncJoiner(Joiner):
        async def forward(self, q: str) -> Any:
            await asyncio.sleep(0)
            return join(q) + self.end

    assert ta.wrap(join, parameters=[start]).with_values({"start": "b"})("q").data == "bq"
    joiner = Joiner()
    target = ta.wrap(joiner, parameters=[start, joiner.end])
    assert target.run({"start": "b", "end": "y"}, {"q": "q"}).output == "bqy"
    assert target.with_values({"start": "b", "end": "y"})("q").data == "bqy"
    learned = ta.wrap(AsyncJoiner(), parameters=[start]).with_values({"start": "b"})
    assert asyncio.run(learned("q")).data == "bqz"
    assert (start.data, joiner.end.data) == ("a", "z")


@pytest.mark.parametrize(
    ("example", "says"),
    [({"question": "1", "answer": "2"}, r"needs 'q', .* only \['question', 'answer'\]"), ({}, "needs 'q'")],
)
def test_an_example_without_an_argument_of_the_program_is_no_failure_of_the_candidate(
    example: Any, says: str, tmp_path: Path
) -> None:
    """It is told before a study is made, and no budget is spent on it."""
    with pytest.raises(ta.DataError, match=says):
        ta.optimize(
            Doubler(), [{"q": 1}], right, valset=[example], lm=ta.ScriptedLM([]), store=tmp_path / "t.db", study="s"
        )
    assert not (tmp_path / "t.db").exists()


def test_a_program_that_names_no_argument_cannot_take_a_mapping() -> None:
    """`**kwargs` alone would get nothing, or the expected answer too."""
    n = ta.node(1, name="n", trainable=True)
    for program in (lambda **inputs: inputs, lambda *inputs: inputs, lambda q, /: q, len):
        target = ta.wrap(program, parameters=[n])
        with pytest.raises(ta.DataError, match="takes no argument by name"):
            target.check_example({"q": 1})
        target.check_example(([1], 1))
    ta.wrap(lambda: n.data, parameters=[n]).check_example({"q": 1})
    named = ta.wrap(lambda q, **options: (q, options), parameters=[n])
    named.check_example({"q": 1, "answer": 2})
    assert named.run({}, {"q": 1, "answer": 2}).output == (1, {})


def test_an_output_that_python_cannot_print_ends_no_optimization(tmp_path: Path) -> None:
    """Python refuses to write the digits of a very long int."""
    n = ta.node(5_000, name="n", trainable=True)
    target = ta.wrap(lambda q: [10**n.data], parameters=[n])
    lm = ta.ScriptedLM(lambda messages: '<value name="n">6000</value>')
    result = ta.optimize(
        target, [{"q": 1}], lambda e, o: 0.5, lm=lm, store=tmp_path / "t.db", max_steps=1, progress=False
    )
    assert [record.output_form for record in result.study.evaluations()] == ["repr"] * 3
    assert ta.OptoPrime([n], lm=lm).propose([ta.propagate(n * 1, "wrong")], n=1) == [{"n": 6000}]


@pytest.mark.parametrize("error", [ta.StoreError("disk full"), ta.BudgetExceeded("tokens")])
def test_what_a_listener_to_model_calls_raises_is_no_fault_of_the_program(error: Exception) -> None:
    """As when a call cannot be written down: the program is not scored 0 for it."""

    class Asking(ta.Module):
        def __init__(self) -> None:
            self.prompt = ta.node("Say", name="prompt", trainable=True)

        def forward(self, q: str) -> Any:
            return ta.ScriptedLM(["yes"])(f"{self.prompt.data} {q}")[0].text

    def listen(call: Any) -> None:
        raise error

    with record_calls(listen), pytest.raises(type(error), match=str(error)):
        ta.wrap(Asking()).run({}, {"q": "it"})
