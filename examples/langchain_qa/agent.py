"""An agent with two tools that nobody has described well, and a fragile function that reads its answer."""

from __future__ import annotations

import ast
import operator
from typing import Any

from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

import trace_adapters_langchain as tal
from examples.langchain_qa.shop import PRICES

MAX_STEPS = 12  # of the graph: at most five calls of the model
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


@tool
def price(item: str) -> str:
    """Look something up."""
    name = item.strip().lower()
    found = PRICES.get(name, PRICES.get(name.removesuffix("s")))
    return (
        str(found) if found is not None else f"There is no {item!r} on the price list; ask for one item, e.g. 'kite'."
    )


@tool
def calculate(expression: str) -> str:
    """Compute."""
    try:
        value = _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, KeyError) as error:
        return f"{expression!r} cannot be computed: {error}. Write numbers with + - * / and brackets."
    return f"{value:g}"


def read_total(text: str) -> str:
    """Read the total out of the agent's last message.

    The text is free: there may be dollar signs, a sentence around the number, or a calculation before it. Returns the
    total as digits only, like 123; this must never raise.
    """
    return str(int(text))


def make_agent(model: Any) -> tuple[Any, Any]:
    """Question -> total, and what of the agent may be learned.

    Args:
        model: A LangChain chat model that calls tools.
    """
    tools = [price, calculate]
    middleware = tal.middleware(system_prompt="Answer with the number.", tools=tools, name="clerk")
    agent = create_agent(model, tools, middleware=[middleware])
    ask = RunnableLambda(lambda row: {"messages": [("user", row["question"])]})
    last_text = RunnableLambda(lambda state: str(state["messages"][-1].content))
    return (ask | agent | last_text | RunnableLambda(read_total)), middleware


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("only numbers and + - * / are known")
