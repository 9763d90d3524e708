"""TextGrad asks about every call that leads to a parameter, and changes all parameters together or none."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

import trace_adapters as ta
from trace_adapters.errors import BudgetExceeded, ExecutionError, ModelError, SettingError
from trace_adapters.lm import CallRecord, ScriptedLM, count_tokens, record_calls
from trace_adapters.nodes import Node, Operation, Parameter
from trace_adapters.optimizers.base import Optimizer, Outcome
from trace_adapters.testing.conformance import check_optimizer
from trace_adapters.testing.openai_server import OpenAIServer
from trace_adapters.traces import Feedback, TraceGraph, propagate


@ta.bundle
def answer(template, count):
    """Fill the template."""
    return template * count


@ta.bundle
def ask(prompt, text):
    """Ask the model."""
    return f"the reply to {prompt!r} and {text!r}"


@pytest.fixture
def template() -> Parameter:
    return Parameter("a", "template", "What is repeated.")


@pytest.fixture
def count() -> Parameter:
    return Parameter(2, "count", constraint="at most 9")


@pytest.fixture
def trace(template: Parameter, count: Parameter) -> TraceGraph:
    return propagate(answer(template, count), Feedback(0.0, "Expected 'bbb'."))


def text_of(messages: Any) -> str:
    return "\n".join(str(message["content"]) for message in messages)


def is_update(messages: Any) -> bool:
    return "Reply in exactly this form" in text_of(messages)


def name_in(text: str) -> str:
    """The parameter that is asked for."""
    return text.partition("Reply in exactly")[2].partition('name="')[2].partition('"')[0]


def model(said: str = "Longer.", /, **values: Any) -> ScriptedLM:
    """Says one thing of every value, and gives every parameter that is asked for its new value."""

    def reply(messages: Any, sample_index: int) -> str:
        if not is_update(messages):
            return said
        name = name_in(text_of(messages))
        value = values[name]
        value = value(sample_index, text_of(messages)) if callable(value) else value
        return f'<reasoning>Because.</reasoning>\n<value name="{name}">{value}</value>'

    return ScriptedLM(reply)


def updates(lm: ScriptedLM) -> list[str]:
    return [text_of(call.messages) for call in lm.calls if is_update(call.messages)]


def questions(lm: ScriptedLM) -> list[str]:
    return [text_of(call.messages) for call in lm.calls if not is_update(call.messages)]


def test_every_parameter_is_asked_for_once(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    lm = model(template="b", count=3)
    optimizer = ta.TextGrad([template, count], lm=lm)
    (proposal,) = optimizer.suggest([trace])
    assert proposal.candidate == {"template": "b", "count": 3}
    assert (proposal.origin, proposal.rejected) == ("textgrad", None)
    assert proposal.reasoning == "template\n- Longer.\nBecause.\n\ncount\n- Longer.\nBecause."
    assert (len(questions(lm)), len(updates(lm))) == (2, 2)
    assert {call.role for call in lm.calls} == {"optimizer"}
    assert proposal.prompt_tokens == sum(count_tokens(call.prompt) for call in lm.calls)
    assert (template.data, count.data) == ("a", 2)
    assert isinstance(optimizer, Optimizer)


def test_the_question_about_a_value(template: Parameter, trace: TraceGraph) -> None:
    lm = model(template="b")
    ta.TextGrad([template], lm=lm, objective="Make it longer.").suggest([trace])
    system, user = (str(message["content"]) for message in lm.calls[0].messages)
    assert "what should change about one value" in system
    assert (
        user
        == """\
Make it longer.

# Variables

## template (text)
What is repeated.
<value name="template">
a
</value>

# Code
answer = answer(template=template, count=count)

# Documentation
- answer: Fill the template.

# Run
## Inputs
count = 2
## Outputs
answer = "aa"
## Feedback
Score: 0
Expected 'bbb'.

# Question
What should change about template?
"""
    )


def test_the_question_for_a_new_value(template: Parameter, trace: TraceGraph) -> None:
    lm = model("Repeat b.", template="b")
    ta.TextGrad([template], lm=lm, constraints=["One letter.", "No digits."]).suggest([trace])
    system, user = (str(message["content"]) for message in lm.calls[-1].messages)
    assert '<value name="template">\nthe whole new value\n</value>' in system
    assert (
        user
        == """\
