"""The prompt of a large trace: whatever the trace, the budget holds and what matters is there."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings, strategies as st

from trace_adapters.bundles import bundle
from trace_adapters.errors import ExecutionError
from trace_adapters.nodes import Node, Parameter, node
from trace_adapters.operators import format as format_text
from trace_adapters.optimizers.report import write_report
from trace_adapters.traces import Feedback, TraceGraph, propagate

BUDGET = 8_000
STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "use", "fail", "gather", "add"]), st.integers(0, 10**6)), max_size=120
)


@bundle
def join(state, text):
    """Put a text behind another."""
    return f"{state}{text}"[-5_000:]


@bundle
def fail(state, number):
    """Fails always."""
    raise ValueError(f"no {number}")


@bundle
def gather(*parts):
    """Take many."""
    return "".join(map(str, parts))[-5_000:]


def random_trace(
    steps: list[tuple[str, int]], parameters: list[Parameter], repeat: int
) -> tuple[TraceGraph, list[Node]]:
    states: list[Node] = [node("start", name="start")]
    failed: list[Node] = []
    for kind, number in steps * repeat:
        state, parameter = states[number % len(states)], parameters[number % len(parameters)]
        if kind == "join":
            states.append(join(state, node("text " * (number % 2_000), name="document")))
        elif kind == "use":
            states.append(format_text("{} {}", state, parameter))
        elif kind == "add":
            states.append(state + "!")
        elif kind == "gather":
            states.append(gather(*states[-(number % 40) - 1 :]))
        else:
            try:
                fail(parameter, number)
            except ExecutionError as error:
                failed.append(error.node)
    output = gather(*parameters, *states[-5:], *failed)
    return propagate(output, Feedback(0.0, "It should be shorter. " * 20)), failed


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, count=st.integers(1, 8), repeat=st.sampled_from([1, 1, 5]))
def test_the_budget_holds_and_nothing_that_matters_is_lost(steps, count, repeat):
    """Every parameter whole, the feedback, every failing call."""
    parameters = [Parameter(f"value {n} " * 30, f"p{n}") for n in range(count)]
    trace, failed = random_trace(steps, parameters, repeat)
    found = write_report([trace], parameters, {p.key: p.data for p in parameters}, max_tokens=BUDGET)
    assert found.tokens <= BUDGET
    assert all(parameter.data in found.text for parameter in parameters)
    assert ("It should be shorter. " * 20).strip() in found.text
    shown = re.findall(r"^(fail\w*) = fail\(.*# raises$", found.text, re.MULTILINE)
    folded = re.findall(r"^# … (\d+) more calls of fail that raised", found.text, re.MULTILINE)
    assert len(shown) + sum(map(int, folded)) == len(failed)


@pytest.mark.parametrize("count", [10, 1_000, 10_000])
def test_a_chain_fits_whatever_its_length(count):
    """A thousand calls cost the original 35,592 tokens."""
    x = Parameter(0, "x")
    y: Node = x
    for _ in range(count):
        y = y + 1
    found = write_report([propagate(y, Feedback(0.0, "larger"))], [x], {"x": 0}, max_tokens=BUDGET)
    assert found.tokens < 400
    assert "add = add(x=x, y=1)" in found.text
    assert f"add_{count} = add(x=add_{count - 1}, y=1)" in found.text


def test_a_fan_in_of_ten_thousand_fits():
    """A call with many arguments shows its first, its last, its failed and its trainable ones."""
    x = Parameter(0, "x")
    total = bundle(lambda *numbers: sum(numbers), name="total")
    y = total(*[x + n for n in range(5_000)], x)
    found = write_report([propagate(y, Feedback(0.0, "larger"))], [x], {"x": 0}, max_tokens=BUDGET)
    assert re.search(r"… 49\d\d more …", found.text)
    assert found.tokens < 1_000


def test_many_inputs_fit():
    """Inputs of one name are folded."""
    x = Parameter("p", "x")
    y = gather(x, *[node(f"document {n}", name="document") for n in range(5_000)])
    found = write_report([propagate(y, Feedback(0.0, "larger"))], [x], {"x": "p"}, max_tokens=BUDGET)
    assert "more inputs document" in found.text
    assert found.tokens < BUDGET / 2


def test_the_failing_rounds_of_a_loop_are_shown():
    """With what went into them; the rounds between are folded."""
    x = Parameter("p", "x")
    risky = bundle(lambda prompt, number: 1 // (number % 50 - 7), name="risky")
    step = bundle(lambda prompt, number: number + 1, name="step")
    number: Node = node(0)
    failed: list[Node] = []
    for _ in range(200):
        number = step(x, number)
        try:
            risky(x, number)
        except ExecutionError as error:
            failed.append(error.node)
    trace = propagate(gather(number, *failed), Feedback(0.0, "wrong"))
    found = write_report([trace], [x], {"x": "p"}, max_tokens=BUDGET)
    assert len(failed) == 4
    for place in (7, 57, 107, 157):
        assert f"step_{place} = step(" in found.text
        assert f"number=step_{place})  # raises" in found.text
    assert "more calls of step" in found.text
