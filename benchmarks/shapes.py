"""Graphs and calls that the benchmarks of the tracer measure, for any library with `node` and `bundle`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

SHAPES = ("chain", "fan-in", "diamond", "ladder", "10-wide dense", "agent loop", "n parameters")


def identity(x):
    return x


def step(prompt, state):
    return state + len(prompt)


def total(*numbers):
    return sum(numbers) % 1000


def two_megabytes(n):
    return b"x" * 2_000_000 * n


def length(data):
    return len(data)


def long_function(x):
    x = x + 0
    x = x + 1
    x = x + 2
    x = x + 3
    x = x + 4
    x = x + 5
    x = x + 6
    x = x + 7
    x = x + 8
    x = x + 9
    x = x + 10
    x = x + 11
    x = x + 12
    x = x + 13
    x = x + 14
    x = x + 15
    x = x + 16
    x = x + 17
    x = x + 18
    x = x + 19
    x = x + 20
    x = x + 21
    x = x + 22
    x = x + 23
    x = x + 24
    x = x + 25
    x = x + 26
    x = x + 27
    x = x + 28
    x = x + 29
    x = x + 30
    x = x + 31
    x = x + 32
    x = x + 33
    x = x + 34
    x = x + 35
    x = x + 36
    x = x + 37
    x = x + 38
    x = x + 39
    x = x + 40
    x = x + 41
    x = x + 42
    x = x + 43
    x = x + 44
    x = x + 45
    x = x + 46
    x = x + 47
    x = x + 48
    x = x + 49
    x = x + 50
    x = x + 51
    x = x + 52
    x = x + 53
    x = x + 54
    x = x + 55
    x = x + 56
    x = x + 57
    return x  # noqa: RET504


def build(shape: str, n: int, node: Callable[..., Any], bundle: Callable[..., Any]) -> Any:
    """The output of a graph of about n operations over trainable nodes."""
    p = node(0, name="p", trainable=True)
    if shape == "chain":
        y = p
        for _ in range(n):
            y = y + 1
        return y
    if shape == "fan-in":
        return bundle()(total)(*[p + i for i in range(n - 1)])
    if shape == "diamond":
        y = p
        for _ in range(n // 3):
            y = (y + 1) - (y + 2)
        return y
    if shape == "ladder":
        a, b = p + 1, p + 2
        for _ in range(n // 2):
            a, b = a - b, b - a
        return a + b
    if shape == "10-wide dense":
        join = bundle()(total)
        layer = [p + i for i in range(10)]
        for _ in range(n // 10 - 1):
            layer = [join(*layer) for _ in range(10)]
        return join(*layer)
    if shape == "agent loop":
        call, state, prompt = bundle()(step), node(0), node("prompt", name="prompt", trainable=True)
        for _ in range(n):
            state = call(prompt, state)
        return state
    y = node(0)
    for i in range(n):
        y = y + node(i, name=f"p{i}", trainable=True)
    return y


def reader(library: str) -> tuple[Callable[[int], Any], Callable[[Any], bool]]:
    """A bundle that reads a closed-over parameter, and whether an output of it knows that."""
    if library == "ours":
        import trace_adapters as ta

        hidden = ta.node(1, name="hidden", trainable=True)

        @ta.bundle
        def read(x):
            time.sleep(0)
            return x + hidden.data

        return read, lambda y: any(parent is hidden for parent in y.parents)
    from opto import trace

    hidden = trace.node(1, name="hidden", trainable=True)

    @trace.bundle(allow_external_dependencies=True)
    def peer_read(x):
        time.sleep(0)
        return x + hidden.data

    return peer_read, lambda y: any(node is hidden for node in y.info["external_dependencies"])


def async_reader(library: str) -> tuple[Callable[[int], Any], Callable[[Any], bool]]:
    if library == "ours":
        import trace_adapters as ta

        hidden = ta.node(1, name="hidden", trainable=True)

        @ta.bundle
        async def read(x):
            await asyncio.sleep(0)
            return x + hidden.data

        return read, lambda y: any(parent is hidden for parent in y.parents)
    from opto import trace

    hidden = trace.node(1, name="hidden", trainable=True)

    @trace.bundle(allow_external_dependencies=True)
    async def peer_read(x):
        await asyncio.sleep(0)
        return x + hidden.data

    return peer_read, lambda y: any(node is hidden for node in y.info["external_dependencies"])
