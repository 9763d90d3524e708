"""The parameters of a program are found and checked; values go to a copy."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad


def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def look_up(name: str) -> str:
    """Look a name up."""
    return name


class Inner(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.hint = tad.Text("A hint.")
        self.steps = [dspy.ChainOfThought("a -> b"), dspy.Predict("b -> c")]


class Program(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.ChainOfThought("question -> answer")
        self.shout = tad.Function(shout)
        self.inner = Inner()
        self.tools = {"one": tad.Function(look_up)}


KEYS = [
    "predict.instructions",
    "shout",
    "inner.hint",
    "inner.steps.0.instructions",
    "inner.steps.1.instructions",
    "tools.one",
]


def test_keys_are_short_and_in_the_order_of_the_program() -> None:
    assert list(tad.parameters(Program())) == KEYS


def test_a_single_predictor_has_bare_keys() -> None:
    assert list(tad.parameters(dspy.Predict("q -> a"), train=["instructions", "demos"])) == ["instructions", "demos"]
    assert list(tad.parameters(dspy.ChainOfThought("q -> a"))) == ["predict.instructions"]


def test_short_keys_that_would_collide_stay_long() -> None:
    class Both(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.ChainOfThought("q -> a")
            self.other = Inner()
            self.other.predict = dspy.Predict("q -> a")
            self.other.hint = dspy.Predict("q -> a")

    keys = list(tad.parameters(Both()))
    assert len(keys) == len(set(keys)) == 5


def test_globs_choose_and_freeze() -> None:
    assert list(tad.parameters(Program(), include=["inner.*"], freeze=["*.hint"])) == [
        "inner.steps.0.instructions",
        "inner.steps.1.instructions",
    ]
    assert list(tad.parameters(Program(), train=["code"])) == ["shout", "tools.one"]
    with pytest.raises(ta.SettingError, match=r"innner"):
        tad.parameters(Program(), freeze=["innner.*"])
    with pytest.raises(ta.SettingError, match="demos"):
        tad.parameters(Program(), train=["prompts"])


def test_apply_changes_a_copy_only() -> None:
    program = Program()
    before = program.dump_state()
    candidate = {
        "predict.instructions": "Answer in verse.",
        "shout": "def shout(text):\n    return text + '!'",
        "inner.hint": "Another hint.",
        "predict.demos": [{"question": "q", "reasoning": "r", "answer": "a"}],
    }
    better = tad.apply(program, candidate)
    assert program.dump_state() == before
    assert type(better) is Program
    assert better.predict.predict.signature.instructions == "Answer in verse."
    assert better.shout("a") == "a!"
    assert better.inner.hint == "Another hint."
    assert [dict(demo.inputs().items()) for demo in better.predict.predict.demos] == [{"question": "q"}]


def test_instructions_that_were_empty_may_stay_so() -> None:
    class Bare(dspy.Signature):  # type: ignore[misc]
        """"""

        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    program = dspy.Predict(Bare)
    assert tad.parameters(program)["instructions"].data == ""
    assert tad.apply(program, {"instructions": "Be brief."}).signature.instructions == "Be brief."
    assert tad.apply(program, {"instructions": ""}).signature.instructions == ""


def test_apply_without_a_change_leaves_every_byte() -> None:
    program = Program()
    demo = dspy.Example(question="q", answer="a")
    program.predict.predict.demos = [demo]
    same = tad.apply(program, {key: p.data for key, p in tad.parameters(program, ("instructions", "demos")).items()})
    assert same.predict.predict.signature is program.predict.predict.signature
    assert same.dump_state() == program.dump_state()


def test_copies_ask_the_same_model(scripted: Any) -> None:
    program = Program()
    lm = scripted(lambda prompt: {"reasoning": "r", "answer": "a"})
    program.set_lm(lm)
    assert all(predictor.lm is lm for predictor in tad.apply(program, {}).predictors())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("nothing", "x", "no parameter"),
        ("predict.instructions", " ", "instructions"),
        ("predict.instructions", 3, "instructions"),
        ("predict.demos", [{"color": "red"}], "color"),
        ("predict.demos", "a demo", "list"),
        ("shout", "def whisper(text): return text", "shout"),
        ("inner.hint", "", "empty"),
    ],
)
def test_values_that_do_not_fit_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ta.ParameterError, match=message):
        tad.apply(Program(), {key: value})


def test_instructions_of_a_tool_user_keep_the_tools() -> None:
    program = dspy.ReAct("question -> answer", tools=[look_up])
    key = "react.instructions"
    parameter = tad.parameters(program)[key]
    assert "look_up" in parameter.constraint
    with pytest.raises(ta.ParameterError, match="look_up"):
        tad.apply(program, {key: "Use the tools well, then finish."})
    assert tad.apply(program, {key: "Use look_up, then finish."}) is not program


def test_demonstrations_that_are_no_json_are_no_parameter() -> None:
    program = dspy.Predict("q -> a")
    program.demos = [dspy.Example(q=object(), a="x")]
    assert list(tad.parameters(program, ("instructions", "demos"))) == ["instructions"]
    assert tad.apply(program, {"instructions": "New."}).demos[0].a == "x"


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ta.AdapterError, match=r"dspy\.Module"):
        tad.parameters(shout)


def test_values_are_written_also_where_they_are_in_force() -> None:
    """A program in a bundle of a larger one is copied under `ta.using`, with the values that hold there."""
    program, examples = dspy.Predict("question -> answer"), [{"question": "1 + 1?", "answer": "2"}]
    with ta.using({"demos": examples}):
        twin = tad.apply(program, {"demos": examples})
    assert [dict(demo.items()) for demo in twin.demos] == examples
