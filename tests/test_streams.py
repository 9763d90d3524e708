"""What bundles of generators promise."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import trace_adapters as ta


@ta.bundle
def words(text, sep=" "):
    """The words, one by one."""
    yield from text.split(sep)


@ta.bundle
async def awords(text):
    for word in text.split():
        yield word


def test_chunks_come_as_they_are_made_and_the_node_is_complete_at_the_end():
    """Consuming is lazy; afterwards the value is everything."""
    made = []

    @ta.bundle
    def count(n):
        for number in range(n):
            made.append(number)
            yield number

    y = count(ta.node(3, name="n", trainable=True))
    stream = iter(y)
    assert (next(stream), made, y.ended) == (0, [0], False)
    assert (list(stream), y.ended, y.data) == ([1, 2], True, [0, 1, 2])
    assert list(y) == [0, 1, 2]
    assert [p.key for p in ta.propagate(y, "x").parameters] == ["n"]


def test_reading_the_value_runs_a_stream_to_its_end():
    """Also by an operator, another bundle, or a test of equality."""
    assert words("a b").data == ["a", "b"]
    assert ta.bundle(lambda parts: "-".join(parts))(words("a b")).data == "a-b"
    assert words("a b") == ["a", "b"]
    assert len(words("a b")) == 2
    assert repr(words("a b")) == "<Stream words=['a', 'b']>"


def test_a_stream_runs_under_the_values_of_its_call():
    """And what its body reads on the way are inputs."""
    x = ta.node(1, name="x", trainable=True)

    @ta.bundle
    def read(n):
        for _ in range(n):
            yield x.data

    with ta.using({"x": 5}):
        y = read(2)
    assert y.data == [5, 5]
    assert y.inputs["x"] is x
    assert ta.propagate(y, "x").candidate == {"x": 5}


def test_a_failing_stream_raises_with_what_it_was_given():
    """At the chunk that fails, and whenever it is read again."""

    @ta.bundle
    def fail(n):
        yield n
        raise ValueError("no more")

    y = fail(ta.node(1, name="n", trainable=True))
    stream = iter(y)
    assert next(stream) == 1
    for _ in range(2):
        with pytest.raises(ta.ExecutionError, match="no more") as caught:
            next(iter(stream)) if not y.ended else y.data
    assert [p.key for p in caught.value.node.parents] == ["n"]
    assert caught.value.node.place[1].strip() == 'raise ValueError("no more")'


def test_a_closed_stream_is_what_has_come():
    """The rest is not run."""
    y = words("a b c")
    next(iter(y))
    y.close()
    assert y.data == ["a"]


def test_streams_without_tracing_have_no_history():
    """But the same values."""
    with ta.no_trace():
        y = words(ta.node("a b", name="x", trainable=True))
    assert (y.data, y.parents) == (["a", "b"], [])


async def test_async_generators():
    """`async for` gives the chunks; before the end the value cannot be read."""
    y = awords(ta.node("a b", name="text", trainable=True))
    with pytest.raises(RuntimeError, match="async for"):
        y.data
    assert [chunk async for chunk in y] == ["a", "b"]
    assert (y.data, [p.key for p in y.parents]) == (["a", "b"], ["text"])
    assert [chunk async for chunk in y] == ["a", "b"]


async def test_an_async_stream_that_fails():
    """The failed call is at hand."""

    @ta.bundle
    async def fail():
        yield 1
        raise KeyError("k")

    with pytest.raises(ta.ExecutionError) as caught:
        [chunk async for chunk in fail()]
    assert isinstance(caught.value.__cause__, KeyError)


async def test_learned_generators_run_in_the_sandbox():
    """To their end, before the first chunk; plain and async ones, functions and methods."""

    @ta.bundle(trainable=True)
    def count(n):
        yield n

    @ta.bundle(trainable=True)
    async def acount(n):
        yield n

    class Agent:
        base = 10

        def __init__(self):
            self.start = 5

        @ta.bundle(trainable=True)
        def chunks(self, n):
            yield n

        @ta.bundle(trainable=True)
        @classmethod
        def of_class(cls, n):
            return n

    with ta.using({"count": "def count(n):\n    yield from range(n)\n"}):
        assert count(3).data == [0, 1, 2]
    with ta.using({"acount": "async def acount(n):\n    yield n\n    yield n + 1\n"}):
        y = acount(ta.node(3, name="n", trainable=True))
        assert [chunk async for chunk in y] == [3, 4]
    with ta.using({"chunks": "def chunks(self, n):\n    yield self.start\n    yield n\n"}):
        assert Agent().chunks(1).data == [5, 1]
    with ta.using({"of_class": "def of_class(cls, n):\n    return cls.base + n\n"}):
        assert Agent.of_class(1).data == 11
    broken = {"count": "def count(n):\n    yield 1\n    raise ValueError('in the middle')\n"}
    with ta.using(broken), pytest.raises(ta.ExecutionError, match="in the middle") as caught:
        count(3)
    assert caught.value.node.place == (3, "    raise ValueError('in the middle')")


def test_nodes_that_are_yielded_are_inputs():
    """What is said of a stream reaches the parameters that its chunks were made of."""
    first, last = ta.node("a", name="first", trainable=True), ta.node("z", name="last", trainable=True)

    @ta.bundle
    def both():
        yield first + "!"
        yield last

    y = both()
    assert list(y) == ["a!", "z"]
    assert [p.key for p in ta.propagate(y, "x").parameters] == ["first", "last"]


def test_threads_may_iterate_over_one_stream():
    """A generator cannot be entered twice; every thread gets everything all the same."""

    @ta.bundle
    def slow():
        for number in range(20):
            time.sleep(0.002)
            yield number

    y = slow()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(list, [y] * 4)) == [list(range(20))] * 4


async def test_tasks_may_iterate_over_one_stream():
    """Each gets every chunk once, in order; Python's async generators take one reader at a time only."""

    @ta.bundle
    async def numbers(n):
        """Count."""
        for number in range(n):
            await asyncio.sleep(0)
            yield number

    stream = numbers(20)

    async def read():
        return [chunk async for chunk in stream]

    assert await asyncio.gather(*(read() for _ in range(5))) == [list(range(20))] * 5
    assert stream.data == list(range(20))
