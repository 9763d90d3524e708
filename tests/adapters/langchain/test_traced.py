"""A traced chain is a Runnable that gives what the chain gives, records when asked, and takes other values."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

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
