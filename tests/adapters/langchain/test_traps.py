"""What LangChain, Python or a tracer can get wrong, each as a promise."""

from __future__ import annotations

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.outputs import Generation, LLMResult
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
    RunnableSequence,
)
from langchain_core.runnables.config import var_child_runnable_config

import trace_adapters as ta
import trace_adapters_langchain as tal
from trace_adapters import Node
from trace_adapters_langchain.recording import active


def edges(node: Node, control: bool) -> set[str]:
    """Names of the operations and parameters that reach a node by data alone, or by control edges too."""
    found: set[str] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        found.add(one.name)
        pairs = zip(one.recorded_inputs, one.sources, strict=True)
        waiting += [source for name, source in pairs if control or not tal.is_control(name)]
    return found


def fail(x: Any) -> Any:
    raise ValueError("no")


def double(x: Any) -> Any:
    return x * 2


def add_one(x: Any) -> Any:
    return x + 1


def is_big(x: Any) -> bool:
    return x > 10


def test_a_fallbacks_attempts_are_its_own() -> None:
    """LangChain reports them as siblings of the fallback, at the root as runs without a parent."""
    fallback = RunnableLambda(fail).with_fallbacks([RunnableLambda(double)])
    for chain in (
        fallback,
        RunnableLambda(add_one) | fallback,
        RunnablePassthrough() | fallback.with_config(run_name="x"),
    ):
        node = tal.trace(chain).node(3)
        assert node.data in (6, 8)
        assert "double" in edges(node, control=False)
        assert "fail" not in edges(node, control=False)
        assert {"double", "fail"} <= edges(node, control=True)


@pytest.mark.parametrize("bind", [lambda r: r.bind(), lambda r: r.with_config(tags=["t"]), lambda r: r.with_retry()])
def test_bound_steps_in_branches_and_maps_stay_where_they_are(bind: Any) -> None:
    """LangChain reports them as part of the run further out."""
    branch = RunnableLambda(add_one) | RunnableBranch((is_big, bind(RunnableLambda(double))), RunnableLambda(fail))
    node = tal.trace(branch).node(10)
    assert node.data == 22
    assert edges(node, control=False) >= {"double", "add_one"}
    assert "is_big" not in edges(node, control=False)
    assert "is_big" in edges(node, control=True)

    each = RunnableLambda(lambda x: [x, x + 100]) | (RunnableLambda(add_one) | bind(RunnableLambda(double))).map()
    traced = tal.trace(each | RunnableLambda(lambda items: items[1]))
    items = tal.trace(each).node(1)
    assert items.data == [4, 204]
    first, second = items.recorded_inputs.values()
    assert [first.data, second.data] == [4, 204]
    assert [n.parents[0].parents[0].data for n in (first, second)] == [1, 101]
    assert traced.node(1).data == 204


def test_who_chose_a_branch_that_fails_is_told() -> None:
    """A wrong condition often shows as a crash in the branch that should not have been taken."""
    branch = RunnableLambda(add_one) | RunnableBranch((is_big, RunnableLambda(fail)), RunnableLambda(double))
    node = tal.trace(branch).node(10)
    assert node.failed
    assert [p.key for p in ta.propagate(node, "x").parameters if p.key == "is_big"] == ["is_big"]
    assert "is_big" not in edges(node, control=False)

    def choose(x: Any) -> Any:
        return failing if len(x) > 1 else None

    failing = RunnableLambda(fail)
    routed = tal.trace(RunnableLambda(double) | RunnableLambda(choose)).node("a")
    assert isinstance(routed.data, ValueError)
    assert {p.key for p in ta.propagate(routed, "x").parameters} == {"double", "choose"}


def test_a_retry_depends_on_the_attempt_that_went_well() -> None:
    calls = []

    def flaky(x: Any) -> Any:
        calls.append(x)
        if len(calls) < 3:
            raise ValueError(f"attempt {len(calls)}")
        return x

    node = tal.trace(RunnableLambda(flaky).with_retry(wait_exponential_jitter=False)).node("x")
    assert node.data == "x"
    controls = {name: source for name, source in node.recorded_inputs.items() if tal.is_control(name)}
    assert [str(failed.data) for failed in controls.values()] == ["attempt 1", "attempt 2"]


