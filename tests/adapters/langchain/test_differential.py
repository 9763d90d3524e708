"""With and without us: the same outputs, events and errors, and the user's callbacks see the same runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableBranch, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tracers import BaseTracer

import trace_adapters_langchain as tal
from trace_adapters_langchain.delegating import Delegate


def told(value: Any) -> str:
    """`repr` without what is new at each run: ids of messages, addresses."""
    return re.sub(r"lc_run-[-\w]+|run-[-\w]{30,}|0x[0-9a-f]+", "…", repr(value))


class Seen(BaseCallbackHandler):
    """The user's own callback: what it hears of each run, in order, without ids."""

    run_inline = True

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._names: dict[Any, str] = {}

    def _start(
        self, kind: str, inputs: Any, *, run_id: Any, parent_run_id: Any, tags: Any, metadata: Any, name: Any
    ) -> None:
        self._names[run_id] = str(name)
        parent = self._names.get(parent_run_id)
        plain = {key: value for key, value in (metadata or {}).items() if not key.startswith("ls_")}
        self.events.append((kind, str(name), type(name), parent, sorted(tags or ()), plain, told(inputs)))

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._start(str(kwargs.get("run_type") or "chain"), inputs, **_about(kwargs))

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self._start("model", messages, **_about(kwargs))

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.events.append(("end", self._names[kwargs["run_id"]], told(outputs)))

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.events.append(("end", self._names[kwargs["run_id"]], response.generations[0][0].text))

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self.events.append(("error", self._names[kwargs["run_id"]], told(error)))


def _about(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: kwargs.get(name) for name in ("run_id", "parent_run_id", "tags", "metadata", "name")}


