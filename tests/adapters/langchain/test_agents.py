"""Parts in closures, in nodes of graphs and in agents learn; a graph's state keys are the edges of its traces."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph")

from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

import trace_adapters as ta
import trace_adapters_langchain as tal
from trace_adapters import Node
from trace_adapters.extend import Value


class State(TypedDict, total=False):
    question: str
    facts: Annotated[list[str], operator.add]
    draft: str
    answer: str


def graph_of(*edges: tuple[Any, Any], routes: dict[Any, Any] | None = None, **nodes: Any) -> Any:
    builder = StateGraph(State)
    for name, node in nodes.items():
        builder.add_node(name, node)
    for start, end in edges:
        builder.add_edge(start, end)
    for start, (route, ends) in (routes or {}).items():
        builder.add_conditional_edges(start, route, ends)
    return builder.compile()


def reaches(node: Node, name: str, seen: set[Node] | None = None) -> bool:
    """Whether a node of this name is among the ancestors."""
    seen = set() if seen is None else seen
    if node in seen:
        return False
    seen.add(node)
    return node.name == name or any(reaches(source, name, seen) for source in node.sources)


def lift(app: Any, **inputs: Any) -> dict[str, Node]:
    """The final state, key -> node."""
    return tal.Traced(app, ()).node(inputs).recorded_inputs


def ask(state: State) -> Any:
    return {"draft": state["question"] + "!"}


def look(state: State) -> Any:
    return {"facts": ["seen"]}


def think(state: State) -> Any:
    return {"facts": ["thought"]}


def say(state: State) -> Any:
    return {"answer": state["draft"]}


def test_state_keys_are_edges() -> None:
    """A node depends on who wrote the keys that its function reads, and on nobody else."""
    app = graph_of((START, "look"), ("look", "ask"), ("ask", "say"), ("say", END), look=look, ask=ask, say=say)
    found = lift(app, question="why")
    assert found["answer"].data == "why!"
    assert reaches(found["answer"], "ask")
    assert reaches(found["answer"], "question")
    assert not reaches(found["answer"], "look")
    assert reaches(found["facts"], "look")


def test_the_last_writer_counts() -> None:
    app = graph_of(
        (START, "first"), ("first", "second"), ("second", END),
        first=lambda state: {"draft": "a"}, second=lambda state: {"draft": "b"},
    )  # fmt: skip
    draft = lift(app, question="why")["draft"]
    assert reaches(draft, "second")
    assert not reaches(draft, "first")


def test_reducers_merge() -> None:
    """What several wrote side by side, and what was there before, is in what comes out."""
    app = graph_of((START, "look"), (START, "think"), ("look", END), ("think", END), look=look, think=think)
    facts = lift(app, question="why", facts=["known"])["facts"]
    assert facts.data == ["known", "seen", "thought"]
    assert [reaches(facts, name) for name in ("look", "think", "facts")] == [True, True, True]


def test_nodes_of_one_step_do_not_feed_each_other() -> None:
    def copy(state: State) -> Any:
        return {"answer": str(state.get("facts"))}

    app = graph_of((START, "look"), (START, "copy"), ("look", END), ("copy", END), look=look, copy=copy)
    assert not reaches(lift(app, question="why")["answer"], "look")


def test_nodes_that_run_at_the_same_time_stay_apart() -> None:
    """Of nodes that have the same input and overlap, none is taken for a part of the other."""
    both = threading.Barrier(2, timeout=20)

    def seen(state: State) -> Any:
        both.wait()
        return {"facts": ["seen"]}

    def drawn(state: State) -> Any:
        both.wait()
        return {"draft": "drawn"}

    app = graph_of((START, "seen"), (START, "drawn"), ("seen", END), ("drawn", END), seen=seen, drawn=drawn)
    found = lift(app, question="why")
    assert [reaches(found["facts"], name) for name in ("seen", "drawn")] == [True, False]
    assert [reaches(found["draft"], name) for name in ("seen", "drawn")] == [False, True]


def test_who_chose_a_node_is_a_control_edge() -> None:
    def route(state: State) -> str:
        return "say"

    app = graph_of((START, "ask"), ("say", END), routes={"ask": (route, ["say"])}, ask=ask, say=say)
    answer = lift(app, question="why")["answer"]
    assert [name for name in answer.recorded_inputs if tal.is_control(name)] == ["control_route"]
    assert reaches(answer, "ask")


def test_commands_and_sends_are_followed() -> None:
    def jump(state: State) -> Command[Any]:
        return Command(update={"draft": state["question"]}, goto="say")

    def spread(state: State) -> list[Send]:
        return [Send("one", {"fact": fact}) for fact in state["facts"]]

    app = graph_of((START, "jump"), ("say", END), jump=jump, say=say)
    assert reaches(lift(app, question="why")["answer"], "jump")
    app = graph_of(
        (START, "look"), ("one", END), routes={"look": (spread, ["one"])},
        look=look, one=lambda state: {"facts": [state["fact"].upper()]},
    )  # fmt: skip
    found = lift(app, question="why")
    assert found["facts"].data == ["seen", "SEEN"]
    assert reaches(found["facts"], "one")


def test_a_graph_in_a_graph() -> None:
    inner = graph_of((START, "ask"), ("ask", END), ask=ask)
    app = graph_of((START, "inner"), ("inner", "say"), ("say", END), inner=inner, say=say)
    assert reaches(lift(app, question="why")["answer"], "ask")


def test_a_node_that_fails_is_the_failed_call() -> None:
    def broken(state: State) -> Any:
        return {"answer": state["draft"].nothing}  # type: ignore[attr-defined]

    app = graph_of((START, "ask"), ("ask", "broken"), ("broken", END), ask=ask, broken=broken)
    node = tal.Traced(app, ()).node({"question": "why"})
    assert node.failed
    assert node.name == "broken"
    assert reaches(node, "ask")


async def test_async_nodes_too() -> None:
    async def later(state: State) -> Any:
        await asyncio.sleep(0)
        return {"answer": state["draft"]}

    app = graph_of((START, "ask"), ("ask", "later"), ("later", END), ask=ask, later=later)
    node = await tal.Traced(app, ()).anode({"question": "why"})
    assert reaches(node.recorded_inputs["answer"], "ask")


def test_record_sees_graphs_as_they_are() -> None:
    app = graph_of((START, "ask"), ("ask", "say"), ("say", END), ask=ask, say=say)
    with tal.record() as tape:
        app.invoke({"question": "why"})
    assert reaches(tape.node().recorded_inputs["answer"], "ask")


def echo(answer: Callable[[str], str]) -> RunnableLambda[Any, Any]:
    return RunnableLambda(lambda value: answer(value.to_messages()[-1].content))


def write(text: str) -> str:
    """Write the answer."""
    return text.upper()


def test_a_prompt_in_a_closure_learns(tmp_path: Path) -> None:
    """The values of a candidate reach it in its node; what comes back is the same kind of graph, and learned."""
    prompt = tal.trainable(ChatPromptTemplate.from_template("Say {question}"), "ask")
    model = echo(lambda text: "7" if "number" in text else "seven")

    def answer(state: State) -> Any:
        return {"answer": model.invoke(prompt.invoke({"question": state["question"]}))}

    app = graph_of((START, "answer"), ("answer", END), answer=answer)
    rows = [{"question": f"{n}+{7 - n}", "answer": "7"} for n in range(4)]
    reply = '<value name="ask_human">\nSay {question} as a number\n</value>'
    better, result = tal.optimize(
        app, rows, lambda example, output: float(output["answer"] == example["answer"]),
        trainable=[prompt], inputs=["question"], lm=ta.ScriptedLM(lambda messages: reply),
        store=f"sqlite:///{tmp_path}/s.db", progress=False, workers=2, return_result=True,
    )  # fmt: skip
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert type(better) is type(app)
    assert better.invoke({"question": "1+6"})["answer"] == "7"
    assert asyncio.run(better.ainvoke({"question": "1+6"}))["answer"] == "7"
    assert app.invoke({"question": "1+6"})["answer"] == "seven"
    assert prompt.plain(result.best.candidate).messages[0].prompt.template == "Say {question} as a number"


def test_values_hold_where_the_context_goes() -> None:
    """In `using`, in tasks, in LangChain's own threads, and side by side."""
    prompt = tal.trainable("Say {question}", "ask")
    chain = RunnableLambda(lambda question: prompt.format(question=question))
    with ta.using({"ask": "Shout {question}"}):
        assert chain.batch(["a", "b"]) == ["Shout a", "Shout b"]
        assert asyncio.run(chain.ainvoke("a")) == "Shout a"
    assert chain.invoke("a") == "Say a"


