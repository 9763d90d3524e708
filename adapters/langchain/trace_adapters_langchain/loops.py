"""Something to be awaited, awaited from code that cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from trace_adapters.extend import threads


def in_loop(start: Callable[[], Awaitable[Any]]) -> Any:
    """What `start` gives once it is awaited, in an event loop of its own, under the caller's context."""

    async def run() -> Any:
        return await start()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run())
    with threads(1) as pool:  # this thread's loop is running; a loop cannot be entered twice
        return pool.submit(copy_context().run, asyncio.run, run()).result()