class Tracer(BaseTracer):
    """A tracer as LangChain's own are: it writes down every run with its inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.trees: list[Any] = []

    def _persist_run(self, run: Any) -> None:
        self.trees.append(self._tree(run))

    def _tree(self, run: Any) -> Any:
        children = [self._tree(child) for child in run.child_runs]
        return (
            run.name,
            run.run_type,
            sorted(run.tags or ()),
            told(run.inputs),
            told(run.outputs),
            (run.error or "").partition("Traceback")[0],
            children,
        )


def shorten(text: str) -> str:
    return text[:40]


def fail_on_long(x: Any) -> Any:
    if len(str(x)) > 60:
        raise ValueError("too long")
    return x


def is_short(x: Any) -> bool:
    return len(x["question"]) < 5


def inner(x: Any) -> Any:
    return NESTED.invoke(x)


NESTED = RunnableLambda(shorten) | RunnableLambda(str.upper)


def chains(model: Any) -> dict[str, Runnable[Any, Any]]:
    prompt = ChatPromptTemplate([("system", "Be brief."), ("human", "{question}")])
    answer = prompt | model | StrOutputParser()
    return {
        "sequence": answer | shorten,
        "parallel": RunnableParallel(answer=answer, question=RunnablePassthrough()),
        "assign": RunnablePassthrough.assign(answer=answer) | RunnableLambda(fail_on_long),
        "branch": RunnableBranch((is_short, answer), RunnableLambda(fail_on_long) | prompt),
        "fallbacks": (prompt | model | RunnableLambda(fail_on_long)).with_fallbacks([answer | shorten]),
        "retry": answer | RunnableLambda(fail_on_long).with_retry(stop_after_attempt=2, wait_exponential_jitter=False),
        "map": RunnableLambda(lambda x: [x, x]) | answer.map(),
        "bound": prompt | model.bind(stop=["x"]).with_config(tags=["mine"], metadata={"a": 1}) | StrOutputParser(),
        "nested": answer | RunnableLambda(inner),
    }


NAMES = ("sequence", "parallel", "assign", "branch", "fallbacks", "retry", "map", "bound", "nested")
INPUTS = ({"question": "hi"}, {"question": "What is the answer to this?"}, {"question": "x" * 70}, {"other": "no"})


def calls() -> dict[str, Callable[[Any, Any, Any], Any]]:
    async def collected(chain: Any, x: Any, config: Any) -> list[Any]:
        return [chunk async for chunk in chain.astream(x, config)]

    async def events(chain: Any, x: Any, config: Any) -> list[Any]:
        found = [event async for event in chain.astream_events(x, config, version="v2")]
        return [(e["event"], e["name"], sorted(e["tags"]), told(e["data"])[:200]) for e in found]

    return {
        "invoke": lambda chain, x, config: chain.invoke(x, config),
        "batch": lambda chain, x, config: chain.batch([x, x], config, return_exceptions=True),
        "stream": lambda chain, x, config: list(chain.stream(x, config)),
        "ainvoke": lambda chain, x, config: asyncio.run(chain.ainvoke(x, config)),
        "abatch": lambda chain, x, config: asyncio.run(chain.abatch([x], config, return_exceptions=True)),
        "astream": lambda chain, x, config: asyncio.run(collected(chain, x, config)),
        "astream_events": lambda chain, x, config: asyncio.run(events(chain, x, config)),
    }


def outcome(call: Any, chain: Any, x: Any) -> tuple[str, list[Any], list[Any]]:
    seen, tracer = Seen(), Tracer()
    try:
        given = told(call(chain, dict(x), {"callbacks": [seen, tracer], "max_concurrency": 1}))
    except Exception as error:
        given = told(error)
    return given, seen.events, tracer.trees


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", list(calls()))
def test_a_traced_chain_is_the_chain(answering: Any, name: str, way: str) -> None:
    """Not recording, the chain itself runs: the same outputs, errors, events and runs."""
    chain = chains(answering(stable))[name]
    traced = tal.trace(chain)
    for x in inputs_of(name):
        assert _unordered(name, way, outcome(calls()[way], traced, x)) == _unordered(
            name, way, outcome(calls()[way], chain, x)
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", [way for way in calls() if way != "astream_events"])
def test_recording_changes_nothing(answering: Any, name: str, way: str) -> None:
    """An unmodified chain in a `record` block gives the same, and its callbacks see the same runs."""
    chain = chains(answering(stable))[name]
    for x in inputs_of(name):
        bare = outcome(calls()[way], chain, x)
        with tal.record() as tape:
            recorded = outcome(calls()[way], chain, x)
        assert _unordered(name, way, recorded) == _unordered(name, way, bare)
        assert tape.runs


@pytest.mark.parametrize("name", NAMES)
def test_a_node_holds_what_the_chain_gives(answering: Any, name: str) -> None:
    """The recorded, repaired chain gives the same, and its runs have the same names, tags and values."""
    chain = chains(answering(stable))[name]
    traced = tal.trace(chain)
    for x in inputs_of(name):
        seen, bare = Seen(), Seen()
        node = traced.node(dict(x), {"callbacks": [seen]})
        try:
            wanted: Any = chain.invoke(dict(x), {"callbacks": [bare]})
        except Exception as error:
            wanted = error
        assert told(node.data) == told(wanted)
        if name not in ("fallbacks",):  # there LangChain names the wrong parents
            assert sorted(map(_without_parent, seen.events)) == sorted(map(_without_parent, bare.events))


def inputs_of(name: str) -> tuple[dict[str, str], ...]:
    """Where an item or a branch fails, how far LangChain is with the others is a matter of luck."""
    return INPUTS[:3] if name in ("map", "parallel") else INPUTS


def stable(text: str) -> str:
    return f"The answer to {text.rpartition('human: ')[2]}"


def _without_parent(event: tuple[Any, ...]) -> str:
    return told((*event[:3], *event[4:]) if len(event) > 3 else event)


def _unordered(name: str, way: str, outcome: tuple[str, list[Any], list[Any]]) -> Any:
    """Steps of a mapping run in threads: their order says nothing, in streams neither what began before one failed."""
    given, events, trees = outcome
    if (name, way) in (("parallel", "stream"), ("parallel", "astream"), ("parallel", "astream_events")):
        return sorted(given)
    if name not in ("parallel", "assign", "map"):
        return given, events, trees
    return given if name != "parallel" else sorted(given), sorted(map(told, events)), sorted(told(trees))


def test_every_method_of_a_runnable_is_the_chains() -> None:
    """LangChain makes all others from these."""
    own = {"invoke", "ainvoke", "batch", "abatch", "stream", "astream", "transform", "atransform"}
    assert own <= set(vars(Delegate))


def test_messages_of_models_are_untouched(answering: Any) -> None:
    chain = ChatPromptTemplate([("human", "{question}")]) | answering(lambda text: "yes")
    output = tal.trace(chain).node({"question": "?"}).data
    assert isinstance(output, AIMessage)
