"""A traced chain is a Runnable that gives what the chain gives, records when asked, and takes other values."""

from __future__ import annotations

import copy
import gc
import inspect
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableGenerator, RunnableLambda, RunnablePassthrough

import trace_adapters as ta
import trace_adapters_langchain as tal


def extract_answer(message: Any) -> str:
    """Read the answer out of the model's reply."""
    return str(message.content).split("Answer:")[1].strip()


def shout(text: str) -> str:
    return text.upper()


@pytest.fixture
def qa(answering: Any) -> Any:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief about {topic}."), ("human", "{question}")])
    model = answering(lambda text: "Answer: four" if "brief" in text else "Answer: the number four")
    return prompt | model | RunnableLambda(extract_answer)


INPUT = {"topic": "math", "question": "2+2?"}


def test_parameters_are_named_by_role_and_function(qa: Any) -> None:
    traced = tal.trace(qa)
    assert list(traced.parameters) == ["prompt.system", "prompt.human", "extract_answer"]
    assert traced.parameters["prompt.system"].data == "Be brief about {topic}."
    assert traced.parameters["extract_answer"].kind == "code"


def test_output_is_the_chains_own(qa: Any) -> None:
    assert tal.trace(qa).invoke(INPUT) == qa.invoke(INPUT) == "four"


def test_with_values_runs_the_new_value_and_leaves_the_chain_alone(qa: Any) -> None:
    traced = tal.trace(qa)
    other = traced.with_values({"prompt.system": "Explain {topic} at length."})
    assert other.invoke(INPUT) == "the number four"
    assert traced.invoke(INPUT) == qa.invoke(INPUT) == "four"


def test_node_leads_from_the_output_to_the_parameters(qa: Any) -> None:
    node = tal.trace(qa).node(INPUT)
    graph = ta.propagate(node, "wrong")
    assert node.data == "four"
    assert [parameter.key for parameter in graph.parameters] == ["prompt.system", "prompt.human", "extract_answer"]
    assert graph.candidate["prompt.human"] == "{question}"


def test_backward_brings_feedback_to_the_parameters(qa: Any) -> None:
    traced = tal.trace(qa)
    traced.node(INPUT).backward("should be a digit")
    assert traced.parameters["extract_answer"].feedback[0].feedback.text == "should be a digit"


def test_a_failure_is_a_node_at_its_line(qa: Any) -> None:
    traced = tal.trace(qa)
    node = tal.trace(qa).with_values({"prompt.system": "Explain {topic}."}).node(INPUT)
    assert not node.failed
    broken = traced.with_values({"extract_answer": "def extract_answer(message):\n    return message.content[99]\n"})
    failed = broken.node(INPUT)
    assert failed.failed
    assert isinstance(failed.data, IndexError)
    assert failed.place == (2, "    return message.content[99]")
    assert [p.key for p in ta.propagate(failed, "x").parameters] == list(traced.parameters)


def test_a_failure_of_the_users_own_function_is_told_by_its_line(answering: Any) -> None:
    chain = PromptTemplate.from_template("{q}") | answering(lambda text: "nothing") | extract_answer
    failed = tal.trace(chain).node({"q": "?"})
    assert failed.failed
    assert failed.place is not None
    assert "split" in failed.place[1]


def test_a_model_that_always_fails_loses_nothing(answering: Any) -> None:
    def refuse(text: str) -> str:
        raise ConnectionError("no server")

    model = answering(refuse)
    traced = tal.trace(ChatPromptTemplate([("human", "{q}")]) | model | RunnableLambda(extract_answer))
    nodes = [traced.node({"q": "0"}), *traced.node_batch([{"q": "1"}, {"q": "2"}])]
    assert [type(node.data) for node in nodes] == [ConnectionError] * 3
    assert [node.operation.language_model for node in nodes if node.operation is not None] == [True] * 3
    assert [[p.key for p in ta.propagate(node, "x").parameters] for node in nodes] == [["prompt.human"]] * 3
    assert sorted(model.asked) == ["human: 0", "human: 1", "human: 2"]  # a batch keeps no order of its calls


