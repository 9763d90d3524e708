"""What threads, tasks and processes promise."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import trace_adapters as ta

hidden = ta.node(1, name="hidden", trainable=True)


@ta.bundle
def add(x):
    return x + hidden.data


@ta.bundle
async def aadd(x):
    value = hidden.data
    await asyncio.sleep(0)
    return x + value + (hidden.data - value)


def test_threads_lose_no_dependency():
    """Eight threads, closed-over parameter, own candidates: every call knows its inputs and no other's."""

    def run(thread: int) -> list[bool]:
        right = []
        for number in range(250):
            with ta.using({"hidden": thread}):
                y = add(number)
            graph = ta.propagate(y, "x")
            right.append(y.data == number + thread and graph.candidate == {"hidden": thread} and len(y.parents) == 2)
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(all(right) for right in pool.map(run, range(8)))


async def test_tasks_lose_no_dependency():
    """Two hundred tasks, switched in the middle of their calls."""

    async def run(number: int) -> bool:
        with ta.using({"hidden": number}):
            y = await aadd(number)
        return y.data == 2 * number and ta.propagate(y, "x").candidate == {"hidden": number} and len(y.parents) == 2

    assert all(await asyncio.gather(*map(run, range(200))))


def test_switching_tracing_off_holds_in_its_thread_only():
    """And a nested block does not switch it on again."""
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with ta.no_trace():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    assert add(1).parents != []
    done.set()
    thread.join()


def test_bare_threads_start_with_nothing_and_carry_context_carries():
    """`using`, `no_trace` and the bundle around reach a thread pool where they are carried."""

    @ta.bundle
    def fan_out(carried):
        read = lambda _: hidden.data  # noqa: E731
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(ta.carry_context(read) if carried else read, range(4)))

    with ta.using({"hidden": 7}):
        lost, kept = fan_out(False), fan_out(True)
    assert (lost.data, lost.parents[1:]) == ([1] * 4, [])
    assert (kept.data, kept.parents[1:]) == ([7] * 4, [hidden])
    with ta.no_trace():
        untraced = ta.carry_context(add)
    assert untraced(1).parents == []
    assert add(1).parents != []


def test_info_is_never_shared_between_calls():
    """A later call does not change what an earlier one recorded."""
    first = add(1)
    second = add(2)
    assert (first.inputs["x"].data, second.inputs["x"].data) == (1, 2)


async def test_to_thread_carries_by_itself():
    """asyncio copies the context."""
    with ta.using({"hidden": 5}):
        assert (await asyncio.to_thread(add, 1)).data == 6


def test_an_exception_leaves_everything_as_it_was():
    """using, no_trace and the reads of a failed call end with it."""
    with pytest.raises(ta.ExecutionError), ta.using({"hidden": 5}), ta.no_trace():
        add("text")
    y = add(1)
    assert (y.data, len(y.parents)) == (2, 2)