class TakesWhatWorks(Runnable[Any, Any]):
    """Runs one thing, and if it fails takes its input; LangChain hears only of the thing."""

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        try:
            return RunnableLambda(fail).invoke(input, config)
        except ValueError:
            return input


def test_a_failure_that_somebody_handled_is_no_failure() -> None:
    for chain in (
        TakesWhatWorks(),
        RunnableLambda(double) | TakesWhatWorks(),
        TakesWhatWorks() | RunnableLambda(double),
    ):
        node = tal.Traced(chain, ()).node(1)
        assert node.data in (1, 2)
        assert not node.failed
        assert "fail" in edges(node, control=False)
        assert ("double" in edges(node, control=False)) == (node.data == 2)


def test_no_input_hides_another_of_its_name() -> None:
    """A field called like what a function reads of us, or like a step that it calls."""

    def ask(x: dict[str, Any]) -> Any:
        return later.invoke([inner.invoke(x), str(x)])

    inner, later = RunnableLambda(str, name="code"), RunnableLambda(len, name="later")
    chain = (
        RunnablePassthrough() | {"code": RunnableLambda(double), "later": RunnableLambda(add_one)} | RunnableLambda(ask)
    )
    node = tal.trace(chain).node(3)
    assert {p.key for p in ta.propagate(node, "x").parameters} == {"double", "add_one", "ask"}
    assert {"code", "code_2", "code_3"} <= set(node.recorded_inputs)


def test_equal_texts_are_no_provenance() -> None:
    """The field that happens to hold what a classifier answers is not where the answer came from."""

    def classify(x: dict[str, str]) -> str:
        return "math" if "+" in x["question"] else "other"

    def use(x: dict[str, str]) -> str:
        return x["kind"]

    chain = RunnablePassthrough.assign(kind=classify) | RunnableLambda(use)
    node = tal.trace(chain).node({"question": "2+2", "topic": "math"})
    assert node.data == "math"
    assert "question" in edges(node, control=True)
    assert "topic" not in edges(node, control=True)


def test_a_step_that_changes_its_input_does_not_rewrite_the_record() -> None:
    def spoil(x: dict[str, Any]) -> str:
        x["q"], x["new"] = "spoiled", ["more"]
        return "done"

    node = tal.trace(RunnablePassthrough() | RunnableLambda(spoil)).node({"q": "asked", "list": [1]})
    assert node.recorded_inputs["q"].data == "asked"
    assert "new" not in node.recorded_inputs


def test_a_functions_own_threads_keep_the_candidate() -> None:
    """They lose the context, and with it the recording, but not the values."""

    def in_threads(x: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            bare = pool.submit(inner.invoke, {"q": x}).result().text
            carried = pool.submit(copy_context().run, inner.invoke, {"q": x}).result().text
        return [bare, carried]

    inner = tal.trace(PromptTemplate.from_template("{q}?")).with_values({"prompt": "{q}!"})
    with tal.record() as tape:
        assert RunnableLambda(in_threads).invoke("hi") == ["hi!", "hi!"]
    assert [run.kind for run in tape.runs] == ["chain", "prompt"]
    assert ta.propagate(tape.node(), "x").candidate == {"prompt": "{q}!"}


def test_nothing_is_left_behind_in_the_context() -> None:
    traced = tal.trace(RunnableLambda(double) | RunnableLambda(fail))
    for call in (lambda: traced.node(1), lambda: traced.node_batch([1, 2]), lambda: asyncio.run(traced.anode(1))):
        call()
        assert active() is None
        assert var_child_runnable_config.get() is None


def test_failures_do_not_keep_the_run_alive() -> None:
    class Held:
        pass

    kept: list[Any] = []

    def fail_holding(x: Any) -> Any:
        held = Held()
        kept.append(weakref.ref(held))
        raise ValueError("no")

    node = tal.trace(RunnableLambda(double) | RunnableLambda(fail_holding)).node(1)
    gc.collect()
    assert node.failed
    assert kept[0]() is None


def test_traces_do_not_hold_each_other() -> None:
    """A context variable that is not reset links each trace to all before it."""
    traced = tal.trace(RunnableLambda(add_one) | RunnableLambda(double))
    first = weakref.ref(traced.node(1))
    traced.node(2)
    gc.collect()
    assert first() is None


def test_candidates_run_side_by_side() -> None:
    """By changing prompts in place, some of these would be wrong."""
    traced = tal.trace(PromptTemplate.from_template("0 {q}") | RunnableLambda(lambda p: p.text))
    candidates = [traced.with_values({"prompt": f"{n} {{q}}"}) for n in range(16)]

    def run(n: int) -> bool:
        node = candidates[n % 16].node({"q": "x"})
        value = next(iter(ta.propagate(node, "x").candidate.values()))
        return node.data == f"{n % 16} x" and value == f"{n % 16} {{q}}"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(run, range(800)))