def test_node_batch_is_one_batch_with_a_node_each(qa: Any) -> None:
    traced = tal.trace(qa)
    nodes = traced.node_batch([INPUT, {"topic": "math"}, INPUT])
    assert [node.failed for node in nodes] == [False, True, False]
    assert isinstance(nodes[1].data, KeyError)
    assert nodes[2].data == "four"


async def test_async_nodes(qa: Any) -> None:
    traced = tal.trace(qa)
    node = await traced.anode(INPUT)
    nodes = await traced.anode_batch([INPUT, INPUT])
    assert [n.data for n in (node, *nodes)] == ["four"] * 3
    assert all(len(ta.propagate(n, "x").parameters) == 3 for n in (node, *nodes))


def test_it_records_only_when_asked(qa: Any) -> None:
    traced = tal.trace(qa)
    traced.invoke(INPUT)
    assert traced.last_trace is None
    node = traced.node(INPUT)
    assert traced.last_trace is node


def test_values_of_using_and_of_the_parameters_are_in_force(qa: Any) -> None:
    traced = tal.trace(qa)
    long = "Explain {topic}."
    with ta.using({"prompt.system": long}):
        assert traced.invoke(INPUT) == "the number four"
        assert ta.propagate(traced.node(INPUT), "x").candidate["prompt.system"] == long
    assert traced.invoke(INPUT) == "four"
    traced.parameters["prompt.system"].data = long
    assert traced.invoke(INPUT) == "the number four"


def test_a_trace_keeps_the_values_that_were_used(qa: Any) -> None:
    traced = tal.trace(qa)
    with tal.record() as tape, ta.using({"prompt.system": "Explain {topic}."}):
        traced.invoke(INPUT)
    traced.parameters["prompt.system"].data = "Later {topic}."
    assert ta.propagate(tape.node(), "x").candidate["prompt.system"] == "Explain {topic}."


def test_plain_is_langchains_own(qa: Any) -> None:
    other = tal.trace(qa).with_values({"prompt.system": "Explain {topic}."}).plain()
    assert type(other) is type(qa)
    assert type(other.steps[0]) is ChatPromptTemplate
    assert other.steps[0].messages[0].prompt.template == "Explain {topic}."
    assert other.steps[1] is qa.steps[1]
    assert other.steps[2] is qa.steps[2]
    assert qa.steps[0].messages[0].prompt.template == "Be brief about {topic}."


async def test_every_entry_point_gives_what_the_chain_gives(qa: Any) -> None:
    traced = tal.trace(qa)
    assert traced.batch([INPUT, INPUT]) == qa.batch([INPUT, INPUT])
    assert await traced.ainvoke(INPUT) == "four"
    assert await traced.abatch([INPUT]) == ["four"]
    assert list(traced.stream(INPUT)) == list(qa.stream(INPUT))
    assert [chunk async for chunk in traced.astream(INPUT)] == ["four"]
    events = [event["event"] async for event in traced.astream_events(INPUT, version="v2")]
    assert events == [event["event"] async for event in qa.astream_events(INPUT, version="v2")]
    assert (traced | shout).invoke(INPUT) == "FOUR"
    assert traced.with_retry().invoke(INPUT) == "four"
    assert traced.with_fallbacks([RunnableLambda(shout)]).invoke(INPUT) == "four"
    assert copy.deepcopy(traced).invoke(INPUT) == "four"
    assert traced.as_tool(name="qa", description="answers").invoke(INPUT) == "four"
    assert traced.map().invoke([INPUT, INPUT]) == ["four", "four"]
    assert traced.with_config(tags=["mine"]).invoke(INPUT) == traced.bind().invoke(INPUT) == "four"
    assert sorted(traced.batch_as_completed([INPUT, INPUT])) == [(0, "four"), (1, "four")]


def test_traced_chains_in_a_chain_count_as_their_plain_ones(qa: Any) -> None:
    learned = "def extract_answer(message):\n    return message.content[-4:].upper()\n"
    inner = tal.trace(qa).with_values({"extract_answer": learned})
    outer = tal.trace(RunnablePassthrough() | inner | RunnableLambda(shout))
    assert outer.parameters["extract_answer"].data == learned
    assert outer.invoke(INPUT) == outer.node(INPUT).data == "FOUR"
    plain = outer.with_values({"prompt.system": "Explain {topic}."}).plain()
    assert not any(isinstance(step, tal.Traced) for step in plain.steps)
    assert tal.trace(inner).values == inner.values


