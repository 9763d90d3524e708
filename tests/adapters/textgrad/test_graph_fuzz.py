"""Programs of random operations, held against what they really did."""

from __future__ import annotations

import itertools
from typing import Any

import textgrad as tg
from hypothesis import given, settings, strategies as st
from textgrad.autograd import FormattedLLMCall, LLMCall, StringBasedFunction

import trace_adapters as ta
import trace_adapters_textgrad as tat
from trace_adapters_textgrad.shims import EngineLM

OPERATIONS = ("llm", "formatted", "function", "sum", "add", "aggregate")
JOINS = {"sum": "\n", "aggregate": "\n", "add": ""}
Inputs = dict[str, Any]


class Program:
    """Makes Variables by random operations and remembers what went into each."""

    def __init__(self, draw: Any, *, unique: bool) -> None:
        self.draw = draw
        self.count = itertools.count()
        self.unique = unique
        self.made: dict[Any, tuple[str, Inputs]] = {}
        self.known = [self.leaf(trained) for trained in draw(st.lists(st.booleans(), min_size=2, max_size=5))]

    def value(self) -> str:
        number = next(self.count)
        return f"<{number}>" if self.unique else f"<{number % 2}>"

    def leaf(self, trained: bool) -> Any:
        value = self.value()
        role = f"leaf {value}" if self.unique else "leaf"
        return tg.Variable(value, requires_grad=trained, role_description=role)

    def engine(self) -> Any:
        program = self

        class Engine(EngineLM):  # type: ignore[misc]
            def generate(self, content: Any, system_prompt: Any = None) -> str:
                return program.value()

            __call__ = generate

        return Engine()

    def grow(self) -> Any:
        operation = self.draw(st.sampled_from(OPERATIONS))
        chosen = self.draw(st.lists(st.sampled_from(self.known), min_size=2, max_size=4))
        named: Inputs = {f"input_{number}": variable for number, variable in enumerate(chosen, 1)}
        if operation == "llm":
            output = LLMCall(self.engine(), chosen[0])(chosen[1])
            named = {"prompt": chosen[1], "system_prompt": chosen[0]}
        elif operation == "formatted":
            fields = [f"field {letter}" for letter in "abc"[: len(chosen) - 1]]
            template = "Texts: " + " and ".join(f"{{{field}}}" for field in fields)
            inputs = dict(zip(fields, chosen[1:], strict=False))
            call = FormattedLLMCall(self.engine(), template, dict.fromkeys(fields), chosen[0])
            output = call(inputs=inputs)
            named = {name.replace(" ", "_"): value for name, value in inputs.items()} | {"system_prompt": chosen[0]}
        elif operation == "function":
            named = {f"x{number}": variable for number, variable in enumerate(chosen)}
            output = StringBasedFunction(lambda **_: self.value(), "does something")(inputs=dict(named))
        elif operation == "add":
            output = chosen[0] + chosen[1]
            named = {"input_1": chosen[0], "input_2": chosen[1]}
        else:
            output = tg.sum(chosen) if operation == "sum" else tg.aggregate(chosen)
        self.made[output] = (operation, named)
        self.known.append(output)
        return output

    def led(self, variable: Any) -> bool:
        """Whether a trained leaf went in."""
        if variable not in self.made:
            return bool(variable.requires_grad)
        return any(self.led(source) for source in self.made[variable][1].values())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_operation_of_a_random_program_is_recovered(data: Any) -> None:
    """Names, order and values of the inputs, down to the leaves, pruned to what some trained leaf reaches."""
    program = Program(data.draw, unique=True)
    for _ in range(data.draw(st.integers(1, 8))):
        output = program.grow()
    waiting = [(output, tat.to_node(output))]
    while waiting:
        variable, node = waiting.pop()
        assert node.data == variable.value
        if not program.led(variable) or variable not in program.made:
            assert node.is_root
            assert isinstance(node, ta.Parameter) == program.led(variable)
            continue
        operation, expected = program.made[variable]
        values = {name: source.value for name, source in expected.items()}
        found = {name: source.data for name, source in node.inputs.items()}
        if operation in JOINS:  # a sum of sums can sometimes be read in two ways
            assert JOINS[operation].join(found.values()) == variable.value
            assert set(found.values()) == set(values.values())
        else:
            assert found == values
            waiting += [(source, node.inputs[name]) for name, source in expected.items()]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equal_values_change_no_edge_count(data: Any) -> None:
    """Where values tell nothing apart, every call still has its arguments, and values are those that were used."""
    program = Program(data.draw, unique=False)
    for _ in range(data.draw(st.integers(1, 8))):
        output = program.grow()
    node = tat.to_node(output)
    if program.led(output):
        expected = program.made[output][1]
        assert sorted(source.value for source in expected.values()) == sorted(s.data for s in node.inputs.values())
        assert len(ta.propagate(node, "x")) > 0
    assert node.data == output.value
