"""Feedback is carried back along the edges that lead to a parameter, each once, level by level."""

from __future__ import annotations

import functools
import operator
import time
from typing import Any

import pytest

import trace_adapters as ta
from trace_adapters.nodes import FailedCall, Node, Operation, Parameter
from trace_adapters.optimizers.gradients import (
    Gradient,
    feedback_text,
    gradients,
    in_threads,
    join,
    levels,
    one_call,
    only_joins,
)
from trace_adapters.optimizers.report import write_report
from trace_adapters.traces import Feedback, TraceGraph, propagate


@ta.bundle
def ask(prompt, text):
    return f"the reply to {prompt!r} and {text!r}"


@ta.bundle
def judge(text):
    return f"a verdict on {len(text)} letters"


def prompts(count: int) -> list[Parameter]:
    return [Parameter(f"Prompt {number}.", f"p{number}") for number in range(count)]


def chain(parameters: list[Parameter], text: str) -> Node:
    return functools.reduce(lambda made, prompt: ask(prompt, made), parameters, ta.node(text, name="question"))


class Critic:
    """Says of every input which call it is in, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def __call__(self, call: Node, source: Node, said: str) -> str:
        self.asked.append((call.name, source.name, said))
        return f"{source.name} of {call.name} #{len(self.asked)}"


def one_by_one(function: Any, items: Any, /) -> list[Any]:
    return [function(item) for item in items]


def walk(traces: list[TraceGraph], parameters: list[Parameter]) -> tuple[Critic, dict[str, list[str]]]:
    critic = Critic()
    found = gradients(traces, parameters, critic, one_by_one)
    return critic, {parameter.key: [gradient.text for gradient in said] for parameter, said in found.items()}


def test_a_value_that_goes_in_twice_is_asked_about_once() -> None:
    (prompt,) = prompts(1)
    draft = ask(prompt, ta.node("text"))
    critic, _ = walk([propagate(ask(draft, draft), "wrong")], [prompt])
    assert [(call, source) for call, source, _ in critic.asked] == [("ask", "ask"), ("ask", "p0")]


@pytest.mark.parametrize(("length", "batch"), [(1, 1), (1, 4), (3, 2), (8, 3)])
def test_a_chain_costs_two_questions_a_call_but_one_for_the_first(length: int, batch: int) -> None:
    """(2L - 1)B: every call has its prompt, and all but the first the reply before."""
    trained = prompts(length)
    traces = [propagate(chain(trained, f"q{number}"), "wrong") for number in range(batch)]
    critic, found = walk(traces, trained)
    assert len(critic.asked) == (2 * length - 1) * batch
    assert {key: len(said) for key, said in found.items()} == {parameter.key: batch for parameter in trained}


@pytest.mark.parametrize(("length", "batch"), [(1, 1), (3, 2), (8, 3)])
@pytest.mark.parametrize("summed", [True, False])
def test_a_judge_inside_the_program_costs_one_question_a_run_and_a_sum_none(
    length: int, batch: int, summed: bool
) -> None:
    """2LB: what is said of a sum of texts is said of each of them, without a question."""
    trained = prompts(length)
    losses = [judge(chain(trained, "q" * (number + 1))) for number in range(batch)]
    outputs = [functools.reduce(operator.add, losses)] if summed else losses
    critic, _ = walk([propagate(output, "improve") for output in outputs], trained)
    assert len(critic.asked) == 2 * length * batch


def test_only_edges_that_lead_to_a_wanted_parameter_are_asked_about() -> None:
    """Constants, other inputs and other parameters cost nothing, also far from the output."""
    one, two, fixed = *prompts(2), Parameter("x", "fixed", trainable=False)
    aside = ask(fixed, judge(ta.node("context")))
    output = ta.bundle(lambda a, b, c: f"{a!r}{b!r}{c!r}", name="mix")(ask(one, "q"), ask(two, "q"), aside)
    critic, found = walk([propagate(output, "wrong")], [two])
    assert [edge[:2] for edge in critic.asked] == [("mix", "ask"), ("ask", "p1")]
    assert list(found) == ["p1"]


def test_a_chain_of_which_the_last_prompt_trains_costs_one_question() -> None:
    """The replies before it have no part in it."""
    parameters = prompts(5)
    critic, _ = walk([propagate(chain(parameters, "q"), "wrong")], parameters[-1:])
    assert [edge[:2] for edge in critic.asked] == [("ask", "p4")]


def test_what_several_calls_say_of_a_value_is_handed_on_together() -> None:
    """The shared value is asked about once for each use, its own input once."""
    (prompt,) = prompts(1)
    shared = ask(prompt, "q")
    output = ta.bundle(lambda a, b: f"{a!r}{b!r}", name="mix")(judge(shared), shared)
    critic, _ = walk([propagate(output, "wrong")], [prompt])
    assert [edge[:2] for edge in critic.asked] == [
        ("mix", "judge"),
        ("mix", "ask"),
        ("judge", "ask"),
        ("ask", "p0"),
    ]
    assert critic.asked[-1][2] == "- ask of mix #2\n- ask of judge #3"


def test_outputs_of_one_run_are_walked_together() -> None:
    """The call that both depend on is asked about once, with what was said of both."""
    (prompt,) = prompts(1)
    shared = ask(prompt, "q")
    traces = [propagate(judge(shared), "too short"), propagate(shared, Feedback(0.5, "too long"))]
    critic, found = walk(traces, [prompt])
    assert critic.asked == [
        ("judge", "ask", "too short"),
        ("ask", "p0", "- Score: 0.5\ntoo long\n- ask of judge #1"),
    ]
    assert found == {"p0": ["p0 of ask #2"]}


def test_a_parameter_that_is_the_output_gets_the_feedback_itself() -> None:
    (prompt,) = prompts(1)
    critic, found = walk([propagate(prompt, "shorter")], [prompt])
    assert (critic.asked, found) == ([], {"p0": ["shorter"]})


@pytest.mark.parametrize("feedback", [Feedback(None, ""), Feedback(None, " \n")])
def test_no_feedback_is_no_gradient(feedback: Feedback) -> None:
    trained = prompts(2)
    critic, found = walk([propagate(chain(trained, "q"), feedback)], trained)
    assert (critic.asked, found) == ([], {})


def test_a_reply_that_says_nothing_ends_there() -> None:
    """Nothing is asked about what came before, and the parameter has no gradient."""
    trained = prompts(2)
    asked = []

    def silent(call: Node, source: Node, said: str) -> str:
        asked.append(source.name)
        return "" if source.name == "ask" else "better"

    found = gradients([propagate(chain(trained, "q"), "wrong")], trained, silent, one_by_one)
    assert asked == ["p1", "ask"]
    assert {parameter.key for parameter in found} == {"p1"}


def test_two_readings_of_a_parameter_count_as_one() -> None:
    """A parameter that changed between two runs gets what was said of both values."""
    (prompt,) = prompts(1)
    first = propagate(ask(prompt, "q"), "one")
    prompt.data = "Other."
    _, found = walk([first, propagate(ask(prompt, "q"), "two")], [prompt])
    assert found == {"p0": ["p0 of ask #1", "p0 of ask #2"]}


def test_levels_go_by_the_longest_way() -> None:
    """A value that is used early and late is handed on when all has been said of it."""
    (prompt,) = prompts(1)
    shared = ask(prompt, "q")
    output = ta.bundle(lambda a, b: f"{a!r}{b!r}", name="mix")(judge(shared), shared)
    names = [[node.name for node in level] for level in levels(propagate(output, "x").nodes)]
    assert names == [["mix"], ["judge"], ["ask"], ["p0"]]
    near, far = judge(shared), judge(ask(prompt, judge(shared)))
    for inputs in ((near, far), (far, near)):
        output = ta.bundle(lambda a, b: f"{a!r}{b!r}", name="mix")(*inputs)
        found = levels(propagate(output, "x").nodes)
        (place,) = [number for number, level in enumerate(found) if shared in set(level)]
        assert place == 4
    assert levels([]) == []


def test_a_chain_of_thousands_needs_no_recursion() -> None:
    trained = prompts(1)
    longer = ta.bundle(lambda text: f"{text}.", name="longer")
    output = functools.reduce(lambda made, _: longer(made), range(3_000), ask(trained[0], "q"))
    critic, found = walk([propagate(output, "wrong")], trained)
    assert len(critic.asked) == 3_001
    assert list(found) == ["p0"]


TEXTS = (Node("a b"), Node("c"))


@pytest.mark.parametrize(
    ("made", "joins"),
    [
        ("a bc", True),
        ("a b\nc", True),
        ("  a\n b c ", True),
        ("c a b", False),
        ("a b, c", False),
        ("a b", False),
        ("", False),
        (["c", "a b"], True),
        ({"one": "a b", "two": "c", "three": 3}, True),
        ({"one": "a b"}, False),
        (["a b", "d"], False),
        (3, False),
    ],
)
def test_what_only_joins_its_inputs_is_told_by_its_values(made: object, joins: bool) -> None:
    assert only_joins(Node(made, None, "", Operation("f"), ("x", "y"), TEXTS)) is joins


def test_numbers_failures_and_models_join_nothing() -> None:
    """2 + 0 is no text, an exception no value, and a model that repeats its prompt was asked all the same."""
    numbers = (Node(2), Node(0))
    assert not only_joins(Node(2, None, "", Operation("add"), ("x", "y"), numbers))
    assert not only_joins(FailedCall(ValueError("a"), None, "", Operation("f"), ("x",), (Node("a"),)))
    assert not only_joins(Node("a", None, "", Operation("lm", language_model=True), ("x",), (Node("a"),)))
    assert not only_joins(Node("a"))


def test_one_call_is_a_trace_that_can_be_reported() -> None:
    (prompt,) = prompts(1)
    output = chain([prompt], "What?")
    text = write_report([one_call(output, "Be brief.")], [prompt], {"p0": "Prompt 0."}).text
    assert 'question = "What?"' in text
    assert text.endswith("## Feedback\nBe brief.\n")


def test_feedback_and_gradients_as_text() -> None:
    assert feedback_text(Feedback(0.25, "near")) == "Score: 0.25\nnear"
    assert feedback_text(Feedback(1.0)) == "Score: 1"
    said = [Gradient("a", Node(1)), Gradient("b", Node(1)), Gradient("a", Node(2))]
    assert join(said) == "- a\n- b"
    assert join(said[:1]) == "a"


def test_an_error_is_raised_and_what_has_not_begun_is_dropped() -> None:
    done = []

    def work(number: int) -> int:
        if number == 0:
            raise ValueError("first")
        time.sleep(0.05)
        done.append(number)
        return number

    with pytest.raises(ValueError, match="first"), in_threads(2) as each:
        each(work, range(1_000))
    assert len(done) < 999
