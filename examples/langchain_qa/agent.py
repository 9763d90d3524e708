"""An agent with two tools that nobody has described well, and a fragile function that reads what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelResponse
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

import trace_adapters_langchain as tal
from examples.langchain_qa.shop import PRICES, STOCK

MAX_STEPS = 6  # of the graph: at most three calls of the model


@tool(return_direct=True)
def list_a(item: str) -> str:
    """Look something up."""
    return _look_up(PRICES, item, "{} dollars apiece")


@tool(return_direct=True)
def list_b(item: str) -> str:
    """Look something up."""
    return _look_up(STOCK, item, "{} pieces")


def read_number(text: str) -> str:
    """Read the number out of the agent's last message.

    The message is free text with a number in it, for example with a unit behind it. Returns the digits only, like 123;
    this must never raise.
    """
    return str(int(text))


class ReadToolCalls(AgentMiddleware[Any, Any]):
    """Takes a tool call that a small model wrote into its text, as JSON, for a tool call."""

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        response = handler(request)
        message = response.result[-1]
        names = {found["function"]["name"] if isinstance(found, dict) else found.name for found in request.tools}
        calls = read_calls(str(message.content), names)
        if message.tool_calls or not calls:
            return response
        return ModelResponse(result=[AIMessage("", tool_calls=calls, usage_metadata=message.usage_metadata)])


def read_calls(text: str, names: Collection[str]) -> list[Any]:
    """The first call of a known tool in a text, `{"name": …, "arguments": {…}}`; none if there is none."""
    for place in re.finditer(r'\{\s*"name"', text):
        try:
            found, _ = json.JSONDecoder().raw_decode(text, place.start())
        except ValueError:
            continue
        if found.get("name") in names and isinstance(found.get("arguments"), dict):
            return [{"name": found["name"], "args": found["arguments"], "id": "call_1", "type": "tool_call"}]
    return []


def make_agent(model: Any) -> tuple[Any, Any]:
    """Question -> number, and what of the agent may be learned.

    Args:
        model: A LangChain chat model.
    """
    tools = [list_a, list_b]
    learns = tal.middleware(system_prompt="Answer with the number.", tools=tools, name="clerk")
    agent = create_agent(model, tools, middleware=[ReadToolCalls(), learns])
    ask = RunnableLambda(lambda row: {"messages": [("user", row["question"])]})
    last_text = RunnableLambda(lambda state: str(state["messages"][-1].content))
    return (ask | agent | last_text | RunnableLambda(read_number)), learns


def _look_up(known: dict[str, int], item: str, form: str) -> str:
    name = item.strip().lower()
    found = known.get(name, known.get(name.removesuffix("s")))
    return form.format(found) if found is not None else f"There is no {item!r} on the list; give one item, like 'kite'."
