"""A call with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any


class Late(TimeoutError):
    """A run took longer than its limit."""


def within(seconds: float | None, call: Callable[[], Any]) -> Any:
    """What a call returns or raises, if it ends in time.

    It runs in a thread of its own, under the caller's context. A thread cannot be ended from outside: one that is late
    goes on, and does not keep the process from ending.

    Args:
        seconds: Wall-clock limit; None runs the call here, for as long as it takes.
        call: Takes no argument.

    Raises:
        Late: If it did not end in time.
    """
    if seconds is None:
        return call()
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=copy_context().run, args=(run,), name="trace-adapters-rollout", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise Late(f"the run took longer than its limit of {seconds:g} s")
    result, error = outcome.pop()
    if error is not None:
        raise error
    return result
