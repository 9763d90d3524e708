"""A block is recorded as it is: unmodified chains, in functions, threads and tasks."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableLambda

import trace_adapters as ta
import trace_adapters_langchain as tal
from trace_adapters import DataError


def add(x: int) -> int:
    return x + 1


def double(x: int) -> int:
    return x * 2


def names(node: Any) -> set[str]:
    found, waiting = set(), [node]
    while waiting:
        one = waiting.pop()
        found.add(one.name)
        waiting += one.sources
    return found


def called_with(node: Any, name: str) -> list[Any]:
    """What the calls of a function that a node depends on were given."""
    found, waiting = {node: None}, [node]
    while waiting:
        for source in waiting.pop().sources:
            if source not in found:
                found[source] = None
                waiting.append(source)
    return [one.sources[0].data for one in found if one.name == name]


def test_every_call_of_a_block_is_a_node() -> None:
    with tal.record() as tape:
        (RunnableLambda(add) | RunnableLambda(double)).invoke(1)
        RunnableLambda(add).invoke(5)
    assert [node.data for node in tape.nodes()] == [4, 6]
    assert tape.node().data == 6
    assert {"add", "double", "input"} <= names(tape.nodes()[0])


def test_a_failure_goes_on_to_the_caller_and_is_a_node() -> None:
    with pytest.raises(TypeError), tal.record() as tape:
        (RunnableLambda(double) | RunnableLambda(add)).invoke("x")
    assert tape.node().failed
    assert tape.node().name == "add"


def test_nothing_called_is_told() -> None:
    with tal.record() as tape:
        pass
    with pytest.raises(DataError, match="Nothing was called"):
        tape.node()


def test_blocks_side_by_side_hear_only_their_own() -> None:
    def block(n: int) -> list[int]:
        with tal.record() as tape:
            (RunnableLambda(add) | RunnableLambda(double)).batch([n, n + 1])
        return sorted(node.data for node in tape.nodes())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(block, range(40))) == [[2 * n + 2, 2 * n + 4] for n in range(40)]

    async def task(n: int) -> int:
        with tal.record() as tape:
            await (RunnableLambda(add) | RunnableLambda(double)).ainvoke(n)
        return tape.node().data

    async def tasks() -> list[int]:
        return await asyncio.gather(*map(task, range(40)))

    assert asyncio.run(tasks()) == [2 * n + 2 for n in range(40)]


def test_a_block_inside_a_block_is_heard_by_both() -> None:
    traced = tal.trace(RunnableLambda(add))

    def look_inside(x: int) -> int:
        with tal.record() as tape:
            found = RunnableLambda(double).invoke(x)
        return found if tape.node().data == found else 0

    with tal.record() as outer:
        RunnableLambda(add).invoke(1)
        with tal.record() as inner:
            RunnableLambda(double).invoke(1)
        assert [node.data for node in (traced.node(7), *traced.node_batch([8, 9]))] == [8, 9, 10]
        RunnableLambda(look_inside).invoke(4)
    assert [node.data for node in inner.nodes()] == [2]
    assert sorted(node.data for node in outer.nodes()) == [2, 2, 8, 8, 9, 10]  # a batch keeps no order of its calls
    assert [len(ta.propagate(node, "x").parameters) for node in outer.nodes()] == [0, 0, 1, 1, 1, 0]
    assert [run.name for run in outer.runs][-2:] == ["look_inside", "double"]


def test_a_traced_chain_in_a_batch_brings_its_parameters() -> None:
    """A function of a chain calls another traced chain: in one batch, too, and inside a block that hears it all."""
    inner = tal.trace(PromptTemplate.from_template("{q}?", name="inner"))
    outer = tal.trace(
        PromptTemplate.from_template("{q}!", name="outer") | RunnableLambda(lambda p: inner.invoke(p.text)), "prompt"
    )
    with tal.record() as tape:
        nodes = outer.node_batch([{"q": "1"}, {"q": "2"}])
    for node in (*nodes, *tape.nodes()):
        assert [p.key for p in ta.propagate(node, "x").parameters] == ["outer", "inner"]


def test_a_traced_chain_in_a_block_brings_its_parameters() -> None:
    traced = tal.trace(PromptTemplate.from_template("{q}?") | RunnableLambda(lambda p: p.text))
    with tal.record() as tape:
        assert traced.with_values({"prompt": "{q}!"}).invoke({"q": "hi"}) == "hi!"
        assert traced.batch([{"q": "a"}, {"q": "b"}]) == ["a?", "b?"]
    candidates = [ta.propagate(node, "x").candidate["prompt"] for node in tape.nodes()]
    assert candidates == ["{q}!", "{q}?", "{q}?"]


@pytest.mark.parametrize("bind", [lambda r: r.bind(), lambda r: r.with_retry(), lambda r: r.with_config(tags=["t"])])
def test_bound_steps_of_unmodified_chains_are_put_back(bind: Any) -> None:
    """LangChain tells them as children of the run further out."""
    branch = RunnableBranch((lambda x: x > 1, bind(RunnableLambda(double))), RunnableLambda(add))
    with tal.record() as tape:
        (RunnableLambda(add) | branch).invoke(1)
    assert {"double", "add"} <= names(tape.node())

    def calls_batch(x: int) -> int:
        return sum(inner.batch([x, x + 10]))

    inner = RunnableLambda(add) | bind(RunnableLambda(double)) | RunnableLambda(add)
    with tal.record() as tape:
        assert RunnableLambda(calls_batch).invoke(1) == 5 + 25
    outputs = {node.data: node for node in walk(tape.node()) if node.name == "double"}
    assert set(outputs) == {4, 24}
    reached = {output: {one.data for one in walk(node)} & {2, 12} for output, node in outputs.items()}
    assert reached == {4: {2}, 24: {12}}


def test_fallbacks_and_retries_of_unmodified_chains_have_control_edges() -> None:
    def fail(x: int) -> int:
        raise ValueError("no")

    with tal.record() as tape:
        (RunnableLambda(add) | RunnableLambda(fail).with_fallbacks([RunnableLambda(double)])).invoke(1)
    node = tape.node()
    assert node.data == 4
    assert [name for name in node.recorded_inputs if tal.is_control(name)] == ["control_failed_attempt_1"]


def test_what_was_bound_to_a_whole_chain_reaches_its_output() -> None:
    def accepts(x: int, **kwargs: Any) -> int:
        return x

    tools = [{"name": "f", "description": "An F."}]
    traced = tal.trace((RunnableLambda(accepts) | RunnableLambda(add)).bind(tools=tools), "tool")
    node = traced.node(1)
    assert node.data == 2
    assert [p.key for p in ta.propagate(node, "x").parameters] == ["f.description"]


def walk(node: Any) -> list[Any]:
    found, waiting = [], [node]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += one.sources
    return found


def test_models_that_are_asked_at_the_same_time_stay_apart(answering: Any) -> None:
    """Of models that answer one question side by side, none is taken for a part of the other."""
    both = threading.Barrier(2, timeout=20)

    def answer(text: str) -> str:
        both.wait()
        return text

    async def ask_both(question: str) -> str:
        first, second = answering(answer), answering(answer)
        return str(await asyncio.gather(first.ainvoke(question), second.ainvoke(question)))

    node = asyncio.run(tal.Traced(RunnableLambda(ask_both), ()).anode("why"))
    models = [one for one in node.sources if one.name == "model"]
    assert len(models) == 2
    assert not any("model" in names(source) for one in models for source in one.sources)


def test_an_input_that_a_batch_gave_up_for_another_has_failed() -> None:
    """LangChain ends all runs of a batch with the error of one; those that had gone well so far failed with it."""
    chain = RunnableLambda(double) | RunnableLambda(add) | RunnableLambda(double)
    with pytest.raises(TypeError) as raised, tal.record() as tape:
        chain.batch([1, "x"])
    first, second = tape.nodes()
    assert (first.failed, first.data, second.failed) == (True, raised.value, True)
    assert "add" in names(first)


def test_a_graph_that_stopped_its_node_failed_with_its_own_error() -> None:
    """The node was cancelled; what the caller gets is that it took too long."""
    langgraph = pytest.importorskip("langgraph.graph")

    async def slow(state: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(5)
        return state

    builder = langgraph.StateGraph(dict)
    builder.add_node("slow", slow)
    builder.add_edge(langgraph.START, "slow")
    graph = builder.compile()
    graph.step_timeout = 0.05
    with pytest.raises(TimeoutError) as raised, tal.record() as tape:
        asyncio.run(graph.ainvoke({"x": 1}))
    assert tape.node().data is raised.value
    assert {"slow", "x"} <= names(tape.node())


@pytest.mark.parametrize(
    ("given", "expected"),
    [([1, 2, 3], [[1], [2], [3]]), ([1, 1, 3], [[1, 1, 3]]), (list(range(300)), [list(range(300))])],
    ids=["different", "two alike", "many"],
)
def test_items_of_an_unmodified_map_are_told_apart(given: list[int], expected: list[list[int]]) -> None:
    """By what went in. Where that is the same for two, or there are too many, each may depend on all: never too few."""
    chain = (
        RunnableLambda(lambda x: x) | (RunnableLambda(add) | RunnableLambda(double)).map() | RunnableLambda(add).map()
    )
    with tal.record() as tape:
        assert chain.invoke(given) == [2 * x + 3 for x in given]
    node = tape.node()
    items = list(node.recorded_inputs.values()) if len(expected) > 1 else [node]
    assert [sorted(called_with(item, "double")) for item in items] == [[x + 1 for x in one] for one in expected]
