"""What holds in one thread or task: the values in force, whether calls are recorded, what is being read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Read by every recorded call, so bundles and nodes use them without a function in between.
TRACING: ContextVar[bool] = ContextVar("trace_adapters_tracing", default=True)
OVERRIDES: ContextVar[Overrides | None] = ContextVar("trace_adapters_overrides", default=None)
READS: ContextVar[dict[Any, None] | None] = ContextVar("trace_adapters_reads", default=None)


class Overrides:
    """The values of one `using`, on top of those around it."""

    def __init__(self, candidate: Mapping[Any, Any], outer: Overrides | None) -> None:
        self._values: dict[Any, Any] = dict(outer._values) if outer is not None else {}
        self._values.update(candidate)
        self._nodes: dict[Any, Any] = {}

    def find(self, parameter: Any) -> Any:
        """The value of a parameter as a node, the same one at each reading; None if none is set."""
        found = self._nodes.get(parameter)
        if found is not None:
            return found
        key: Any = parameter if parameter in self._values else parameter.key
        if key not in self._values:
            return None
        return self._nodes.setdefault(parameter, parameter.holding(self._values[key]))


@contextmanager
def using(candidate: Mapping[Any, Any]) -> Iterator[None]:
    """Run with the values of a candidate.

    Args:
        candidate: Parameter key, or the `Parameter` itself, -> value. Never changed. Parameters that it does
            not name keep their values, or those of the `using` around this one.

    Holds in this thread or task only, so many candidates can run side by side.
    """
    if not isinstance(candidate, Mapping):
        raise TypeError(f"using() takes a mapping from parameter key to value, got {candidate!r}.")
    token = OVERRIDES.set(Overrides(candidate, OVERRIDES.get()))
    try:
        yield
    finally:
        OVERRIDES.reset(token)


@contextmanager
def no_trace() -> Iterator[None]:
    """Switch recording off in this thread or task; nests."""
    token = TRACING.set(False)
    try:
        yield
    finally:
        TRACING.reset(token)


def is_tracing() -> bool:
    """Whether calls are being recorded here."""
    return TRACING.get()


class Surroundings:
    """What holds here now, to be restored around work that runs later.

    Args:
        reads: Where reads are collected instead of where they are collected here.
    """

    __slots__ = ("_overrides", "_reads", "_tracing")

    def __init__(self, reads: dict[Any, None] | None = None) -> None:
        self._tracing = TRACING.get()
        self._overrides = OVERRIDES.get()
        self._reads = READS.get() if reads is None else reads

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Run with what was captured."""
        tokens = TRACING.set(self._tracing), OVERRIDES.set(self._overrides), READS.set(self._reads)
        try:
            yield
        finally:
            READS.reset(tokens[2])
            OVERRIDES.reset(tokens[1])
            TRACING.reset(tokens[0])


def carry_context(function: Callable[P, R]) -> Callable[P, R]:
    """A function that runs, in any thread, under what holds here now: `using`, `no_trace`, the bundle around.

    All context variables are carried, those of other libraries too. Tasks and `asyncio.to_thread` do this
    themselves; bare thread pools and threads do not: `pool.map(ta.carry_context(run), examples)`.
    """
    here = copy_context()

    @functools.wraps(function)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        return here.copy().run(function, *args, **kwargs)  # a copy each: many threads may run at once

    return carried