Change the variables so that the outputs become better according to the feedback.
Every new value must satisfy:
- One letter.
- No digits.

# Variables

## template (text)
What is repeated.
<value name="template">
a
</value>

# Code
answer = answer(template=template, count=count)

# Documentation
- answer: Fill the template.

# Run
## Inputs
count = 2
## Outputs
answer = "aa"
## Feedback
Repeat b.
"""
    )


@pytest.mark.parametrize(("length", "batch"), [(1, 1), (2, 3), (5, 2)])
def test_the_calls_of_a_chain(length: int, batch: int) -> None:
    """(2L - 1)B + L: the edges that lead to a prompt, then the prompts."""
    prompts = [Parameter(f"Prompt {number}.", f"p{number}") for number in range(length)]
    runs = [functools.reduce(lambda made, p: ask(p, made), prompts, ta.node(f"q{n}")) for n in range(batch)]
    lm = model(**{p.key: "New." for p in prompts})
    optimizer = ta.TextGrad(prompts, lm=lm)
    optimizer.backward(runs, "wrong")
    assert optimizer.step() == {p.key: "New." for p in prompts}
    assert (len(questions(lm)), len(updates(lm))) == ((2 * length - 1) * batch, length)


def test_a_later_question_is_about_what_was_said_before() -> None:
    """What was said of the second reply's input becomes the feedback on the first reply."""
    one, two = Parameter("One.", "one"), Parameter("Two.", "two")
    output = ask(two, ask(one, ta.node("What?", name="question")))
    lm = ScriptedLM(lambda messages: f"Said {text_of(messages).rpartition('about ')[2]}")
    ta.TextGrad([one, two], lm=lm).suggest([propagate(output, "Wrong.")])
    asked = questions(lm)
    assert [text.rpartition("about ")[2].strip() for text in asked[:3]] == [
        "two?",
        "ask, the result of ask (Ask the model.)?",
        "one?",
    ]
    assert "## Feedback\nSaid ask, the result of ask (Ask the model.)?" in asked[2]
    assert 'question = "What?"' in asked[2]
    assert "What?" not in asked[0].partition("# Run")[0]


def test_calls_of_one_level_run_side_by_side() -> None:
    """Every call of a level waits here for all others of it; the context goes with them."""
    first, second = Parameter("One.", "first_prompt"), Parameter("Two.", "second_prompt")
    place: ContextVar[str] = ContextVar("place", default="elsewhere")
    meetings = {"last": threading.Barrier(8), "middle": threading.Barrier(4), "update": threading.Barrier(2)}
    places = []

    def reply(messages: Any) -> str:
        text = text_of(messages)
        kind = "update" if is_update(messages) else "last" if "second_prompt" in text else "middle"
        meetings[kind].wait(timeout=20)
        places.append(place.get())
        return f'<value name="{name_in(text)}">New.</value>' if kind == "update" else "Change it."

    traces = [propagate(ask(second, ask(first, ta.node(f"q{n}"))), "wrong") for n in range(4)]
    place.set("here")
    calls: list[CallRecord] = []
    with record_calls(calls.append):
        ta.TextGrad([first, second], lm=ScriptedLM(reply), workers=8).suggest(traces)
    assert places == ["here"] * (8 + 4 + 2)
    assert len(calls) == len(places)


def test_the_same_thing_said_twice_is_shown_once(template: Parameter) -> None:
    traces = [propagate(answer(template, n), "wrong") for n in (2, 3, 4)]
    lm = ScriptedLM(lambda messages: "Odd." if 'answer = "aaa"' in text_of(messages) else "Longer.")
    ta.TextGrad([template], lm=lm).suggest(traces)
    assert [updates(lm)[0].count(f"## Feedback\n{said}") for said in ("Longer.", "Odd.")] == [1, 1]


def test_workers_change_nothing(trace: TraceGraph, template: Parameter, count: Parameter) -> None:
    found = [
        ta.TextGrad([template, count], lm=model(template="b", count=4), workers=workers).suggest([trace] * 3)
        for workers in (1, 8)
    ]
    assert found[0] == found[1]


def failed(bundle: Callable[..., Any], *args: Any) -> Node:
    with pytest.raises(ExecutionError) as caught:
        bundle(*args)
    assert caught.value.node is not None
    return caught.value.node


