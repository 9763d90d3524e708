"""Code of a chain that a model wrote: where it runs, what it sees, what it may be."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import StructuredTool

import trace_adapters as ta
import trace_adapters_langchain as tal

LIMIT = 3
PID = "def work(x):\n    import os\n    return os.getpid()\n"


def work(x: Any) -> Any:
    return x


async def wait(x: Any) -> Any:
    return x


def pieces(x: str) -> Iterator[str]:
    yield from x


async def late_pieces(x: str) -> AsyncIterator[str]:
    for piece in x:
        yield piece


def look_up(word: str) -> str:
    return f"meaning of {word}"


def test_learned_code_runs_in_the_sandbox_and_plain_code_here() -> None:
    traced = tal.trace(RunnablePassthrough() | RunnableLambda(work)).with_values({"work": PID})
    assert traced.invoke(1) != os.getpid()
    assert traced.node(1).data != os.getpid()
    assert traced.plain().invoke(1) == os.getpid()
    trusted = tal.trace(RunnablePassthrough() | RunnableLambda(work), trust="in-process").with_values({"work": PID})
    assert trusted.invoke(1) == os.getpid()


def test_the_users_own_function_runs_here_as_it_is() -> None:
    chain = RunnablePassthrough() | RunnableLambda(work)
    assert tal.trace(chain).plain() is chain
    held = object()
    assert tal.trace(chain).invoke(held) is held


def test_learned_code_sees_constants_and_what_uses_declares() -> None:
    source = "def work(x):\n    return [LIMIT, look_up(x)]\n"

    def with_limit(x: Any) -> Any:
        return [LIMIT, x]

    chain = RunnablePassthrough() | RunnableLambda(with_limit)
    traced = tal.trace(chain, uses=[look_up])
    key = next(iter(traced.parameters))
    assert "look_up" in traced.parameters[key].constraint
    better = traced.with_values({key: source.replace("work", "with_limit")})
    assert better.invoke("tree") == [3, "meaning of tree"]


def test_lambdas_learn_with_their_closure_and_defaults() -> None:
    factor = 10

    chain = RunnablePassthrough() | RunnableLambda(lambda x, plus=1: x * factor + plus, name="scale")
    traced = tal.trace(chain)
    assert traced.parameters["scale"].data == "def scale(x, plus=1):\n    return x * factor + plus\n"
    better = traced.with_values({"scale": "def scale(x, plus=1):\n    return x * factor - plus\n"})
    assert (traced.invoke(2), better.invoke(2), better.plain().invoke(2)) == (21, 19, 19)


async def test_async_functions_and_streams_learn() -> None:
    awaited = tal.trace(RunnableLambda(wait)).with_values({"wait": "async def wait(x):\n    return [x]\n"})
    assert await awaited.ainvoke(1) == [1]
    assert (await awaited.anode(1)).data == [1]
    stream = tal.trace(RunnableLambda(pieces))
    louder = stream.with_values({"pieces": "def pieces(x):\n    for c in x:\n        yield c.upper()\n"})
    assert list(stream.stream("ab")) == ["a", "b"]
    assert list(louder.stream("ab")) == list(louder.plain().stream("ab")) == ["A", "B"]
    assert louder.invoke("ab") == "AB"
    late = tal.trace(RunnableLambda(late_pieces))
    source = "async def late_pieces(x):\n    for c in x:\n        yield c * 2\n"
    doubled = late.with_values({"late_pieces": source})
    assert [chunk async for chunk in doubled.astream("ab")] == ["aa", "bb"]


def test_messages_documents_and_prompts_travel() -> None:
    source = (
        "def work(x):\n    m, d, p = x['message'], x['document'], x['prompt']\n"
        "    return {'text': m.content + m.text + d.page_content + p.text, 'message': m, 'document': d, 'prompt': p}\n"
    )
    prompt = ChatPromptTemplate([("human", "{q}")]).invoke({"q": "hi"})
    call = {"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}
    given = {
        "message": AIMessage("x", tool_calls=[call]),
        "document": Document("y", metadata={"n": 1}),
        "prompt": prompt,
    }
    found = tal.trace(RunnableLambda(work)).with_values({"work": source}).invoke(given)
    assert found["text"] == "xxyHuman: hi"
    assert (found["message"], found["document"], found["prompt"]) == (*given.values(),)


def test_a_failure_of_learned_code_is_told_by_its_line() -> None:
    source = "def work(x):\n    y = x\n    return y['missing']\n"
    node = tal.trace(RunnableLambda(work)).with_values({"work": source}).node({"a": 1})
    assert isinstance(node.data, KeyError)
    assert node.place == (3, "    return y['missing']")
    assert node.source_text == source
    assert "# <--- KeyError" in node.create_feedback("full")


def test_a_failure_of_a_lambda_is_told_by_its_line() -> None:
    node = tal.trace(RunnableLambda(lambda x: x["missing"], name="pick")).node({"a": 1})
    assert node.place == (2, "    return x['missing']")


def test_the_function_of_a_tool_learns() -> None:
    tool = StructuredTool.from_function(look_up, name="look_up", description="Looks up a word.")
    traced = tal.trace(tool)
    better = traced.with_values({"look_up": "def look_up(word):\n    return word[::-1]\n"})
    assert traced.invoke({"word": "tree"}) == "meaning of tree"
    assert better.invoke({"word": "tree"}) == better.plain().invoke({"word": "tree"}) == "eert"
    node = better.node({"word": "tree"})
    assert node.data == "eert"
    assert [p.key for p in ta.propagate(node, "x").parameters] == ["look_up"]


@pytest.mark.parametrize("count", [1, 40])
def test_candidates_that_were_tried_are_kept_in_bounds(count: int) -> None:
    """`ta.using` makes a chain for each set of values, and forgets the oldest."""
    traced = tal.trace(ChatPromptTemplate([("human", "{q}")]))
    for number in range(count):
        with ta.using({"prompt.human": f"{number} {{q}}"}):
            assert traced.invoke({"q": "x"}).to_messages()[0].content == f"{number} x"
    assert len(traced._chains) == min(count, 32)


def test_values_of_using_are_checked_too() -> None:
    traced = tal.trace(ChatPromptTemplate([("human", "{q}")]))
    with ta.using({"prompt.human": "no variable"}), pytest.raises(ta.ParameterError, match=r"prompt\.human: .*lost"):
        traced.invoke({"q": "x"})