def test_a_function_in_a_closure_is_trained() -> None:
    trained = tal.trainable(write)
    assert (trained("a"), trained.invoke("a")) == ("A", "A")
    with ta.using({"write": "def write(text):\n    return text * 2\n"}):
        assert trained("a") == "aa"


def test_a_thread_without_the_context_is_noticed() -> None:
    """The candidate's values would be missing there silently; the run ends with what to do instead."""
    prompt = tal.trainable("Say {question}", "ask")

    def lost(question: str, carry: Callable[[Any], Any]) -> str:
        found: list[str] = []
        thread = threading.Thread(target=carry(lambda: found.append(prompt.format(question=question))))
        thread.start()
        thread.join()
        return found[0]

    rows = {"question": "a"}
    target = tal.wrap(RunnableLambda(lambda q: lost(q, lambda f: f)), trainable=[prompt], inputs="question")
    with pytest.raises(ta.AdapterError, match=r"ask was read in a thread .* ta\.carry_context"):
        target.run({"ask": "Shout {question}"}, rows)
    target = tal.wrap(RunnableLambda(lambda q: lost(q, ta.carry_context)), trainable=[prompt], inputs="question")
    assert target.run({"ask": "Shout {question}"}, rows).output == "Shout a"


def test_a_bad_value_is_refused_before_a_model_is_called() -> None:
    prompt = tal.trainable("Say {question}", "ask")
    target = tal.wrap(RunnableLambda(prompt.format), trainable=[prompt], inputs="question")
    with pytest.raises(ta.ParameterError, match=r"lost \{question\}"):
        target.with_values({"ask": "Say something"})


