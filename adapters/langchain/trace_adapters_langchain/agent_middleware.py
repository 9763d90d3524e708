"""Middleware of an agent that reads its system prompt and its tools' descriptions where it runs."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_tool

from trace_adapters_langchain.overlay import Overlay
from trace_adapters_langchain.trainables import Trainable, trainable


class LearningMiddleware(AgentMiddleware[Any, Any]):
    """Puts what has been learned into every model call of an agent.

    Args:
        system_prompt: The text to begin with; None leaves the agent's own.
        tools: Whose descriptions may change.
        name: Begins the parameters' names; agents want different middleware to have different ones.

    Attributes:
        overlays: Where the values come from.
    """

    def __init__(self, system_prompt: str | None, tools: Sequence[Any], name: str) -> None:
        super().__init__()
        self._name = name
        self._prompt: Trainable | None = None
        self._tools: Trainable | None = None
        if system_prompt is not None:
            self._prompt = trainable(ChatPromptTemplate.from_messages([SystemMessage(system_prompt)]), name)
        if tools:
            described = [convert_to_openai_tool(tool) for tool in tools]
            self._tools = trainable(RunnableLambda(_hand_out, name=f"{name}_tools").bind(tools=described), train="tool")
        self.overlays: tuple[Overlay, ...] = tuple(
            part.overlay for part in (self._prompt, self._tools) if part is not None
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def parameters(self) -> dict[str, Any]:
        """Key -> parameter."""
        return {key: parameter for overlay in self.overlays for key, parameter in overlay.parameters.items()}

    def plain(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What was learned: `system_prompt`, descriptions by name of the tool, those of arguments by tool and name.

        `create_agent(model, tools, system_prompt=found["system_prompt"])`, for each tool
        `tool.description = found["tools"][tool.name]`; `found["arguments"]`, if arguments have descriptions, goes
        where the tools are written.
        """
        found: dict[str, Any] = {}
        if self._prompt is not None:
            found["system_prompt"] = self._prompt.plain(values).messages[0].content
        if self._tools is not None:
            tools = self._tools.plain(values).kwargs["tools"]
            found["tools"] = {tool["function"]["name"]: tool["function"].get("description", "") for tool in tools}
            arguments = {tool["function"]["name"]: _described_arguments(tool) for tool in tools}
            found.update({"arguments": arguments} if any(arguments.values()) else {})
        return found

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(self._changed(request))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        return await handler(self._changed(request))

    def _changed(self, request: Any) -> Any:
        changes: dict[str, Any] = {}
        if self._prompt is not None:
            (message,) = self._prompt.invoke({}).to_messages()
            _warn_of_two_prompts(request, self._name)
            if hasattr(request, "system_message"):
                changes["system_message"] = message
            else:  # before langchain 1.1
                changes["system_prompt"] = message.content
        if self._tools is not None:
            learned = {tool["function"]["name"]: tool for tool in self._tools.invoke(None)}
            if self._tools.overlay.is_changed():
                changes["tools"] = [learned.get(getattr(tool, "name", ""), tool) for tool in request.tools]
        return request.override(**changes)


def _warn_of_two_prompts(request: Any, name: str) -> None:
    if getattr(request, "system_message", None) or getattr(request, "system_prompt", None):
        warnings.warn(
            f"The agent has a system prompt of its own, which that of the middleware {name!r} replaces; give it to "
            "tal.middleware(system_prompt=…) alone.",
            stacklevel=2,
        )


def _hand_out(_: Any, *, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return tools


def _described_arguments(tool: Mapping[str, Any]) -> dict[str, str]:
    properties = tool["function"].get("parameters", {}).get("properties", {})
    return {name: facts["description"] for name, facts in properties.items() if "description" in facts}
