"""Which items of its input a function reads is found in its source, and only where that is certain."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough

import trace_adapters_langchain as tal
from trace_adapters_langchain.reads import items_read, runs_nothing


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ('return x["a"]', {"a"}),
        ('return x["a"]["b"] + x.get("c", "")', {"a", "c"}),
        ('return [y for y in x["a"] if "b" in x]', {"a", "b"}),
        ('return (lambda: x["a"])()', {"a"}),
        ("return 1", set()),
    ],
)
def test_keys_that_are_read(body: str, keys: set[str]) -> None:
    assert items_read(f"def f(x):\n    {body}\n") == keys


@pytest.mark.parametrize(
    "body",
    [
        "return x",
        "return other(x)",
        "return {**x}",
        "return f'{x}'",
        "return x[key]",
        "return x.values()",
        'x["a"] = 1',
        'x["a"] += 1',
        "y = x\n    return y['a']",
        "return [y for y in x]",
        "return locals()['x']['b']",
        "return eval('x')",
        "x = {}\n    return x['a']",
        "del x",
        "return x.pop('a')",
    ],
)
def test_anything_else_may_read_all(body: str) -> None:
    assert items_read(f"def f(x):\n    {body}\n") is None


def test_what_is_no_single_function_may_read_all() -> None:
    assert items_read("def f():\n    return 1\n") is None
    assert items_read("def f(x):\n    return g(1)\ndef g(y):\n    return y\n") is None
    assert items_read("def f(x:") is None


def made_by(node: Any) -> set[str]:
    found, waiting = set(), [node]
    while waiting:
        one = waiting.pop()
        found.add(one.name)
        waiting += one.sources
    return found


def first(x: Any) -> str:
    return "1"


def second(x: Any) -> str:
    return "2"


BOTH = RunnableParallel(a=first, b=second)


def test_edges_come_from_what_is_read() -> None:
    reads_one = RunnableLambda(lambda x: x["a"])
    reads_all = RunnableLambda(lambda x: str(x))
    of_one, of_all = (made_by(tal.trace(BOTH | step).node("q")) for step in (reads_one, reads_all))
    assert ("first" in of_one, "second" in of_one) == (True, False)
    assert {"first", "second"} <= of_all


def test_a_prompt_reads_its_variables() -> None:
    text = PromptTemplate.from_template("{a}")
    chat = ChatPromptTemplate([("human", "{a}"), MessagesPlaceholder("history", optional=True)])
    for prompt in (text, chat):
        assert "second" not in made_by(tal.trace(BOTH | prompt).node("q"))


def test_learned_code_reads_what_its_own_source_says() -> None:
    def use(x: Any) -> str:
        return str(x)

    traced = tal.trace(BOTH | RunnableLambda(use))
    narrow = traced.with_values({"use": 'def use(x):\n    return x["b"]\n'})
    assert "first" in made_by(traced.node("q"))
    assert "first" not in made_by(narrow.node("q"))
    assert narrow.node("q").data == "2"


def test_a_returned_chain_gets_the_whole_input() -> None:
    """LangChain runs a chain that a function returns on all of the function's input, whatever the function read."""

    def choose(x: Any) -> Any:
        return inner if x["a"] else None

    inner = RunnablePassthrough() | RunnableLambda(lambda x: x["b"])
    assert "second" in made_by(tal.trace(BOTH | RunnableLambda(choose)).node("q"))


def test_a_function_that_only_chooses_a_chain_is_a_control_edge() -> None:
    def choose(x: Any) -> Any:
        return inner if x["a"].strip() else None

    def call(x: Any) -> Any:
        return inner.invoke(x)

    inner = RunnablePassthrough() | RunnableLambda(str)
    chosen = tal.trace(BOTH | RunnableLambda(choose)).node("q")
    assert [name for name in chosen.recorded_inputs if tal.is_control(name)] == ["control_choose"]
    assert {"first", "second", "choose"} <= made_by(chosen)
    called = tal.trace(BOTH | RunnableLambda(call)).node("q")
    assert called.data == chosen.data
    assert called.name == "call"
    assert not any(map(tal.is_control, called.recorded_inputs))


@pytest.mark.parametrize(
    ("body", "certain"),
    [
        ('return inner if "x" in x["a"].lower() else other', True),
        ("return inner if len(x['a']) > 3 else other", True),
        ("return inner.invoke(x)", False),
        ("return helper(x)", False),
        ("x['list'].append(1)\n    return inner", False),
        ("with something:\n        return inner", False),
        ("return [inner][0]", True),
        ("return (yield inner)", False),
    ],
)
def test_what_certainly_runs_nothing(body: str, certain: bool) -> None:
    assert runs_nothing(f"def f(x):\n    {body}\n") is certain


def test_items_and_passing_through_are_exact() -> None:
    chain = RunnablePassthrough.assign(c=first) | RunnablePassthrough() | {"d": RunnablePassthrough().pick("c")}
    node = tal.trace(chain).node({"q": "?"})
    assert node.data == {"d": "1"}
    assert "q" not in made_by(node) - made_by(tal.trace(RunnableLambda(first)).node({"q": "?"}))
