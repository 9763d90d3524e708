"""LangChain's models can be asked by optimizers; the model calls of chains are in the ledger, with what they cost."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

import trace_adapters as ta
from trace_adapters.extend import record_calls
from trace_adapters.testing.openai_server import Completion, Failure, OpenAIServer
from trace_adapters_langchain.calls import Stopped, listening
from trace_adapters_langchain.models import as_lm, chat_model

USED = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}


def fake(*texts: str, **fields: Any) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(text, usage_metadata=USED) for text in texts]), **fields)


def openai_model(server: OpenAIServer, **options: Any) -> Any:
    openai = pytest.importorskip("langchain_openai")
    options = {"max_retries": 0, **options}
    return openai.ChatOpenAI(model="some-model", base_url=server.base_url, api_key="secret", **options)


def test_as_lm_takes_chat_models() -> None:
    """`ta.as_lm` finds the adapter; usage comes from `usage_metadata`, and a cost that nobody says is NULL."""
    calls: list[Any] = []
    with record_calls(calls.append):
        reply = ta.as_lm(fake("hello"))("hi", role="optimizer")[0]
    assert (reply.text, reply.usage) == ("hello", ta_usage(12, 3))
    assert reply.usage.cost_usd is None
    assert [(call.role, call.usage.prompt_tokens, call.cached) for call in calls] == [("optimizer", 12, False)]


def ta_usage(prompt: int, completion: int) -> Any:
    from trace_adapters.extend import Usage

    return Usage(prompt, completion)


async def test_as_lm_awaits() -> None:
    replies = await ta.as_lm(fake("one", "two")).acall("hi", n=2)
    assert [reply.text for reply in replies] == ["one", "two"]


def test_as_lm_takes_models_that_give_a_text() -> None:
    assert ta.as_lm(FakeListLLM(responses=["plain"]))("hi")[0].text == "plain"


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("place", ["own", "global", "bound"])
def test_samples_are_told_apart_in_a_cache(asynchronous: bool, place: str) -> None:
    """A model cache would hide that samples differ: each has a place of its own, and is found there again."""
    cache = InMemoryCache()
    model: Any = fake("a", "b", "c", "d", cache=None if place == "global" else cache)
    if place == "global":
        set_llm_cache(cache)
    if place == "bound":
        model = model.bind(temperature=0.5)
    lm = ta.as_lm(model)

    def ask(**options: Any) -> list[tuple[str, bool]]:
        replies = asyncio.run(lm.acall("hi", **options)) if asynchronous else lm("hi", **options)
        return [(reply.text, reply.cached) for reply in replies]

    try:
        assert ask(n=2) == [("a", False), ("b", False)]
        assert ask(n=3) == [("a", True), ("b", True), ("c", False)]
        assert ask(sample_index=2) == [("c", True)]
        assert model.invoke("hi").content == "a" if place != "bound" else True  # the user's own place is sample 0
    finally:
        set_llm_cache(None)


def test_a_cached_reply_costs_nothing() -> None:
    lm = ta.as_lm(fake("a", cache=InMemoryCache()))
    lm("hi")
    again = lm("hi")[0]
    assert again.cached
    assert (again.usage.prompt_tokens, again.usage.cost_usd) == (0, 0.0)


def test_options_reach_the_server() -> None:
    with OpenAIServer([Completion("x"), Completion("y")]) as server:
        ta.as_lm(openai_model(server))("hi", n=2, temperature=0.5, max_tokens=7, seed=3)
    bodies = [request.body for request in server.requests]
    assert [body["temperature"] for body in bodies] == [0.5, 0.5]
    assert bodies[0]["seed"] == 3
    assert bodies[1]["seed"] != 3  # else both samples are one
    assert 7 in bodies[0].values()


def test_a_server_that_fails_is_a_model_error() -> None:
    with OpenAIServer(lambda request: Failure(500)) as server, pytest.raises(ta.ModelError, match="some-model"):
        ta.as_lm(openai_model(server))("hi")


def test_what_cannot_be_invoked_is_refused() -> None:
    with pytest.raises(ta.AdapterError, match="chat model"):
        as_lm(object())


def test_a_chat_model_asks_the_server_of_an_lm() -> None:
    """`chat_model` makes a real `ChatOpenAI`, which holds the `ta.LM`, and so its server, as long as it lives."""
    pytest.importorskip("langchain_openai")
    with OpenAIServer([Completion("42", usage=(12, 3))], api_key="secret") as server:
        lm = ta.LM("some-model", base_url=server.base_url, api_key="secret")
        model = chat_model(lm, temperature=0.0, max_tokens=50)
        assert type(model).__name__ == "ChatOpenAI"
        assert any(one is lm for one in _held_by_finalizers())
        assert model.invoke("6 * 7?").content == "42"
    assert server.requests[0].body["model"] == "some-model"
    del model
    gc.collect()
    assert not any(one is lm for one in _held_by_finalizers())


def _held_by_finalizers() -> list[Any]:
    import weakref

    return [one for info in weakref.finalize._registry.values() for one in info.args or ()]  # type: ignore[attr-defined]


def test_what_has_no_server_is_refused() -> None:
    with pytest.raises(ta.SettingError, match=r"ta\.LM"):
        chat_model(ta.ScriptedLM(["hello"]))


def heard(run: Any, role: str = "forward") -> list[Any]:
    calls: list[Any] = []
    with record_calls(calls.append), listening(role):
        run()
    return calls


PROMPT = ChatPromptTemplate.from_messages([("system", "Be short."), ("human", "{q}")])


def test_calls_of_a_chain_are_heard() -> None:
    """Unmodified chains, chains called inside functions, and threads of `batch`."""
    chain = PROMPT | fake(*["x"] * 9)
    outer = RunnableLambda(lambda q: chain.invoke({"q": q}).content)
    assert len(heard(lambda: chain.invoke({"q": "a"}))) == 1
    assert len(heard(lambda: outer.invoke("a"))) == 1
    calls = heard(lambda: chain.batch([{"q": "a"}, {"q": "b"}]))
    assert sorted(call.messages[-1]["content"] for call in calls) == ["a", "b"]
    assert calls[0].messages[0] == {"role": "system", "content": "Be short."}
    assert (calls[0].usage.prompt_tokens, calls[0].usage.cost_usd) == (12, None)
    assert calls[0].replies == ("x",)


async def test_calls_in_tasks_are_heard() -> None:
    chain = PROMPT | fake("x", "y")
    calls: list[Any] = []
    with record_calls(calls.append), listening():
        await asyncio.gather(chain.ainvoke({"q": "a"}), chain.ainvoke({"q": "b"}))
    assert len(calls) == 2


def test_a_failed_call_is_heard_and_is_the_models_fault() -> None:
    def fail(_: Any) -> str:
        raise KeyError("not the model")

    with OpenAIServer(lambda request: Failure(429)) as server, listening() as listener:
        chain = PROMPT | openai_model(server)
        calls: list[Any] = []
        with record_calls(calls.append), pytest.raises(Exception, match="429") as caught, listening() as listener:
            chain.invoke({"q": "a"})
        assert listener.is_model_failure(caught.value)
        assert not listener.is_model_failure(KeyError("not the model"))
    assert [call.status for call in calls] == ["error"]


def test_a_cached_call_is_told_from_a_paid_one() -> None:
    chain = PROMPT | fake("x", cache=InMemoryCache())
    calls = heard(lambda: [chain.invoke({"q": "a"}), chain.invoke({"q": "a"})])
    assert [(call.cached, call.usage.prompt_tokens) for call in calls] == [(False, 12), (True, 0)]


def test_a_call_is_counted_once() -> None:
    """`ta.as_lm` reports its own calls; a listener around it does not report them again."""
    lm = ta.as_lm(fake("x", "y"))
    assert len(heard(lambda: lm("hi"))) == 1
    assert len(heard(lambda: RunnableLambda(lambda q: lm(q)[0].text).invoke("hi"))) == 1


def test_nothing_is_heard_outside() -> None:
    calls: list[Any] = []
    with record_calls(calls.append):
        with listening():
            pass
        (PROMPT | fake("x")).invoke({"q": "a"})
    assert calls == []


def test_a_run_that_was_given_up_ends_at_its_next_step() -> None:
    with listening() as listener:
        listener.stop()
        with pytest.raises(Stopped, match="time limit"):
            (PROMPT | fake("x")).invoke({"q": "a"})


def test_a_spent_budget_is_kept_for_the_caller() -> None:
    """What a sink raises cannot end a run from inside a callback; it waits for whoever began the run."""

    def spent(_: Any) -> None:
        raise ta.BudgetExceeded("spent")

    with record_calls(spent), listening() as listener:
        assert (PROMPT | fake("x")).invoke({"q": "a"}).content == "x"
    assert isinstance(listener.interruption, ta.BudgetExceeded)
