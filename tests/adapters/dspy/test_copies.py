"""A copy of a program is independent of it, and holds what cannot be copied together with it."""

from __future__ import annotations

import json
import threading
from typing import Any

import dspy
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad


class Client:
    """A connection, such as a retriever has: cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def look_up(self, name: str) -> str:
        """Look a name up."""
        return f"what is known of {name}"


class Step(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.answer = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


class Steps(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.steps = [Step(), Step()]
        self.notes: list[str] = []


def test_parts_beside_what_cannot_be_copied_are_copied() -> None:
    program = Steps()
    before = program.dump_state()
    twin = tad.apply(program, {"steps.0.answer.instructions": "Be brief."})
    assert program.dump_state() == before
    assert tad.parameters(twin)["steps.0.answer.instructions"].data == "Be brief."
    assert twin.steps[0].client is program.steps[0].client
    assert twin.steps[1].answer is not program.steps[1].answer
    assert twin.notes is not program.notes


def test_one_predictor_under_two_names_stays_one() -> None:
    program = Step()
    program.again = [program.answer]
    twin = tad.apply(program, {"answer.instructions": "Be brief."})
    assert twin.again[0] is twin.answer
    assert twin.answer is not program.answer


def test_copies_beside_what_cannot_be_copied_ask_the_same_models(scripted: Any) -> None:
    program = Step()
    program.judge = scripted(lambda prompt: {})
    program.set_lm(scripted(lambda prompt: {}))
    twin = tad.apply(program, {})
    assert twin.get_lm() is program.get_lm()
    assert twin.judge is program.judge


def test_methods_of_the_program_are_tools_of_the_copy(scripted: Any) -> None:
    """A tool that calls the program's own predictors must call those of the copy."""

    class Agent(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.client = Client()
            self.summarize = dspy.Predict("text -> summary")
            self.react = dspy.ReAct("question -> answer", tools=[self.look_up])

        def look_up(self, name: str) -> str:
            """Look a name up."""
            return str(self.summarize(text=self.client.look_up(name)).summary)

    twin = tad.apply(Agent(), {"summarize.instructions": "Be brief."})
    lm = scripted(lambda prompt: {"summary": "short"})
    with dspy.context(lm=lm):
        assert twin.react.tools["look_up"](name="Ada") == "short"
    assert "Be brief." in lm.script.prompts[0]


def test_what_a_closure_holds_is_not_taken_for_the_copys(scripted: Any, caplog: Any) -> None:
    """DSPy copies no closures: the one in a copy still calls the predictors of the program as it came."""

    class Enclosing(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.held = dspy.Predict("question -> answer")
            self.own = dspy.Predict("question -> answer")
            self.ask = lambda question: self.held(question=question).answer

        def forward(self, question: str) -> Any:
            return self.own(question=self.ask(question))

    example = dspy.Example(question="6 * 7?").with_inputs("question")
    lm = scripted(lambda prompt: {"answer": "it is forty-two"})
    changed = {"held.instructions": "Be brief.", "own.instructions": "Be brief."}
    with dspy.context(lm=lm):
        target = tad.DspyTarget(Enclosing())
        reached = [
            {parameter.key for parameter in ta.propagate(target.run(candidate, example).node, "x").parameters}
            for candidate in ({}, changed, changed)
        ]
    assert reached == [{"held.instructions", "own.instructions"}, {"own.instructions"}, {"own.instructions"}]
    assert "Be brief." not in lm.script.prompts[2]
    [warning] = [record.message for record in caplog.records if record.name.startswith("trace_adapters")]
    assert "Enclosing" in warning
    assert ", held, ran with the instructions that it came with" in warning


def test_a_file_that_does_not_fit_leaves_parts_beside_a_client_alone(tmp_path: Any) -> None:
    saved = Steps()
    saved.steps[0].answer.predict.demos = [dspy.Example(question="q", answer="a")]
    state = {**saved.dump_state(), "steps[1].answer.predict": {}}
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(state, default=dict))
    program = Steps()
    with pytest.raises(ta.ParameterError):
        tad.load(program, path)
    assert program.steps[0].answer.predict.demos == []


def test_what_refuses_to_be_copied_is_named() -> None:
    class Single(dspy.Module):  # type: ignore[misc]
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("there is only one")

    with pytest.raises(ta.AdapterError, match=r"Single.*there is only one"):
        tad.apply(Single(), {})
