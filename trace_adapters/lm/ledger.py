"""The record of every model call, handed to whoever listens in this context."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal

from trace_adapters.lm.replies import NO_USAGE, Reply, Usage
from trace_adapters.showing import str_of


@dataclass(frozen=True)
class CallRecord:
    """One call of a language model, as it ended.

    Attributes:
        role: What the call was for: "forward", "optimizer", "judge", …
        replies: The reply texts; empty if the call failed.
        usage: Of the whole call; zeros if `cached`.
        latency_s: Wall time of the call, waiting and retries included.
        error: `"Type: message"` of the exception if `status` is "error".
        created: Start of the call, seconds since the epoch.
    """

    role: str
    model: str
    messages: Sequence[Mapping[str, Any]]
    replies: tuple[str, ...]
    usage: Usage
    latency_s: float
    status: Literal["ok", "error"]
    error: str | None
    sample_index: int
    cached: bool
    created: float
    options: Mapping[str, Any] = field(default_factory=dict)
    finish_reasons: tuple[str | None, ...] = ()


Sink = Callable[[CallRecord], None]

_sinks: ContextVar[tuple[Sink, ...]] = ContextVar("trace_adapters_call_sinks", default=())


@dataclass(frozen=True)
class Question:
    """What a call asks: the part of a record that is known before the reply."""

    role: str
    model: str
    messages: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]
    sample_index: int = 0


@contextmanager
def record_calls(sink: Sink) -> Iterator[None]:
    """Hand every model call made inside the `with` to `sink`, failed and cached calls too.

    Sinks nest: inner and outer ones are all told. They are called in the thread or task that made the call, possibly
    many at a time, and what a sink raises (for instance BudgetExceeded) is raised to the caller of the model. Bound
    to the context: new threads must run in `contextvars.copy_context()` to be heard.
    """
    token = _sinks.set((*_sinks.get(), sink))
    try:
        yield
    finally:
        _sinks.reset(token)


def hearing(sink: Sink) -> Context:
    """A copy of what holds here, in which model calls are handed to `sink`, too; see `record_calls`."""
    context = copy_context()
    context.run(_sinks.set, (*_sinks.get(), sink))
    return context


def recorded(question: Question, ask: Callable[[], list[Reply]]) -> list[Reply]:
    """Run `ask` and report it."""
    created, started = time.time(), time.perf_counter()
    try:
        replies = ask()
    except Exception as error:
        report(question, [], created, time.perf_counter() - started, error=error)
        raise
    report(question, replies, created, time.perf_counter() - started)
    return replies


async def arecorded(question: Question, ask: Callable[[], Awaitable[list[Reply]]]) -> list[Reply]:
    """Await `ask` and report it."""
    created, started = time.time(), time.perf_counter()
    try:
        replies = await ask()
    except Exception as error:
        report(question, [], created, time.perf_counter() - started, error=error)
        raise
    report(question, replies, created, time.perf_counter() - started)
    return replies


def report(
    question: Question,
    replies: Sequence[Reply],
    created: float,
    latency_s: float,
    *,
    error: Exception | None = None,
    cached: bool = False,
) -> None:
    """Tell every sink of this context about one call."""
    sinks = _sinks.get()
    if not sinks:
        return
    record = CallRecord(
        role=question.role,
        model=question.model,
        messages=question.messages,
        replies=tuple(reply.text for reply in replies),
        usage=NO_USAGE if cached else _sum_usage(replies),
        latency_s=latency_s,
        status="ok" if error is None else "error",
        error=None if error is None else f"{type(error).__name__}: {str_of(error)}",
        sample_index=question.sample_index,
        cached=cached,
        created=created,
        options=question.options,
        finish_reasons=tuple(reply.finish_reason for reply in replies),
    )
    for sink in sinks:
        sink(record)


def _sum_usage(replies: Sequence[Reply]) -> Usage:
    if not replies:
        return Usage(None, None)
    total = NO_USAGE
    for reply in replies:
        total = total + reply.usage
    known = any(reply.usage.prompt_tokens is not None for reply in replies)
    return total if known else Usage(None, None, None, total.cost_usd)