class CountingLLM(FakeListLLM):
    batches: list[int]

    def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        self.batches.append(len(prompts))
        return LLMResult(generations=[[Generation(text=prompt)] for prompt in prompts])


def test_a_batch_asks_the_provider_once() -> None:
    model = CountingLLM(responses=["x"], batches=[])
    traced = tal.trace(PromptTemplate.from_template("{q}?") | model)
    nodes = traced.node_batch([{"q": str(n)} for n in range(3)])
    assert model.batches == [3]
    assert [node.data for node in nodes] == ["0?", "1?", "2?"]
    assert [node.parents[0].data for node in nodes] == ["0?", "1?", "2?"]


def test_a_stream_that_is_left_early_is_no_failure() -> None:
    def count(chunks: Any) -> Any:
        yield from map(str, range(1000))

    with tal.record() as tape:
        stream = (RunnableLambda(double) | RunnableGenerator(count)).stream("x")
        assert [next(stream), next(stream)] == ["0", "1"]
        stream.close()
    assert not tape.node().failed


def test_a_streams_inputs_are_known_at_its_end() -> None:
    with tal.record() as tape:
        assert list((RunnableLambda(double) | RunnableLambda(add_one)).stream(3)) == [7]
    assert [run.inputs for run in tape.runs] == [3, 3, 6]


def test_assign_keeps_its_mapper() -> None:
    chain = RunnablePassthrough.assign(b=PromptTemplate.from_template("{a}"))
    plain = tal.trace(chain).with_values({"prompt": "{a}!"}).plain()
    assert type(plain.mapper) is type(chain.mapper)
    assert plain.invoke({"a": "x"})["b"].text == "x!"


def test_the_traced_chain_carries_nothing_of_ours_in_its_steps() -> None:
    chat = ChatPromptTemplate([("system", "Be brief."), ("human", "{q}")])
    chain = chat | FakeListLLM(responses=["x"]) | RunnableLambda(double)
    plain = tal.trace(chain).with_values({"prompt.system": "Be long."}).plain()
    assert isinstance(plain, RunnableSequence)
    assert plain.steps[0].metadata is None
    assert plain.steps[0].tags is None
    assert {type(step).__module__.partition(".")[0] for step in plain.steps} == {"langchain_core"}


def test_a_traced_chain_inside_a_function_brings_its_parameters() -> None:
    inner = tal.trace(PromptTemplate.from_template("{q}?"))

    def ask(x: str) -> str:
        return inner.invoke({"q": x}).text

    node = tal.trace(RunnableLambda(double) | RunnableLambda(ask)).node("hi")
    assert node.data == "hihi?"
    assert {p.key for p in ta.propagate(node, "x").parameters} == {"double", "ask", "prompt"}


def test_configs_of_the_user_reach_the_chain() -> None:
    seen: list[RunnableConfig] = []

    def look(x: Any, config: RunnableConfig) -> Any:
        seen.append(config)
        return x

    traced = tal.trace(RunnableLambda(double) | RunnableLambda(look))
    traced.node(1, {"configurable": {"who": "me"}, "tags": ["mine"]})
    traced.node_batch([1], [{"configurable": {"who": "you"}}])
    assert [config["configurable"]["who"] for config in seen] == ["me", "you"]
    assert "mine" in seen[0]["tags"]
