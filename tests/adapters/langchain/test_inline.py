"""Our handlers run in the event loop itself, and nobody else's handler hears less for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import FakeListLLM, FakeStreamingListLLM
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda

import trace_adapters_langchain as tal
from trace_adapters.extend import record_calls
from trace_adapters_langchain.calls import listening


class Heard(BaseCallbackHandler):
    """The user's handler; LangChain calls it in a thread, as it does most."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def on_llm_start(self, serialized: Any, prompts: list[str], **_: Any) -> None:
        self.events.append(("start", prompts))

    def on_llm_end(self, response: Any, **_: Any) -> None:
        self.events.append(("end", response.generations[0][0].text))


class HeardInline(Heard):
    """One that LangChain calls in the loop, as LangSmith's."""

    run_inline = True


class HeardAsync(AsyncCallbackHandler):
    """One of coroutines."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    async def on_llm_start(self, serialized: Any, prompts: list[str], **_: Any) -> None:
        self.events.append(("start", prompts))

    async def on_llm_end(self, response: Any, **_: Any) -> None:
        self.events.append(("end", response.generations[0][0].text))


def text_chain() -> Any:
    """A new one for each call: the model counts its replies."""
    return PromptTemplate.from_template("{q}?") | FakeListLLM(responses=["yes", "no"]) | StrOutputParser()


@pytest.mark.parametrize(
    "handlers", [[], [Heard], [HeardAsync], [HeardInline], [HeardInline, HeardAsync], [Heard, HeardInline]]
)
def test_an_awaited_text_model_is_heard_by_all(handlers: list[type[Any]]) -> None:
    """LangChain tells its start to the inline handlers, else to the others: ours must not decide that."""

    def hear() -> list[Any]:
        seen = [handler() for handler in handlers]
        assert asyncio.run(text_chain().ainvoke({"q": "hi"}, {"callbacks": seen})) == "yes"
        return [one.events for one in seen]

    bare = hear()
    ledger: list[Any] = []
    with record_calls(ledger.append), tal.record() as outer, tal.record() as tape, listening():
        assert hear() == bare
    assert [call.messages for call in ledger] == [[{"role": "user", "content": "hi?"}]]
    for one in (tape, outer):
        (model,) = [run for run in one.runs if run.kind == "model"]
        assert (model.inputs, model.output) == ("hi?", "yes")


def test_the_events_of_an_awaited_text_model_are_streamed() -> None:
    """`astream_events` and `astream_log` listen with handlers of their own."""
    chain = PromptTemplate.from_template("{q}?") | FakeStreamingListLLM(responses=["yes"])

    async def names() -> list[str]:
        return [event["event"] async for event in chain.astream_events({"q": "hi"}, version="v2")]

    bare = asyncio.run(names())
    with tal.record():
        assert asyncio.run(names()) == bare
    assert "on_llm_start" in bare


def test_events_take_no_way_through_threads() -> None:
    """In async code every event would cost a task and a thread."""
    threads: set[int] = set()

    class Shown(dict[str, Any]):
        def items(self) -> Any:  # when the recorder copies what goes in
            threads.add(threading.get_ident())
            return super().items()

    with tal.record() as tape:
        asyncio.run(RunnableLambda(len).ainvoke(Shown(a=1)))
    assert threads == {threading.get_ident()}
    assert tape.node().data == 1
