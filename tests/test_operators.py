"""What operators on nodes promise."""

from __future__ import annotations

import pytest

import trace_adapters as ta
from trace_adapters.errors import ExecutionError


def test_arithmetic_is_recorded():
    """Operators give nodes whose inputs are the operands, on both sides."""
    x = ta.node(5, name="x", trainable=True)
    assert [(x * 2 + 1).data, (2 - x).data, (x**2).data, (-x).data, abs(ta.node(-3)).data] == [
        11,
        -3,
        25,
        -5,
        3,
    ]
    assert round(ta.node(2.567), 1).data == 2.6
    assert (x * 2 + 1).parents[0].parents[0] is x


def test_comparison_traces_but_equality_is_plain():
    """`<` and `.eq` give nodes; `==` gives a bool."""
    x = ta.node(5)
    assert (x < 6).data is True
    assert x.eq(5).data is True
    assert (x == 5) is True


def test_any_method_of_the_value_is_recorded():
    """Methods are not a hand-written list."""
    x = ta.node("Hello World", name="x", trainable=True)
    assert x.startswith("Hello").data is True
    assert x.swapcase().data == "hELLO wORLD"
    assert x.split(" ")[1].data == "World"
    assert x.split(" ").operation.name == "split"


def test_iteration_and_unpacking_keep_the_history():
    """Items of a node lead back to it."""
    pair = ta.node([1, 2], name="pair", trainable=True)
    first, second = pair
    assert (first + second).data == 3
    assert ta.propagate(first + second, "x").parameters == [pair]
    assert len(pair) == 2
    assert 2 in pair


def test_format_fills_a_template_and_traces():
    """`.format` leads back to the template and the fields."""
    template, who = ta.node("Hi {who}", name="t", trainable=True), ta.node("you", name="who", trainable=True)
    text = template.format(who=who)
    assert text.data == "Hi you"
    assert {p.key for p in ta.propagate(text, "x").parameters} == {"t", "who"}


def test_a_failing_operator_raises_with_its_node():
    """The exception carries the failed call, and through it the parameters."""
    x = ta.node(0, name="x", trainable=True)
    with pytest.raises(ExecutionError) as caught:
        1 / x
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert ta.propagate(caught.value.node, "never divide by 0").parameters == [x]


@pytest.mark.parametrize("change", [lambda x: x.append("b"), lambda x: x.__setitem__(0, "b"), lambda x: x.pop()])
def test_the_value_of_a_parameter_is_set_and_never_changed_in_place(change):
    """A change would be in no candidate."""
    x = ta.node(["a"], name="x", trainable=True)
    with pytest.raises(TypeError, match=r"changes the value of the parameter 'x' in place; set its `\.data` instead"):
        change(x)
    assert x.data == ["a"]