def test_a_constant_message_is_a_parameter_without_variables(answering: Any) -> None:
    prompt = ChatPromptTemplate.from_messages([SystemMessage('Reply {"a": 1}.'), ("human", "{q}")])
    traced = tal.trace(prompt | answering(lambda text: text))
    other = traced.with_values({"prompt.system": "Reply {x}."})
    assert "system: Reply {x}." in other.invoke({"q": "?"}).content


def test_parallel_and_assign_give_edges_key_by_key(answering: Any) -> None:
    def first(x: dict[str, Any]) -> str:
        return x["a"] + "1"

    def second(x: dict[str, Any]) -> str:
        return x["b"] + "2"

    def pick(x: dict[str, Any]) -> str:
        return x["one"]

    chain = RunnablePassthrough.assign(one=first, two=second) | RunnableLambda(pick)
    node = tal.trace(chain).node({"a": "x", "b": "y"})
    assert [p.key for p in ta.propagate(node, "?").parameters] == ["first", "pick"]


def test_lambdas_of_one_line_are_told_apart() -> None:
    chain = RunnableLambda(lambda x: x + 1) | RunnableLambda(lambda x: x * 10)
    traced = tal.trace(chain)
    texts = [parameter.data for parameter in traced.parameters.values()]
    assert [text.splitlines()[1].strip() for text in texts] == ["return x + 1", "return x * 10"]
    assert not any(key[-1].isdigit() and "_" in key[-2:] for key in traced.parameters)


def keys_of(node: Any) -> list[str]:
    return [parameter.key for parameter in ta.propagate(node, "x").parameters]


async def test_with_record_every_call_leaves_its_trace(qa: Any) -> None:
    """The last one, of each way to call, and nothing else: the user's outputs stay as they are."""
    ways = [
        lambda t, x: t.invoke(x),
        lambda t, x: t.batch([x])[0],
        lambda t, x: "".join(t.stream(x)),
        lambda t, x: "".join(t.transform(iter([x]))),
    ]
    for number, way in enumerate(ways):
        traced = tal.trace(qa, record=True)
        given = {"topic": "math", "question": str(number)}
        assert way(traced, given) == "four"
        assert traced.last_trace.data == "four"
        assert traced.last_trace is traced.last_trace  # lifted once
        assert keys_of(traced.last_trace) == ["prompt.system", "prompt.human", "extract_answer"]
        assert str(number) in str(ta.propagate(traced.last_trace, "x").to_json())
    traced = tal.trace(qa, record=True)
    assert await traced.ainvoke(INPUT) == (await traced.abatch([INPUT]))[0] == "four"
    assert [chunk async for chunk in traced.astream(INPUT)] == ["four"]
    events = [event["event"] async for event in traced.astream_events(INPUT, version="v2")]
    assert events == [event["event"] async for event in qa.astream_events(INPUT, version="v2")]
    assert keys_of(traced.last_trace) == ["prompt.system", "prompt.human", "extract_answer"]


async def call(way: Any, traced: Any) -> Any:
    made = way(traced)
    return await made if inspect.isawaitable(made) else made


async def test_with_record_a_failed_call_is_a_node_and_is_raised() -> None:
    """With its traceback: the exception is the user's."""

    def fail(x: int) -> int:
        raise ZeroDivisionError("none")

    async def first(traced: Any) -> Any:
        return [chunk async for chunk in traced.astream(1)]

    for way in (
        lambda t: t.invoke(1),
        lambda t: t.batch([1]),
        lambda t: list(t.stream(1)),
        lambda t: t.ainvoke(1),
        lambda t: t.abatch([1]),
        first,
    ):
        traced = tal.trace(RunnableLambda(lambda x: x) | RunnableLambda(fail), "fail", record=True)
        with pytest.raises(ZeroDivisionError) as caught:
            await call(way, traced)
        assert traced.last_trace.failed
        assert traced.last_trace.data is caught.value
        assert traced.last_trace.place[1].strip() == 'raise ZeroDivisionError("none")'
        assert any(entry.name == "fail" for entry in caught.traceback)


