"""What nodes and parameters promise."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import trace_adapters as ta
from trace_adapters.errors import ParameterError
from trace_adapters.nodes import keyed


def test_any_value_can_be_a_node():
    """A node holds any Python value as it is."""
    error, items = ValueError("a value, not a failure"), [1, 2]
    assert ta.node(None).data is None
    assert ta.node(error).data is error
    assert ta.node(error).failed is False
    assert ta.node(items).data is items


def test_a_node_in_a_string_is_an_error():
    """A node never corrupts a text silently."""
    with pytest.raises(TypeError, match=r"ta\.format\(template"):
        f"Hello {ta.node('world', name='who')}"


def test_a_trace_keeps_the_value_that_was_used():
    """A later change of a parameter does not change what was recorded."""
    x = ta.node(1, name="x", trainable=True)
    y = x + 1
    x.data = 100
    graph = ta.propagate(y, "wrong")
    assert y.data == 2
    assert graph.candidate == {"x": 1}
    assert y.recorded_inputs["x"].data == 1
    assert y.inputs["x"] is x


def test_using_holds_in_its_thread_only():
    """Eight threads with a candidate each see their own values only, also in the trace."""
    x = ta.node(0, name="x", trainable=True)

    def run(number: int) -> tuple[int, int]:
        with ta.using({"x": number}):
            y = x * 1
        return y.data, ta.propagate(y, 1.0).candidate["x"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(200))) == [(n, n) for n in range(200)]
    assert x.data == 0


async def test_using_holds_in_its_task_only():
    """Two hundred tasks with a candidate each see their own values only."""
    x = ta.node(0, name="x", trainable=True)

    async def run(number: int) -> int:
        with ta.using({"x": number}):
            await asyncio.sleep(0)
            return (x + 0).data

    assert await asyncio.gather(*map(run, range(200))) == list(range(200))


def test_using_nests():
    """An inner candidate adds to the outer one, and leaves it as it was."""
    x, y = ta.node(1, name="x", trainable=True), ta.node(2, name="y", trainable=True)
    with ta.using({"x": 10, "y": 20}):
        with ta.using({"x": 100}):
            assert (x.data, y.data) == (100, 20)
        assert (x.data, y.data) == (10, 20)
    assert (x.data, y.data) == (1, 2)


def test_no_trace_nests_and_keeps_nothing():
    """With tracing off, outputs have no history; a nested block does not switch it on again."""
    x = ta.node(1, name="x", trainable=True)
    with ta.no_trace():
        with ta.no_trace():
            assert (x + 1).parents == []
        assert (x + 1).parents == []
    assert (x + 1).parents != []


def test_a_graph_dies_with_its_last_reference():
    """A parameter that lives on keeps nothing alive that was computed from it."""
    x = ta.node(1, name="x", trainable=True)
    y = x + 1
    z = y * 2
    y_ref, z_ref = weakref.ref(y), weakref.ref(z)
    gc.disable()
    try:
        del y, z
        assert z_ref() is None
        assert y_ref() is None
    finally:
        gc.enable()


def test_two_parameters_of_one_key_are_refused():
    """A key names one parameter; the same one twice is no mistake."""
    x = ta.node(1, name="x", trainable=True)
    assert list(keyed([x, x])) == ["x"]
    with pytest.raises(ParameterError, match="give each a name"):
        keyed([x, ta.node(2, name="x", trainable=True)])


def test_a_parameter_copies_and_pickles_alone():
    """A copy has the value and the declaration; feedback stays behind."""
    x = ta.node(5, name="x", trainable=True, description="green time", constraint="15 to 90")
    (x + 1).backward("higher")
    for copied in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert (copied.key, copied.data, copied.description, copied.constraint) == (
            "x",
            5,
            "green time",
            "15 to 90",
        )
        assert copied.feedback == []
        copied.data = 7
    assert x.data == 5


def test_equality_is_of_values_and_hash_of_identity():
    """`==` and `bool()` are plain, so nodes can stand in conditions and dictionaries."""
    a, b = ta.node(1), ta.node(1)
    assert a == b
    assert a == 1
    assert len({a, b}) == 2
    assert not ta.node(0)
