"""`Text` and `Function` are DSPy parameters, and behave like the text and the function that they hold."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
from typing import Any

import cloudpickle
import dspy
import pydantic
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad

LEARNED = "def shout(text, mark='!'):\n    return text.upper() + mark + mark"


def shout(text: str, mark: str = "!") -> str:
    """Say it loudly."""
    return text.upper() + mark


async def wait_and_shout(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()


def ask(text: str) -> str:
    return f"asked {text}"


def first(prediction: Any, example: Any, model: Any) -> Any:
    return prediction


class Model(pydantic.BaseModel):
    name: str


class Program(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.template = tad.Text("Say {what}.")
        self.shout = tad.Function(shout)

    def forward(self, what: str) -> Any:
        return dspy.Prediction(answer=self.shout(self.template.format(what=what)))


class TestText:
    def test_is_used_like_a_string(self) -> None:
        text = tad.Text("Say {what}.")
        assert str(text) == "Say {what}."
        assert f"<{text}>" == "<Say {what}.>"
        assert text.format(what="it") == "Say it."
        assert text == "Say {what}."
        assert text == tad.Text("Say {what}.")
        assert text != "something else"

    def test_a_new_value_keeps_the_fields(self) -> None:
        text = tad.Text("Say {what}.")
        text.value = "{what}! {{sic}}"
        assert text.format(what="it") == "it! {sic}"
        with pytest.raises(ta.ParameterError, match=r"lost \{what\}"):
            text.value = "Say it."
        with pytest.raises(ta.ParameterError, match=r"unknown fields \{who\}"):
            text.value = "{who} says {what}"
        with pytest.raises(ta.ParameterError, match="cannot be read"):
            text.value = "Say {what"
        assert text.value == "{what}! {{sic}}"

    @pytest.mark.parametrize(
        "value",
        ["{what.__class__} {what}", "{what[0]} {what}", "{what!r}", "{what:>1000000000}", "{what} {what:{what}}"],
    )
    def test_a_new_value_does_no_more_with_a_field(self, value: str) -> None:
        text = tad.Text("Say {what}.")
        with pytest.raises(ta.ParameterError, match=r"\{what[\[.!:]"):
            text.value = value
        declared = tad.Text("Say {what}.", fields=["what"])
        with pytest.raises(ta.ParameterError, match=r"\{what[\[.!:]"):
            declared.value = value

    def test_what_the_first_value_does_with_a_field_stays_allowed(self) -> None:
        text = tad.Text("Say {what:>3} {what!r} {user.name}.")
        text.value = "{user.name}: {what!r} or {what:>3} or {what}"
        with pytest.raises(ta.ParameterError, match=r"\{what:>4\}"):
            text.value = "{user.name}: {what:>4}"
        with pytest.raises(ta.ParameterError, match=r"lost \{user.name\}"):
            text.value = "{what}"

    def test_fields_without_names_get_no_power(self) -> None:
        text = tad.Text("Say {} and {0!r}.")
        text.value = 'Say {} and {"a": 1} {0!r}.'
        for value in ("Say {:>1000000000}", "{0.__class__}"):
            with pytest.raises(ta.ParameterError, match="does more"):
                text.value = value
        json = tad.Text("{a:1} {b}", fields=())
        json.value = "{a:9} {b!r} {"
        assert str(json) == "{a:9} {b!r} {"

    def test_a_reply_is_refused_with_one_reason(self) -> None:
        program = Program()
        (template,) = [p for p in tad.parameters(program).values() if p.kind == "text"]
        lm = ta.ScriptedLM([f'<value name="{template.key}">Say it.</value>'])
        (proposal,) = ta.OptoPrime([template], lm=lm).suggest([ta.propagate(template + "!", 0.0)])
        assert (proposal.rejected or "").count("{what}") == 2
        assert "template lost {what}; keep every field: {what}." in (proposal.rejected or "")

    @pytest.mark.parametrize("value", ['Answer as JSON: {"answer": 1}', "a { b", "Answer briefly."])
    def test_braces_that_are_no_fields_are_free_text(self, value: str) -> None:
        text = tad.Text(value)
        text.value = "Answer in full."
        assert text.value == "Answer in full."

    @pytest.mark.parametrize("value", ['{"a":1} {q}', '{"a": {q}}', "{q} { b", "{q} {two words}"])
    def test_fields_among_other_braces_are_refused(self, value: str) -> None:
        with pytest.raises(ta.ParameterError, match=r"\{q\}.*Write braces that are no field twice.*fields=\(\)"):
            tad.Text(value)
        assert tad.Text(value, fields=()) == value

    @pytest.mark.parametrize("value", ["{} {q}", "{0} {q}", "{q.real} {q}", "{q[0]} {q}", "{{a}} {q!r:>9}"])
    def test_every_kind_of_field_may_stand_beside_others(self, value: str) -> None:
        assert tad.Text(value) == value

    def test_declared_fields_are_required_of_the_first_value_too(self) -> None:
        with pytest.raises(ta.ParameterError, match="question"):
            tad.Text("Say it.", fields=["question"])

    @pytest.mark.parametrize("value", [None, 3, "  "])
    def test_what_is_no_text_is_refused(self, value: Any) -> None:
        with pytest.raises(ta.ParameterError):
            tad.Text("Say it.").value = value


class TestFunction:
    def test_a_decorator_that_would_be_lost_is_refused(self) -> None:
        with pytest.raises(ta.CodeError, match="is decorated"):
            tad.Function(functools.lru_cache(shout))

    def test_the_first_argument_may_be_called_self(self) -> None:
        def double(self: str) -> Any:
            return self * 2

        function = tad.Function(double)
        function.source = "def double(self):\n    return [self] * 2\n"
        assert function("a") == ["a", "a"]

    def test_behaves_like_the_function(self) -> None:
        function = tad.Function(shout)
        assert function("hello") == "HELLO!"
        assert function("hello", mark="?") == "HELLO?"
        assert function.__name__ == "shout"
        assert function.__doc__ == "Say it loudly."
        assert list(function.__signature__.parameters) == ["text", "mark"]

    def test_a_new_source_is_checked_and_runs_in_the_sandbox(self) -> None:
        function = tad.Function(shout)
        function.source = LEARNED
        assert function("hello") == "HELLO!!"
        with pytest.raises(ta.CodeError):
            function.source = "def whisper(text, mark='!'):\n    return text"
        with pytest.raises(ta.CodeError):
            function.source = "def shout(text"
        assert function.source == LEARNED

    def test_trust_in_process(self) -> None:
        function = tad.Function(shout, trust="in-process")
        function.source = LEARNED
        assert function("hello") == "HELLO!!"

    def test_a_learned_source_may_call_what_it_uses(self) -> None:
        function = tad.Function(shout, uses=[ask])
        function.source = "def shout(text, mark='!'):\n    return ask(text) + mark"
        assert function("hello") == "asked hello!"

    async def test_async_functions(self) -> None:
        function = tad.Function(wait_and_shout)
        assert await function("hello") == "HELLO"
        function.source = "async def wait_and_shout(text):\n    return text.upper() + '!'"
        assert await function("hello") == "HELLO!"

    @pytest.mark.parametrize("function", [lambda x: x, len, print])
    def test_source_that_cannot_be_read_is_refused(self, function: Any) -> None:
        with pytest.raises(ta.CodeError):
            tad.Function(function)

    def test_methods_are_refused(self) -> None:
        with pytest.raises(ta.AdapterError, match="method"):
            tad.Function(Program().forward)

    def test_copies_are_independent_but_find_their_way_home(self) -> None:
        function = tad.Function(shout)
        twin = copy.deepcopy(function)
        twin.source = LEARNED
        assert function("a") == "A!"
        assert twin.stage == function.stage

    def test_as_tool_has_the_functions_arguments(self) -> None:
        function = tad.Function(shout)
        tool = function.as_tool()
        assert tool.name == "shout"
        assert set(tool.args) == {"text", "mark"}
        assert "loudly" in tool.desc
        function.source = LEARNED
        assert tool(text="hello", mark="?") == "HELLO??"


class TestState:
    def test_they_are_parameters_of_the_module(self) -> None:
        assert [name for name, _ in Program().named_parameters()] == ["template", "shout"]
        assert Program().named_predictors() == []

    def test_save_and_load(self, tmp_path: Any) -> None:
        program = Program()
        program.template.value = "{what}, please."
        program.save(str(tmp_path / "program.json"))
        fresh = Program()
        fresh.load(str(tmp_path / "program.json"))
        assert fresh(what="it").answer == "IT, PLEASE.!"

    def test_loaded_code_does_not_run_without_consent(self, tmp_path: Any) -> None:
        program = Program()
        program.shout.source = LEARNED
        program.save(str(tmp_path / "program.json"))
        fresh = Program()
        fresh.load(str(tmp_path / "program.json"))
        assert fresh.shout.source == LEARNED
        with pytest.raises(ta.UntrustedCode, match=r"trust\(\)"):
            fresh(what="it")
        with pytest.raises(ta.UntrustedCode):
            fresh.deepcopy()(what="it")
        fresh.shout.trust()
        assert fresh(what="it").answer == "SAY IT.!!"

    def test_predictions_and_models_travel_into_the_sandbox(self) -> None:
        function = tad.Function(first)
        function.source = (
            "def first(prediction, example, model):\n"
            "    prediction.answer = prediction.answer + example['question'] + model.name\n    return prediction\n"
        )
        prediction = dspy.Prediction(answer="a", score=0.5)
        returned = function(prediction, dspy.Example(question="q").with_inputs("question"), Model(name="m"))
        assert isinstance(returned, dspy.Prediction)
        assert dict(returned.items()) == {"answer": "aqm", "score": 0.5}
        assert prediction.answer == "a"

    def test_a_file_with_code_that_does_not_fit_is_refused(self, tmp_path: Any) -> None:
        path = tmp_path / "program.json"
        Program().save(str(path))
        state = json.loads(path.read_text())
        state["shout"]["source"] = "import os; os.abort()"
        path.write_text(json.dumps(state))
        with pytest.raises(ta.CodeError):
            Program().load(str(path))

    def test_reset_keeps_what_was_learned(self) -> None:
        program = Program()
        program.shout.source = LEARNED
        program.template.value = "{what}?"
        copied = program.reset_copy()
        assert (copied.shout.source, copied.template.value) == (LEARNED, "{what}?")

    def test_deepcopy_and_cloudpickle(self) -> None:
        program = Program()
        program.shout.source = LEARNED
        for twin in (program.deepcopy(), cloudpickle.loads(cloudpickle.dumps(program))):
            assert twin(what="it").answer == "SAY IT.!!"
            twin.template.value = "{what}"
            assert program.template == "Say {what}."
