"""What of an agent may change: LangChain's agents take it as middleware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trace_adapters import SettingError


def middleware(*, system_prompt: str | None = None, tools: Sequence[Any] = (), name: str = "agent") -> Any:
    """Middleware for `create_agent` through which its system prompt and its tools' descriptions may change.

    `create_agent(model, tools, middleware=[learns])` with `learns = tal.middleware(system_prompt="…", tools=tools)`;
    the agent itself gets no system prompt then (a warning says so if it has one: the middleware's replaces it).

    Args:
        system_prompt: What the model is told at the start of every call; None leaves the agent's own.
        tools: Whose descriptions, and those of their arguments, may change; their names stay.
        name: Begins the names of the parameters.

    Raises:
        SettingError: If there is neither, or langchain is not installed.
    """
    if system_prompt is None and not tools:
        raise SettingError("middleware() needs a system_prompt, tools, or both: it trains nothing else.")
    try:
        from trace_adapters_langchain.agent_middleware import LearningMiddleware
    except ImportError as error:
        raise SettingError("middleware() needs langchain 1.0 or later: pip install langchain.") from error
    return LearningMiddleware(system_prompt, tools, name)