def test_a_stream_that_is_left_early_leaves_what_came() -> None:
    """And its reader's own calls, between two chunks, are not part of it."""

    def count(chunks: Any) -> Any:
        for chunk in chunks:
            yield from range(chunk)

    traced = tal.trace(RunnableLambda(lambda x: x + 0) | RunnableGenerator(count), "code", record=True)
    chunks = traced.stream(1000)
    assert next(chunks) == 0
    RunnableLambda(shout).invoke("between")
    assert next(chunks) == 1
    chunks.close()
    assert "shout" not in str(ta.propagate(traced.last_trace, "x").to_json())
    assert traced.invoke(3) == 3
    assert traced.last_trace.data == 3


def test_the_last_trace_is_one_whole_run_under_threads(qa: Any) -> None:
    """Whichever ended last; never a mixture, and one run is held, not all."""

    def echo(x: int) -> int:
        return x

    traced = tal.trace(RunnableLambda(echo) | RunnableLambda(lambda x: -x), "echo", record=True)
    seen = []

    def work(x: int) -> int:
        found = traced.invoke(x)
        seen.append(traced.last_trace)
        return found

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(200))) == [-x for x in range(200)]
    for node in seen:
        assert node.data in range(-199, 1)
        assert [n.data for n in ta.propagate(node, "x").nodes if n.name == "input"] in ([-node.data], [])
        assert keys_of(node) == ["echo"]
    kept = weakref.ref(traced.last_trace)
    seen.clear()
    del node
    traced.invoke(1)
    gc.collect()
    assert kept() is None


def test_record_is_kept_by_what_is_made_of_it(qa: Any) -> None:
    traced = tal.trace(qa, record=True)
    for other in (traced.with_values({"prompt.system": "Explain {topic}."}), copy.deepcopy(traced), traced.trust()):
        assert other.last_trace is None
        other.invoke(INPUT)
        assert keys_of(other.last_trace) == ["prompt.system", "prompt.human", "extract_answer"]
    with tal.record() as tape:  # a block around hears the same
        traced.invoke(INPUT)
    assert tape.node().data == traced.last_trace.data == "four"
    assert keys_of(tape.node()) == keys_of(traced.last_trace)


def test_what_users_reach_for_is_there(qa: Any) -> None:
    """Attributes of the chain's own type, with the values in force; what is nowhere is named."""
    traced = tal.trace(qa.with_config(run_name="qa").bound)
    assert traced.name == qa.name
    assert tal.trace(RunnableLambda(shout)).name == getattr(RunnableLambda(shout), "name", None)
    assert traced.first is qa.first
    assert traced.last is traced.steps[-1]
    assert traced.middle == qa.middle
    other = traced.with_values({"prompt.system": "Explain {topic}."})
    assert other.first.messages[0].prompt.template == "Explain {topic}."
    with ta.using({"prompt.system": "Tell {topic}."}):
        assert traced.steps[0].messages[0].prompt.template == "Tell {topic}."
    prompt = tal.trace(ChatPromptTemplate.from_messages([("human", "{q} {r}")]))
    assert prompt.input_variables == ["q", "r"]
    assert prompt.partial(q="1").invoke({"r": "2"}).to_string() == "Human: 1 2"
    with pytest.raises(AttributeError, match="Neither Traced nor RunnableSequence has 'stepps'"):
        _ = traced.stepps
    assert not hasattr(traced, "__fspath__")


def test_a_traced_chain_may_be_configured(answering: Any) -> None:
    """As an alternative it stays traced; fields are those of the plain chain."""
    traced = tal.trace(PromptTemplate.from_template("{q}!"), record=True)
    either = traced.configurable_alternatives(
        ConfigurableField(id="which"), default_key="own", other=RunnableLambda(str)
    )
    assert either.invoke({"q": "a"}).text == "a!"
    assert keys_of(traced.last_trace) == ["prompt"]
    assert either.with_config(configurable={"which": "other"}).invoke({"q": "a"}) == "{'q': 'a'}"
    fields = traced.configurable_fields(template=ConfigurableField(id="template"))
    assert fields.with_config(configurable={"template": "{q}?"}).invoke({"q": "a"}).text == "a?"