def test_two_parts_of_one_name_are_refused() -> None:
    parts = [tal.trainable("Say {question}", "ask"), tal.trainable("Shout {question}", "ask")]
    with pytest.raises(ta.ParameterError, match="'ask'"):
        tal.wrap(RunnableLambda(str), trainable=parts, inputs="question")


@pytest.mark.parametrize("part", [3, object(), FakeListChatModel])
def test_what_cannot_be_trainable_is_refused(part: Any) -> None:
    with pytest.raises(ta.AdapterError, match="can be trainable"):
        tal.trainable(part)


class ToolCaller(BaseChatModel):
    """Looks the price up if the tool's description says so, and answers in words unless told otherwise."""

    told: list[Any] = []  # noqa: RUF012 - pydantic copies it

    @property
    def _llm_type(self) -> str:
        return "tool-caller"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[t if isinstance(t, dict) else {"function": _described(t)} for t in tools])

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, tools: Any = (), **_: Any) -> Any:
        self.told.append((messages[0].content, tools[0]["function"]["description"]))
        if messages[-1].type == "tool":
            brief = "only the number" in messages[0].content
            reply = AIMessage(messages[-1].content if brief else f"It is {messages[-1].content}.")
        elif "price" in tools[0]["function"]["description"]:
            reply = AIMessage("", tool_calls=[{"name": "look_up", "args": {"item": "kite"}, "id": "1"}])
        else:
            reply = AIMessage("I cannot know.")
        return ChatResult(generations=[ChatGeneration(message=reply)])


def _described(found: Any) -> dict[str, str]:
    return {"name": found.name, "description": found.description}


@tool
def look_up(item: str) -> str:
    """Look something up."""
    return "18"


def make_agent() -> tuple[Any, Any, ToolCaller]:
    agents = pytest.importorskip("langchain.agents")
    learns = tal.middleware(system_prompt="Answer {briefly}.", tools=[look_up], name="clerk")
    model = ToolCaller(told=[])
    return agents.create_agent(model, [look_up], middleware=[learns]), learns, model


QUESTION = {"messages": [("user", "What does a kite cost?")]}
LEARNED = {"clerk.system": "Give only the number.", "look_up.description": "The price of an item."}


def test_a_prompt_that_the_middleware_replaces_is_told() -> None:
    """An agent with a prompt of its own beside the learned one: no prompt goes silently."""
    agents = pytest.importorskip("langchain.agents")
    learns, model = tal.middleware(system_prompt="Answer {briefly}.", name="clerk"), ToolCaller(told=[])
    agent = agents.create_agent(model, [look_up], system_prompt="Be kind.", middleware=[learns])
    with pytest.warns(UserWarning, match="middleware 'clerk' replaces"):
        agent.invoke(QUESTION)
    assert [told for told, _ in model.told] == ["Answer {briefly}."]


