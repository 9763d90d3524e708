"""The faults of the original Trace in nodes and their values are not ours."""

from __future__ import annotations

import copy
import functools
import gc
import json
import math
import pickle
import sys
from html import escape

import pytest

import trace_adapters as ta


@ta.bundle(trainable=True, trust="in-process")
def trained(x):
    """Adds."""
    return x + 1


def outcome(call):
    """The failed call of what raises."""
    with pytest.raises(ta.ExecutionError) as caught:
        call()
    return caught.value.node


def test_equal_siblings_are_never_confused():
    """`list.remove` compared values there."""
    p = ta.node(1, name="p", trainable=True)
    one, two = p + 1, p + 1
    assert one == two
    assert len({one, two}) == 2
    graph = ta.propagate(one * 2, "x")
    assert one in set(graph.nodes)
    assert two not in set(graph.nodes)


def test_nodes_of_arrays_compare():
    """ "truth value of an array is ambiguous" there."""

    class Array(list):
        shape = property(len)

        def __eq__(self, other):
            return Elements(a == b for a, b in zip(self, other, strict=False))

        __hash__ = None

    class Elements(list):
        def __bool__(self):
            raise ValueError("The truth value of an array is ambiguous")

        def all(self):
            return all(list(self))

    a, b, c = ta.node(Array([1, 2])), ta.node(Array([1, 2])), ta.node(Array([1, 3]))
    assert a == b
    assert a != c
    assert c in [b, a, c]
    assert a != ta.node(Array([1, 2, 3]))


def test_abs_and_round_end():
    """They recursed for ever there."""
    x = ta.node(-2.567, name="x", trainable=True)
    assert (abs(x).data, round(x).data, round(x, 1).data) == (2.567, -3, -2.6)
    assert (math.floor(x).data, math.ceil(x).data, math.trunc(x).data) == (-3, -2, -2)


def test_conversions_matrix_product_and_index():
    """int(), float(), index and @ were missing."""

    class Matrix:
        def __matmul__(self, other):
            return "product"

    x = ta.node("12", name="x", trainable=True)
    assert (int(x), float(x), [10, 20, 30][ta.node(1)], complex(ta.node(1))) == (12, 12.0, 20, 1 + 0j)
    assert (ta.node(Matrix()) @ 1).data == "product"
    assert [node.data for node in divmod(ta.node(7), 2)] == [3, 1]
    assert pow(ta.node(3), 2, 5).data == 4
    assert ta.bundle(lambda: int(x) + 1)().parents == [x]
    assert outcome(lambda: int(ta.node("a", name="a"))).parents[0].name == "a"
    assert (x.len().data, x.contains("2").data, x.startswith("1").data, "2" in x) == (2, True, True, True)


def test_get_of_a_dict_and_any_other_method():
    """The original knew a list of methods."""
    d = ta.node({"a": 1}, name="d", trainable=True)
    assert (d.get("b", 5).data, [k.data for k in d.keys()], [v.data for v in d.values()]) == (5, ["a"], [1])  # noqa: SIM118
    for key, value in d.items():
        assert (key.data, value.data) == ("a", 1)
        assert ta.propagate(value, "x").parameters == [d]
    assert ta.node("+").join([ta.node("a"), "b"]).data == "a+b"


def test_nodes_of_functions_can_be_called_and_attributes_be_read():
    """Both are operations."""

    class Thing:
        name = "inner"

        def twice(self, x):
            return 2 * x

    thing = ta.node(Thing(), name="thing", trainable=True, kind="json")
    assert (thing.getattr("name").data, thing.name) == ("inner", "thing")
    assert (thing.twice(ta.node(4)).data, thing.call("twice", 4).data) == (8, 8)
    y = ta.node(lambda x: x + 1)(ta.node(2))
    assert (y.data, len(y.parents)) == (3, 2)
    with pytest.raises(AttributeError):
        thing.missing


@pytest.mark.parametrize("show", ["{}".format, lambda n: f"{n}", lambda n: f"{n:>5}", lambda n: format(n, "")])
def test_a_text_is_never_corrupted(show):
    """The node itself stood in the text there."""
    with pytest.raises(TypeError, match="trace would be cut"):
        show(ta.node("x"))


def test_format_traces():
    """ta.format and .format, with positions and names."""
    who = ta.node("you", name="who", trainable=True)
    text = ta.format("{} {who} {template}", "hi", who=who, template=1)
    assert (text.data, ta.propagate(text, "x").parameters) == ("hi you 1", [who])
    assert ta.node("{0}!").format(who).data == "you!"
    assert outcome(lambda: ta.format("{missing}", who=who)).parents[1] is who
    assert ("a" + who).data == "ayou"


def test_what_a_value_does_not_have_is_a_failed_call():
    """Unpacking None, a missing method, a length: feedback flows through them; Python's protocols go on working."""
    y = ta.bundle(lambda p: None, name="y")(ta.node(1, name="p", trainable=True))

    def unpack():
        _, _ = y

    for call in (unpack, lambda: y.split(","), lambda: len(y), lambda: y + 1, lambda: y[0]):
        assert [p.key for p in ta.propagate(outcome(call), "x").parameters] == ["p"]
    assert not hasattr(y, "split")
    with pytest.raises(TypeError):
        len(y)
    assert [n.data for n in list(ta.node(iter([1, 2])))] == [1, 2]


def test_a_string_with_def_in_it_is_a_text():
    """Every proposed prompt with the word "define" was rejected there."""
    p = ta.node("Define the terms. def f(", name="p", trainable=True)
    p.data = "definite TERMINATE #Code"
    assert (p.kind, p.data) == ("text", "definite TERMINATE #Code")