def test_text_code_and_number_are_learned_together() -> None:
    """A crash in learned code is feedback for all that led to it; values come back in their kind."""

    @ta.bundle(trainable=True, trust="in-process")
    def read(response, width):
        """Read the answer."""
        return response.split("Answer:")[1][:width]

    width = Parameter(3, "width")
    prompt = Parameter("Answer.", "prompt")
    node = failed(read, ask(prompt, "2+2"), width)
    good = "def read(response, width):\n    return response[-width:]\n"
    lm = model("Do not crash.", read=f"```python\n{good}```", width="4", prompt="Say 'Answer: '.")
    optimizer = ta.TextGrad([prompt, width, *read.parameters()], lm=lm)
    optimizer.backward(node, "The program failed.")
    assert optimizer.step() == {"read": good, "width": 4, "prompt": "Say 'Answer: '."}
    assert type(width.data) is int
    assert read("abcd", 2).data == "cd"
    (about_code,) = [text for text in questions(lm) if text.endswith("about read?\n")]
    assert "# <--- IndexError: list index out of range" in about_code
    assert "read_2 = raised IndexError" in about_code


def test_a_failed_call_in_the_middle_has_a_gradient_too() -> None:
    """What was said of the call that took the exception is asked about the call that raised it."""

    @ta.bundle(trainable=True, trust="in-process")
    def read(response):
        return response.split("Answer:")[1]

    mix = Node("no answer", None, "", Operation("recover"), ("result",), (failed(read, "4"),))
    lm = model("Do not crash.", read="def read(response):\n    return response")
    (proposal,) = ta.TextGrad(read.parameters(), lm=lm).suggest([propagate(mix, "No answer.")])
    assert proposal.candidate is not None
    assert [text.rpartition("about ")[2] for text in questions(lm)] == ["read, the result of read?\n", "read?\n"]
    assert ["# Variables" in text for text in questions(lm)] == [False, True]


def test_a_program_without_any_model_is_trained() -> None:
    x = ta.node(50, name="x", trainable=True, constraint="integer in [15, 90]")
    optimizer = ta.TextGrad([x], lm=model("Larger.", x=60))
    y = x * 2 + 1
    optimizer.backward(y, "should be larger")
    assert optimizer.step() == {"x": 60}
    assert x.data == 60