def test_an_agent_without_candidate_is_as_it_was() -> None:
    agent, learns, model = make_agent()
    assert list(learns.parameters) == ["clerk.system", "look_up.description"]
    assert agent.invoke(QUESTION)["messages"][-1].content == "I cannot know."
    assert model.told == [("Answer {briefly}.", "Look something up.")]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_agents_prompt_and_tools_change_for_each_call(asynchronous: bool) -> None:
    agent, _, model = make_agent()
    with ta.using(LEARNED):
        result = asyncio.run(agent.ainvoke(QUESTION)) if asynchronous else agent.invoke(QUESTION)
    assert result["messages"][-1].content == "18"
    assert model.told[0] == ("Give only the number.", "The price of an item.")


def test_an_agents_trace_leads_to_prompt_and_tools() -> None:
    agent, learns, _ = make_agent()
    target = tal.wrap(agent, trainable=[learns], inputs=["messages"])
    run = target.run(LEARNED, QUESTION)
    graph = ta.propagate(run.node, "too long")
    assert {value.parameter.key: value.data for value in graph.values} == LEARNED
    assert reaches(run.node, "look_up")
    assert all(isinstance(value, Value) for value in graph.values)


def test_an_agent_learns(tmp_path: Path) -> None:
    """System prompt and tool description learn together; the result is a graph, and plain values."""
    agent, learns, _ = make_agent()

    def propose(messages: Any) -> str:
        shown = {key.replace(".", "_"): value for key, value in LEARNED.items()}
        return "".join(f'<value name="{key}">\n{value}\n</value>\n' for key, value in shown.items())

    better, result = tal.optimize(
        agent, [{"inputs": QUESTION, "outputs": {"price": "18"}}] * 4,
        lambda outputs, reference_outputs: outputs["messages"][-1].content == reference_outputs["price"],
        trainable=[learns], lm=ta.ScriptedLM(propose), store=f"sqlite:///{tmp_path}/s.db", progress=False,
        return_result=True,
    )  # fmt: skip
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert type(better) is type(agent)
    assert better.invoke(QUESTION)["messages"][-1].content == "18"
    assert agent.invoke(QUESTION)["messages"][-1].content == "I cannot know."
    assert learns.plain(result.best.candidate) == {
        "system_prompt": "Give only the number.", "tools": {"look_up": "The price of an item."},
    }  # fmt: skip


def test_nothing_that_an_agent_learned_is_missing_in_its_plain_values() -> None:
    """The descriptions of tools' arguments are trained, so they are among what comes out."""
    pytest.importorskip("langchain.agents")

    @tool(parse_docstring=True)
    def find(item: str, shop: str = "") -> str:
        """Find something.

        Args:
            item: What to find.
            shop: Where.
        """
        return item

    learns = tal.middleware(tools=[find, look_up])
    assert list(learns.parameters) == ["find.description", "find.item", "find.shop", "look_up.description"]
    assert learns.plain({"find.item": "One word."}) == {
        "tools": {"find": "Find something.", "look_up": "Look something up."},
        "arguments": {"find": {"item": "One word.", "shop": "Where."}, "look_up": {}},
    }


def test_middleware_needs_something_to_train() -> None:
    with pytest.raises(ta.SettingError, match="trains nothing else"):
        tal.middleware()


def test_a_system_message_may_hold_braces() -> None:
    prompt = tal.trainable(ChatPromptTemplate.from_messages([SystemMessage('{"a": 1}')]), "form")
    assert prompt.format_messages()[0].content == '{"a": 1}'


FACE = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question} {unit}")])


async def test_a_trainable_prompt_is_used_like_the_prompt() -> None:
    """What its users reach for works, with the values that hold where it is used, and each use is a traced run."""
    ask = tal.trainable(FACE, "ask")
    given = {"question": "How far?", "unit": "km"}
    learned = {"ask.human": "{unit}: {question}"}
    for values, expected in (({}, "How far? km"), (learned, "km: How far?")):
        with ta.using(values), tal.record() as tape:
            assert ask.format_messages(**given)[1].content == expected
            assert (await ask.aformat_messages(**given))[1].content == expected
            assert (await ask.aformat_prompt(**given)).to_messages()[1].content == expected
            assert ask.format(**given) == await ask.aformat(**given) == f"System: Be brief.\nHuman: {expected}"
            assert ask.messages[1].prompt.template == values.get("ask.human", "{question} {unit}")
        assert len(tape.nodes()) == 5
        assert all(
            {p.key for p in ta.propagate(n, "x").parameters} == {"ask.system", "ask.human"} for n in tape.nodes()
        )
    assert ask.input_variables == FACE.input_variables
    assert tal.trainable(PromptTemplate.from_template("Say {x}"), "say").template == "Say {x}"
    with pytest.raises(AttributeError, match="is trainable; change it first"):
        ask.append(("human", "more"))
    with pytest.raises(AttributeError, match="is trainable; change it first"):
        ask.messages = []
    with pytest.raises(AttributeError, match="has 'nothing'"):
        _ = ask.nothing