def test_names_that_would_clash_do_not():
    """`x:10` and `x1:0` were both `x10`."""
    nodes = [ta.node(0, name=f"x{n}", trainable=True) for n in ("", "_1", "_10", "1", "_2", "")]
    y = functools.reduce(lambda a, b: a + b, nodes)
    graph = ta.propagate(y, "x")
    assert len(set(graph.names.values())) == len(graph.names)


def test_unnamed_parameters_have_keys_of_their_own():
    """Numbered where they are given together, named by their place in a module."""
    from trace_adapters.nodes import keyed

    assert list(keyed([ta.node(1, trainable=True), ta.node(2, trainable=True)])) == ["int", "int_2"]

    class Agent(ta.Module):
        def __init__(self):
            self.first, self.rest = ta.node("a", trainable=True), [ta.node("b", trainable=True)]

    assert list(Agent().parameters_dict()) == ["first", "rest.0"]


def test_a_node_of_a_node_takes_its_value():
    """Trainable of trainable."""
    x = ta.node([1], name="x", trainable=True)
    y = ta.node(x, trainable=True)
    assert (y.data, y is x, y.key) == ([1], False, "x")
    assert ta.node(x) is x


def test_feedback_reads_errors_and_nodes():
    """As programs written for the original give it."""
    node = outcome(lambda: trained("a"))
    assert node.backward(node.data).feedback.text.startswith("TypeError: ")
    assert ta.Feedback.of(node).text.startswith("TypeError: ")
    assert ta.Feedback.of(ta.node(0.5)).score == 0.5
    assert (ta.node(1, trainable=True) + 1).backward().feedback == ta.Feedback()
    trained.parameter.zero_feedback()


def test_pickle_json_and_deepcopy_of_what_operators_made():
    """PicklingError, dropped parents, RecursionError there."""
    y = ta.node(1, name="x", trainable=True) + 1
    for other in (pickle.loads(pickle.dumps(y)), copy.deepcopy(y)):
        assert other.parents[0].key == "x"
    assert json.loads(ta.propagate(y, "x").to_json())["schema"] == 1


def test_iteration_over_everything():
    """Lists, tuples, texts, sets, dicts, views, generators."""
    assert [n.data for n in ta.node({3})] == [3]
    assert [n.data for n in ta.node("ab")] == ["a", "b"]
    assert [n.data for n in ta.node({"a": 1})] == ["a"]
    assert [n.data for n in ta.node(iter([1, 2]))] == [1, 2]
    first = next(iter(ta.node([5], name="x", trainable=True)))
    assert ta.propagate(first, "x").candidate == {"x": [5]}
    assert [n.data for n in reversed(ta.node([1, 2]))] == [2, 1]


def test_a_node_of_nodes():
    """Its items lead to them; functions see plain values."""
    p = ta.node(1, name="p", trainable=True)
    x = ta.node([p, ta.node(2)], name="x")
    assert ta.propagate(x[0], "x").parameters == [p]
    y = ta.bundle(sum)(x)
    assert (y.data, ta.propagate(y, "x").parameters) == (3, [p])


def test_tracing_does_not_use_recursion():
    """A chain as deep as the recursion limit allows no recursion anywhere."""
    y = ta.node(0, name="x", trainable=True)
    for _ in range(sys.getrecursionlimit() * 5):
        y = y + 1
    graph = ta.propagate(y, "x")
    assert len(ta.TraceGraph.from_json(graph.to_json())) == len(graph)
    assert "folded" in graph.to_mermaid()
    gc.collect()


class Shy:
    """A value that cannot be shown, as an object of a closed session."""

    def __repr__(self):
        raise LookupError("the session is closed")


class ShyError(Exception):
    def __str__(self):
        raise LookupError("the session is closed")


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "shown"),
    [(Shy, "<Shy whose repr raised LookupError>"), (deep, "<list whose repr raised RecursionError>")],
    ids=["shy", "deep"],
)
def test_a_value_that_cannot_be_shown_ends_nothing(make, shown):
    """Not the trace, its pictures and file, nor an optimization whose program passes it on and returns it."""

    @ta.bundle
    def carry(q, value):
        return value

    class Program(ta.Module):
        def __init__(self):
            self.q = ta.node("a", name="q", trainable=True)

        def forward(self, value):
            return carry(self.q, value)

    program = Program()
    graph = ta.propagate(program(make()), "bad")
    assert shown in repr(graph.output)
    again = ta.TraceGraph.from_json(graph.to_json(), program.parameters())
    assert repr(again.output.data) == shown
    assert escape(shown) in graph.to_html()
    result = ta.optimize(
        program,
        [{"value": make()}],
        lambda example, output: 0.5,
        lm=ta.ScriptedLM(lambda messages: '<value name="q">b</value>'),
        store=":memory:",
        max_steps=1,
        progress=False,
    )
    assert result.stopped == "steps: 1 done"


def test_an_error_that_cannot_be_shown_is_a_failed_run():
    @ta.bundle(trainable=True)
    def fail(q):
        raise ShyError

    options = {"lm": ta.ScriptedLM(lambda messages: "x"), "store": ":memory:", "max_steps": 1, "progress": False}
    result = ta.optimize(fail, [{"q": 1}], lambda example, output: 1.0, **options)
    (record,) = result.study.evaluations(split="train")
    assert record.error == "ShyError: <ShyError whose str raised LookupError>"
