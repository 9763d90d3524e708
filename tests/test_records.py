"""What was recorded stays as it was."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest

import trace_adapters as ta


@dataclasses.dataclass
class Box:
    items: list


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1, [2]], lambda v: v[1].append(9)),
        ({"a": {"b": 1}}, lambda v: v["a"].update(b=9)),
        ({1}, lambda v: v.add(9)),
        (bytearray(b"a"), lambda v: v.extend(b"b")),
        (Box([1]), lambda v: v.items.append(9)),
        (([1],), lambda v: v[0].append(9)),
    ],
)
def test_changes_in_place_never_falsify_recorded_inputs(value, change):
    """A node keeps its value; a plain argument is changed for the caller, as in Python, and not in the record."""
    before = repr(value)

    @ta.bundle
    def mutate(argument):
        change(argument)
        return repr(argument)

    x = ta.node(value, name="x")
    y = mutate(x)
    assert (repr(x.data), repr(y.inputs["argument"].data)) == (before, before)
    assert y.data != before
    y = mutate(value)
    assert repr(y.inputs["argument"].data) == before
    assert repr(value) == y.data


def test_a_container_that_holds_itself_is_recorded():
    """Odd values do no harm."""
    odd: list = [1]
    odd.append(odd)
    y = ta.bundle(len)(odd)
    assert (y.data, y.parents[0].data[1][0]) == (2, 1)


def test_methods_that_change_a_node_show_in_it_and_not_in_earlier_records():
    """`x.append(3)` works as in Python, holds no nodes, and what was computed before keeps what it took."""
    x = ta.node([1, 2], name="x", trainable=False)
    added = ta.node(3, name="added", trainable=True)
    y = ta.bundle(lambda items: sum(items))(x)
    x.append(added)
    x[0] = 10
    assert (x.data, y.recorded_inputs["items"].data) == ([10, 2, 3], [1, 2])
    z = ta.bundle(lambda items: sum(items))(x)
    assert (z.data, ta.propagate(z, "x").parameters) == (15, [added])
    assert (x.pop().data, x.data, len(x)) == (3, [10, 2], 2)
    del x[0]
    assert x.data == [2]
    while x:
        x.pop()
    assert x.data == []


def test_a_parameter_that_is_changed_in_place_is_not():
    """Values of parameters are changed by setting `.data` only; a method changes what this node shows."""
    demos = ta.node([1], name="demos", trainable=True)
    with pytest.raises(TypeError, match=r"\.data"):
        demos.append(2)
    assert demos.data == [1]


def test_graphs_die_when_a_thousand_runs_are_dropped():
    """With a parameter that lives on, recorded or not, failed or not; without the garbage collector."""
    p = ta.node(1, name="p", trainable=True)

    class Payload:
        pass

    @ta.bundle
    def load(n):
        return Payload()

    @ta.bundle
    def fail(payload):
        raise ValueError

    alive = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(1_000):
            y = load(p)
            alive.append(weakref.ref(y.data))
            z = ta.bundle(id)(y)
            z.backward("feedback")
            p.zero_feedback()
            with ta.no_trace():
                alive.append(weakref.ref(load(p).data))
        del y, z
        assert [ref for ref in alive if ref() is not None] == []
    finally:
        gc.enable()
    with pytest.raises(ta.ExecutionError):
        fail(load(p))


def test_without_tracing_nothing_is_kept_alive():
    """An output knows nothing of its inputs."""
    p = ta.node("x" * 10, name="p", trainable=True)
    with ta.no_trace():
        y = ta.bundle(str.upper)(p)
        z = y + "!"
    assert (y.parents, z.parents, z.data) == ([], [], "X" * 10 + "!")


def test_a_million_operations_are_dropped_without_recursion():
    """Depth is no limit for the end either (a tenth of a million here)."""
    y = ta.node(0, name="x", trainable=True)
    for _ in range(100_000):
        y = y + 1
    last = weakref.ref(y)
    del y
    assert last() is None