async def test_a_partial_of_a_trainable_prompt_learns_as_it_does() -> None:
    """In every way to call it; the prompt itself stays as it was."""
    ask = tal.trainable(FACE, "ask")
    counted = iter(range(100))
    half = ask.partial(unit=lambda: f"km{next(counted)}").partial(question="Far?")
    assert (half.input_variables, ask.partial(unit="m").input_variables) == ([], ["question"])
    assert ask.input_variables == ["question", "unit"]
    with ta.using({"ask.human": "{unit}: {question}"}), tal.record() as tape:
        assert half.format_messages()[1].content == "km0: Far?"
        assert half.invoke({"question": "Near?"}).messages[1].content == "km1: Near?"
        assert (await half.ainvoke({})).messages[1].content == "km2: Far?"
        assert [value.messages[1].content for value in half.batch([{}, {}])] == ["km3: Far?", "km4: Far?"]
        assert [value.messages[1].content for value in half.stream({})] == ["km5: Far?"]
        assert [value.messages[1].content for value in half.transform(iter([{}]))] == ["km6: Far?"]
        assert [value.messages[1].content async for value in half.astream({})] == ["km7: Far?"]
    assert {p.key for p in ta.propagate(tape.nodes()[0], "x").parameters} == {"ask.system", "ask.human"}
    target = tal.wrap(RunnableLambda(lambda q: half.format(question=q)), trainable=[half], inputs="question")
    found = target.run({"ask.human": "{question}, {unit}"}, {"question": "?"}).output
    assert found.endswith("Human: ?, km8")
    with pytest.raises(AttributeError, match="Only a prompt has partial"):
        tal.trainable(write).partial(x=1)


def test_what_is_added_to_a_trainable_prompt_stands_behind_it() -> None:
    """Texts, messages, prompts, trainable ones too; what was trainable learns."""
    ask, tail = tal.trainable(FACE, "ask"), tal.trainable(ChatPromptTemplate.from_template("Go, {unit}."), "tail")
    given = {"question": "Far?", "unit": "km"}
    for other in (
        "Go, {unit}.",
        HumanMessage("Go, km."),
        [HumanMessage("Go, km.")],
        ChatPromptTemplate.from_template("Go, {unit}."),
        tail,
    ):
        with ta.using({"ask.human": "{unit}: {question}"}):
            assert [m.content for m in (ask + other).invoke(given).messages] == ["Be brief.", "km: Far?", "Go, km."]
    with tal.record() as tape:
        assert (ask + tail).invoke(given).messages[-1].content == "Go, km."
    keys = {p.key for p in ta.propagate(tape.node(), "x").parameters}
    assert keys == {"ask.system", "ask.human", "tail.human"}
    text = tal.trainable("Say {x}", "say") + " to {y}."
    assert text.invoke({"x": "hi", "y": "you"}).text == "Say hi to you."
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = tal.trainable(write) + "x"


def test_what_a_learned_node_reads_is_not_told_by_the_function_that_it_was() -> None:
    """A trainable node of a learned graph may read other keys than its original."""

    def pick(state: State) -> State:
        return {"answer": state["question"]}

    def draft(state: State) -> State:
        return {"draft": "d"}

    part = tal.trainable(pick)
    app = graph_of((START, "drafts"), ("drafts", "picks"), ("picks", END), drafts=draft, picks=part)
    learned = {"pick": 'def pick(state):\n    return {"answer": state["draft"]}\n'}
    better = tal.wrap(app, trainable=[part], inputs=["question"]).with_values(learned)
    node = tal.trace(RunnableLambda(lambda x: x) | better | itemgetter("answer")).node({"question": "q"})
    assert node.data == "d"
    assert reaches(node, "drafts")