def test_one_bad_reply_changes_nothing_and_says_why(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    """It is asked for once more, with the reason; then the whole proposal is rejected, and the next prompt shows it."""
    lm = model(template="b", count="many")
    optimizer = ta.TextGrad([template, count], lm=lm)
    optimizer.backward(answer(template, count), "Not yet.")
    with pytest.warns(UserWarning, match="textgrad was not used: count: Expected a number alone, got 'many'"):
        assert optimizer.step() == {}
    assert (template.data, count.data) == ("a", 2)
    assert len(updates(lm)) == 3
    remark = "could not be used: count: Expected a number alone, got 'many'."
    assert [name_in(text) for text in updates(lm) if remark in text] == ["count"]
    with pytest.warns(UserWarning, match="was not used"):
        optimizer.step()
    shown = {name_in(text): text for text in updates(lm)[3:]}
    assert "Reason: count: Expected a number alone" in shown["count"]
    assert "Reason:" not in shown["template"]


def test_a_reply_that_is_right_the_second_time_is_used(template: Parameter, trace: TraceGraph) -> None:
    replies = iter(["Longer.", "I cannot.", '<value name="template">b</value>'])
    lm = ScriptedLM(lambda messages: next(replies))
    (proposal,) = ta.TextGrad([template], lm=lm).suggest([trace])
    assert proposal.candidate == {"template": "b", "count": 2}
    assert "could not be used: The reply has no <value name=" in text_of(lm.calls[-1].messages)


def test_a_parameter_that_stays_does_not_hinder_the_others(
    template: Parameter, count: Parameter, trace: TraceGraph
) -> None:
    """Its value given again is no mistake; if all are, there is no proposal."""
    (proposal,) = ta.TextGrad([template, count], lm=model(template="a", count=3)).suggest([trace])
    assert proposal.candidate == {"template": "a", "count": 3}
    (proposal,) = ta.TextGrad([template, count], lm=model(template="a", count=2)).suggest([trace])
    assert (proposal.candidate, proposal.rejected) == (
        None,
        "The replies change nothing: every new value equals the current one.",
    )


def test_parameters_without_feedback_are_not_asked_for(template: Parameter, count: Parameter) -> None:
    elsewhere = Parameter("x", "elsewhere")
    lm = model(template="b")
    (proposal,) = ta.TextGrad([template, elsewhere], lm=lm).suggest([propagate(answer(template, 2), "Longer.")])
    assert proposal.candidate == {"template": "b", "elsewhere": "x"}
    lm = ScriptedLM([])
    (proposal,) = ta.TextGrad([elsewhere], lm=lm).suggest([propagate(answer(template, count), "Longer.")])
    assert proposal.rejected == "No feedback reached a parameter of ['elsewhere']."
    (proposal,) = ta.TextGrad([template], lm=lm).suggest([propagate(answer(template, count), Feedback(None, ""))])
    assert proposal.candidate is None


def test_several_samples_share_the_gradients(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    """The i-th proposal is made of the i-th samples; two alike count once."""
    lm = model(
        template=lambda index, _: f"t{min(index, 7)}",
        count=lambda index, text: 5 if "could not be used" in text else "x" if index == 5 else min(index, 7),
    )
    optimizer = ta.TextGrad([template, count], lm=lm)
    proposals = optimizer.suggest([trace], n=4, seed=1)
    assert [p.candidate for p in proposals if p.candidate] == [{"template": f"t{i}", "count": i} for i in (4, 5, 6, 7)]
    assert (len(questions(lm)), len(updates(lm))) == (2, 3)
    assert sorted(call.sample_index for call in lm.calls) == [1, 1, 4, 4, 5]
    alike = optimizer.suggest([trace], n=3, seed=3)
    assert [p.candidate is None for p in alike] == [False, True, True]
    assert alike[1].rejected == "These values are the same as those of another sample of this step."


def test_the_memory_of_a_parameter_holds_its_own_past(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    lm = model(template="c", count=5)
    optimizer = ta.TextGrad([template, count], lm=lm)
    optimizer.tell(Outcome({"template": "b", "count": 2}, "textgrad", 0.25, False, "no better"))
    optimizer.suggest([trace])
    for_template, for_count = sorted(updates(lm), key=lambda text: "## count (" in text)
    assert '## Tried: score 0.25, not kept\n<value name="template">\nb\n</value>' in for_template
    assert "Past attempts" not in for_count
    lm = model(template="b", count=2)
    optimizer = ta.TextGrad([template, count], lm=lm)
    optimizer.tell(Outcome({"template": "b", "count": 2}, "textgrad", 0.25, False, "no better"))
    (proposal,) = optimizer.suggest([trace])
    assert proposal.rejected == "These values were tried before, with score 0.25."


def refuse_braces(value: str) -> None:
    if "{" in value:
        raise ta.ParameterError("no braces, please; " * 60)


@pytest.mark.parametrize("limit", [1_300, 2_500])
def test_prompts_keep_to_the_budget_and_values_stay_whole(limit: int) -> None:
    """Long inputs, outputs and feedback are cut; the parameter never is."""
    prompt = Parameter("Stay whole. " * 20, "prompt")
    runs = [propagate(ask(prompt, "long text " * 4_000), "said " * 3_000 + str(n)) for n in range(4)]
    lm = model("much to say " * 300, prompt=lambda index, text: "New." if "could not be used" in text else "{" * 900)
    prompt.check = refuse_braces
    (proposal,) = ta.TextGrad([prompt], lm=lm, max_prompt_tokens=limit).suggest(runs)
    assert proposal.candidate == {"prompt": "New."}
    assert len(updates(lm)) == 2
    for call in lm.calls:
        assert sum(count_tokens(str(message["content"])) for message in call.messages) <= limit
        assert "Stay whole. " * 19 in text_of(call.messages)


def test_a_value_that_cannot_fit_is_told_before_anything_is_asked() -> None:
    prompt = Parameter("Too long. " * 2_000, "prompt")
    lm = ScriptedLM([])
    with pytest.raises(SettingError, match="raise max_prompt_tokens"):
        ta.TextGrad([prompt], lm=lm, max_prompt_tokens=1_000).suggest([propagate(ask(prompt, "q"), "wrong")])
    assert lm.calls == []


class ChatModel:
    """A chat model of another library."""

    def __init__(self, reply: Callable[[Any], str]) -> None:
        self.reply = reply

    def invoke(self, messages: Any, **options: Any) -> str:
        return self.reply(messages)


def reply_to(messages: Any) -> str:
    text = messages if isinstance(messages, str) else text_of(messages)
    return '<value name="template">b</value>' if "Reply in exactly" in text else "Longer."


@pytest.mark.parametrize("seam", ["function", "as_lm", "chat model", "server", "client", "async client"])
def test_every_kind_of_model_will_do(seam: str, template: Parameter, trace: TraceGraph) -> None:
    with OpenAIServer(lambda request: reply_to(request.messages)) as server:
        lm: Any
        if seam == "function":
            lm = lambda prompt: reply_to(prompt)  # noqa: E731
        elif seam == "as_lm":
            lm = ta.as_lm(lambda messages: reply_to(messages), name="mine")
        elif seam == "chat model":
            lm = ChatModel(reply_to)
        elif seam == "server":
            lm = ta.LM("stub", base_url=server.base_url, api_key="k")
        else:
            openai = pytest.importorskip("openai")
            kind = openai.OpenAI if seam == "client" else openai.AsyncOpenAI
            lm = ta.as_lm(kind(base_url=server.base_url, api_key="k"), name="stub")
        (proposal,) = ta.TextGrad([template], lm=lm).suggest([trace, trace])
    assert proposal.candidate == {"template": "b", "count": 2}


@pytest.mark.parametrize("error", [ModelError("no server"), BudgetExceeded("tokens")])
def test_what_ends_a_run_reaches_the_caller(template: Parameter, error: Exception) -> None:
    def fail(messages: Any) -> str:
        time.sleep(0.1)
        raise error

    traces = [propagate(ask(template, f"q{n}"), "wrong") for n in range(200)]
    lm = ScriptedLM(fail)
    with pytest.raises(type(error), match=str(error)):
        ta.TextGrad([template], lm=lm, workers=2).suggest(traces)
    assert len(lm.calls) < 200


def test_a_small_model_is_asked_for_a_little_with_a_grammar() -> None:
    """Of a text it writes sentences, in the place of the present ones or beside them; replies are short."""
    template = Parameter("Answer the question.\nQuestion: {question}", "template")
    width = Parameter(3, "width")

    @ta.bundle
    def run(template, width, question):
        return template.format(question=question)[:width]

    def reply(messages: Any, options: Any) -> str:
        if "grammar" not in options:
            return "Be exact."
        name = "template" if 'name="template"' in text_of(messages) else "width"
        return f'<value name="{name}">\n{"Think first." if name == "template" else 4}\n</value>'

    lm = ScriptedLM(reply, profile="small", supports_grammar=True)
    optimizer = ta.TextGrad([template, width], lm=lm)
    trace = propagate(run(template, width, ta.node("2+2")), "wrong")
    found = [optimizer.suggest([trace], seed=seed)[0].candidate for seed in (0, 1)]
    assert found == [
        {"template": "Answer the question.\nThink first.\nQuestion: {question}", "width": 4},
        {"template": "Think first.\nQuestion: {question}", "width": 4},
    ]
    assert [dict(call.options).get("max_tokens", 0) <= 600 for call in lm.calls] == [True] * 8
    assert {call.options["max_tokens"] for call in lm.calls if "grammar" not in call.options} == {200}


@pytest.mark.parametrize(
    "options",
    [{"lm": None}, {"memory_size": -1}, {"max_prompt_tokens": 0}, {"workers": 0}, {"workers": 1.5}, {"profile": "x"}],
)
def test_options_that_cannot_work_are_refused(template: Parameter, options: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        ta.TextGrad([template], **{"lm": ScriptedLM([]), **options})


def test_lists_of_demonstrations_are_left_alone(template: Parameter, trace: TraceGraph) -> None:
    demos = Parameter([], "demos", kind="demos")
    with pytest.raises(SettingError, match="at least one trainable"):
        ta.TextGrad([demos], lm=ScriptedLM([]))
    assert ta.TextGrad([demos, template], lm=ScriptedLM([])).parameters == [template]
    with pytest.raises(SettingError, match="at least one judged trace"):
        ta.TextGrad([template], lm=ScriptedLM([])).suggest([])


def test_textgrad_keeps_the_promises_of_an_optimizer(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    def make() -> ta.TextGrad:
        return ta.TextGrad([template, count], lm=model(template=lambda index, _: f"t{index}", count=3))

    check_optimizer(make, [trace], {"template": "a", "count": 2, "elsewhere": [1]})
