"""What a DSPy program does can be read from its trace, and the program does not notice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import dspy
import pytest
from dspy.utils.callback import with_callbacks

import trace_adapters as ta
import trace_adapters_dspy as tad
from trace_adapters.extend import FailedCall, Operation, Tape, record_calls
from trace_adapters.lineage import UNSEEN
from trace_adapters_dspy.observe import unpack

settings_module = import_module("dspy.dsp.utils.settings")


def create_prompt(template: str, question: str) -> str:
    """Write the prompt."""
    return template.format(question=question)


def extract_answer(question: str, response: str) -> str:
    """Find the answer in the response."""
    return response.split("Answer:")[1].strip()


def same(text: str) -> str:
    """Return the text."""
    return text


def look_up(name: str) -> str:
    """Look a name up."""
    return f"entry of {name}"


class QA(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.ChainOfThought("prompt -> response")
        self.template = tad.Text("Question: {question}")
        self.create_prompt = tad.Function(create_prompt)
        self.extract_answer = tad.Function(extract_answer)

    def forward(self, question: str) -> Any:
        response = self.predict(prompt=self.create_prompt(str(self.template), question)).response
        return dspy.Prediction(answer=self.extract_answer(question, response))


class Stages(dspy.Module):  # type: ignore[misc]
    """Two predictors with the same signature, sync and async."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("text -> text2")
        self.second = dspy.Predict("text -> text2")
        self.same = tad.Function(same)

    def forward(self, text: str) -> Any:
        middle = self.first(text=text).text2
        self.same(middle)
        return self.second(text=middle)

    async def aforward(self, text: str) -> Any:
        middle = (await self.first.acall(text=text)).text2
        await asyncio.sleep(0.001)
        return await self.second.acall(text=middle)


def step(prompt: str) -> dict[str, str]:
    """A reply that repeats the field `text` with a star."""
    text = prompt.split("[[ ## text ## ]]")[1].split("\n\n")[0].strip()
    return {"text2": f"{text} *"}


@pytest.fixture
def qa_lm(scripted: Any) -> Iterator[Any]:
    lm = scripted(lambda prompt: {"reasoning": "think", "response": "I say. Answer: 42"})
    with dspy.context(lm=lm):
        yield lm


@pytest.fixture
def step_lm(scripted: Any) -> Iterator[Any]:
    lm = scripted(step)
    with dspy.context(lm=lm):
        yield lm


def by_name(node: ta.Node) -> dict[str, ta.Node]:
    graph = ta.propagate(node, "x")
    return {graph.names[n]: n for n in (*graph.blanket, *graph.nodes)}


def test_a_trace_holds_every_call_with_its_parameters(qa_lm: Any) -> None:
    program = QA()
    with tad.record(program) as tape:
        prediction = program(question="6 * 7?")
    node = tape.node()
    assert prediction.answer == "42"
    assert node.data == {"answer": "42"}
    extract = node.recorded_inputs["answer"]
    assert extract.name == "extract_answer"
    response = extract.recorded_inputs["response"]
    assert response.data == "I say. Answer: 42"
    predict = response.recorded_inputs["x"]
    assert predict.data == {"reasoning": "think", "response": "I say. Answer: 42"}
    assert predict.operation is not None
    assert predict.operation.language_model
    assert predict.operation.description == "prompt -> reasoning, response"
    assert predict.recorded_inputs["prompt"].data == "Question: 6 * 7?"
    assert [p.key for p in ta.propagate(node, "x").parameters if p.kind != "demos"] == [
        "template",
        "create_prompt",
        "predict.instructions",
        "extract_answer",
    ]
    assert set(predict.recorded_inputs) == {"prompt", "__instructions__", "__demos__"}
    assert set(extract.recorded_inputs) == {"question", "response", "__code__"}


def test_recording_changes_no_prompt_and_no_module(qa_lm: Any) -> None:
    program = QA()
    before = vars(program).copy()
    program(question="6 * 7?")
    with tad.record(program):
        program(question="6 * 7?")
    program(question="6 * 7?")
    assert len(set(qa_lm.script.prompts)) == 1
    assert {name: value for name, value in vars(program).items() if name != "history"} == {
        name: value for name, value in before.items() if name != "history"
    }


def test_the_callbacks_of_the_user_still_hear_everything(qa_lm: Any) -> None:
    heard = []

    class Mine(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
        def on_module_end(self, call_id: Any, outputs: Any, exception: Any = None) -> None:
            heard.append(type(outputs).__name__)

    program = QA()
    with dspy.context(callbacks=[Mine()]), tad.record(program) as tape:
        program(question="6 * 7?")
    assert heard
    assert len(tape.calls) == 4


def test_dspys_own_trace_is_kept_beside_ours(step_lm: Any) -> None:
    """`dspy.settings.trace` after a recorded call holds what it holds without us."""
    program = Stages()
    with dspy.context(lm=step_lm, trace=[]):
        program(text="a")
        with tad.record(program):
            program(text="a")
        assert [predictor for predictor, _, _ in dspy.settings.trace] == [program.first, program.second] * 2


def test_predictors_with_the_same_signature_are_told_apart(step_lm: Any) -> None:
    program = Stages()
    with tad.record(program) as tape:
        program(text="hello there")
    second = tape.node().recorded_inputs["text2"].recorded_inputs["x"]
    assert second.recorded_inputs["__instructions__"].parameter.key == "second.instructions"  # type: ignore[attr-defined]
    first = second.recorded_inputs["text"].recorded_inputs["x"]
    assert first.recorded_inputs["__instructions__"].parameter.key == "first.instructions"  # type: ignore[attr-defined]


def test_a_function_that_passes_its_argument_through_does_not_steal_it(step_lm: Any) -> None:
    program = Stages()
    with tad.record(program) as tape:
        program(text="hello there")
    second = next(call for call in tape.calls if call.operation.name == "second")
    assert by_name(tape.node())["second"].recorded_inputs["text"].name == "first_text2"
    assert second.inputs["text"] == "hello there *"


def test_threads_have_tapes_of_their_own(step_lm: Any) -> None:
    program = Stages()

    def run(number: int) -> list[str]:
        with dspy.context(lm=step_lm), tad.record(program) as tape:
            program(text=f"number {number}")
        return [str(call.inputs["text"]) for call in tape.calls]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, range(32)))
    assert found == [[f"number {n}", f"number {n} *", f"number {n} *"] for n in range(32)]


@pytest.mark.skipif(
    not isinstance(settings_module.thread_local_overrides, ContextVar),
    reason="this version of DSPy mixes up the settings of tasks that run side by side",
)
async def test_tasks_have_tapes_of_their_own(step_lm: Any) -> None:
    program = Stages()

    async def run(number: int) -> list[str]:
        with tad.record(program) as tape:
            await program.acall(text=f"number {number}")
        return [str(call.inputs["text"]) for call in tape.calls]

    found = await asyncio.gather(*(run(n) for n in range(8)))
    assert found == [[f"number {n}", f"number {n} *"] for n in range(8)]


def test_parallel_inside_a_program(step_lm: Any) -> None:
    class Wide(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = dspy.Predict("text -> text2")

        def forward(self, text: str) -> Any:
            pairs = [(self.inner, dspy.Example(text=f"{text} {n}").with_inputs("text")) for n in range(4)]
            results = dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)
            return dspy.Prediction(all=[result.text2 for result in results])

    program = Wide()
    with tad.record(program) as tape:
        prediction = program(text="part")
    assert prediction.all == [f"part {n} *" for n in range(4)]
    assert sorted(str(call.inputs["text"]) for call in tape.calls) == [f"part {n}" for n in range(4)]
    assert {p.key for p in ta.propagate(tape.node(), "x").parameters} >= {"inner.instructions"}
    assert len(tape.node().recorded_inputs["all"].sources) == 4


def test_asyncify_and_batch(step_lm: Any) -> None:
    program = Stages()
    with tad.record(program) as tape:
        asyncio.run(dspy.asyncify(program)(text="one"))
    assert [call.operation.name for call in tape.calls] == ["first", "same", "second"]
    examples = [dspy.Example(text=f"n{n}").with_inputs("text") for n in range(3)]
    with tad.record(program) as tape:
        program.batch(examples, num_threads=2, disable_progress_bar=True)
    assert len(tape.calls) == 9


def test_streamify(step_lm: Any) -> None:
    program = Stages()

    async def collect() -> list[Any]:
        return [item async for item in dspy.streamify(program)(text="one")]

    with tad.record(program) as tape:
        items = asyncio.run(collect())
    assert items[-1].text2 == "one * *"
    assert [call.operation.name for call in tape.calls] == ["first", "same", "second"]


def test_refine_maps_its_copies_to_the_parameters(scripted: Any) -> None:
    replies = iter(["a", "bb", "ccc"])

    def answer(prompt: str) -> dict[str, str]:
        if "advice" in prompt:
            return {"discussion": "none", "advice": "{}"}
        return {"answer": next(replies)}

    class Careful(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            inner = dspy.Predict("question -> answer")
            self.refine = dspy.Refine(inner, N=3, reward_fn=lambda _, p: float(len(p.answer)), threshold=3.0)

        def forward(self, question: str) -> Any:
            return self.refine(question=question)

    program = Careful()
    with dspy.context(lm=scripted(answer)), tad.record(program) as tape:
        prediction = program(question="q?")
    assert prediction.answer == "ccc"
    assert {p.key for p in ta.propagate(tape.node(), "x").parameters} >= {"refine.module.instructions"}


def test_react_and_its_tools(scripted: Any) -> None:
    thoughts = iter(
        [
            {"next_thought": "look", "next_tool_name": "look_up", "next_tool_args": '{"name": "Pisa"}'},
            {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": "{}"},
            {"reasoning": "so", "answer": "found it"},
        ]
    )
    program = dspy.ReAct("question -> answer", tools=[tad.Function(look_up).as_tool()])
    with dspy.context(lm=scripted(lambda prompt: next(thoughts))), tad.record(program) as tape:
        prediction = program(question="Where?")
    assert prediction.answer == "found it"
    names = [call.operation.name for call in tape.calls]
    assert names.count("look_up") >= 1
    assert {"react", "extract"} <= set(names)
    keys = {p.key for p in ta.propagate(tape.node(), "x").parameters}
    assert {"react.instructions", "extract.instructions"} <= keys


def test_instructions_that_a_program_extends_for_one_call_were_read(step_lm: Any) -> None:
    class Extending(Stages):
        def forward(self, text: str) -> Any:
            one = self.first.signature
            extended = self.first(text=text, signature=one.with_instructions(f"{one.instructions}\nToday is Friday."))
            return self.second(text=extended.text2, signature="text -> text2")

    program = Extending()
    with tad.record(program) as tape:
        program(text="one")
    keys = {p.key for p in ta.propagate(tape.node(), "x").parameters}
    assert keys >= {"first.instructions"}
    assert "second.instructions" not in keys


def test_tools_are_shown_by_name_only() -> None:
    """The address of a tool's code would make each process ask another question; its name is no text of the program."""
    tape = Tape(unpack)
    tape.add(Operation("choose"), {}, {"tool": "look_up"})
    tape.add(Operation("ask"), {"tools": [dspy.Tool(look_up)]}, "found it")
    asked = tape.node("found it", inputs={}).recorded_inputs["tools"]
    assert repr(asked.data) == "[Tool('look_up', 'Look a name up.')]"
    assert asked.operation is UNSEEN


@pytest.mark.skipif(not hasattr(dspy, "ReActV2"), reason="this version of DSPy has no ReActV2")
def test_the_agent_with_native_tools_reads_what_its_tools_say(scripted: Any) -> None:
    """Its history holds the results of tools four objects deep; in DSPy 3.5 it becomes `dspy.ReAct`."""

    def answer(prompt: str) -> str:
        name, given = ("submit", {"answer": "found"}) if "entry of Ada" in prompt else ("look_up", {"name": "Ada"})
        calls = {"tool_calls": [{"name": name, "args": given}]}
        fields = {"next_thought": "I think", "tool_calls": json.dumps(calls), "completed": ""}
        return "".join(f"[[ ## {field} ## ]]\n{text}\n\n" for field, text in fields.items())

    program = dspy.ReActV2("question -> answer", tools=[look_up])
    lm = scripted(lambda prompt: answer("\n".join(lm.script.prompts[-1:])))
    with dspy.context(lm=lm), tad.record(program) as tape:
        assert program(question="Who?").answer == "found"
    graph = ta.propagate(tape.node(), "x")
    second = [node for node in graph.nodes if node.name == "react"][-1]
    above, reached = [*second.sources], set()
    while above:
        node = above.pop()
        reached.add(node.name)
        above += () if node.operation is UNSEEN else node.sources
    assert "look_up" in reached


def test_a_crash_in_a_function_is_the_output_with_its_line(scripted: Any) -> None:
    program = QA()
    lm = scripted(lambda prompt: {"reasoning": "think", "response": "I will not say."})
    with dspy.context(lm=lm), tad.record(program) as tape, pytest.raises(IndexError):
        program(question="6 * 7?")
    node = tape.node()
    assert isinstance(node, FailedCall)
    assert node.name == "extract_answer"
    assert node.place is not None
    assert 'split("Answer:")' in node.place[1]
    assert "predict.instructions" in {p.key for p in ta.propagate(node, "x").parameters}


def test_a_crash_in_forward_follows_the_latest_calls(step_lm: Any) -> None:
    class Broken(Stages):
        def forward(self, text: str) -> Any:
            return {}[self.first(text=text).text2]

    program = Broken()
    with tad.record(program) as tape, pytest.raises(KeyError):
        program(text="one")
    node = tape.node()
    assert isinstance(node, FailedCall)
    assert node.name == "forward"
    assert [source.name for source in node.sources] == ["first"]


def test_an_unreadable_reply_is_a_failed_call_of_the_predictor(scripted: Any) -> None:
    program = Stages()
    lm = scripted(lambda prompt: "no fields at all")
    with dspy.context(lm=lm), tad.record(program) as tape, suppress(Exception):
        program(text="one")
    assert isinstance(tape.node(), FailedCall)
    assert tape.node().name == "first"


def test_model_calls_reach_the_ledger(step_lm: Any) -> None:
    calls: list[Any] = []
    program = Stages()
    with record_calls(calls.append), tad.record(program):
        program(text="one")
    assert [(call.role, call.status, call.cached) for call in calls] == [("forward", "ok", False)] * 2
    assert (calls[0].usage.prompt_tokens, calls[0].usage.completion_tokens) == (10, 5)
    assert "one *" in calls[0].replies[0]


@pytest.mark.parametrize("keeps_history", [True, False])
def test_calls_of_dspy_3_5_reach_the_ledger(scripted: Any, keeps_history: bool) -> None:
    """From 3.5 on, DSPy asks by `generate`, which returns a list of responses, and keeps the first in its history."""
    lm15 = pytest.importorskip("dspy.lm15", reason="typed requests came with DSPy 3.4")

    class Later(dspy.LM):  # type: ignore[misc]
        @with_callbacks
        def generate(self, request: Any, *, n: int = 1) -> Any:
            responses = [self.engine.complete(request) for _ in range(n)]
            held = responses[0] if n == 1 else tuple(responses)
            usage = {"prompt_tokens": 10 * n, "completion_tokens": 5 * n}
            entry = {"response": held, "outputs": [r.text for r in responses], "usage": usage, "cost": 0.5}
            self.update_history({"messages": [{"role": "user", "content": "Hi there"}], **entry, "request": request})
            return responses

    lm = scripted(lambda prompt: "Hello")
    lm.__class__ = Later
    request = lm15.Request(model=lm.model, system="Be kind.", messages=(lm15.Message.user("Hi there"),))
    calls: list[Any] = []
    with record_calls(calls.append), dspy.context(lm=lm, disable_history=not keeps_history), tad.record(Stages()):
        for n in (1, 2):
            lm.generate(request, n=n)
    assert [list(call.replies) for call in calls] == [["Hello"], ["Hello", "Hello"]]
    assert [[m["content"] for m in call.messages][-1] for call in calls] == ["Hi there"] * 2
    spent = [(call.usage.prompt_tokens, call.usage.cost_usd) for call in calls]
    assert spent == ([(10, 0.5), (20, 0.5)] if keeps_history else [(None, None)] * 2)


def test_notes_that_a_program_gathers_are_shown_as_each_call_was_given_them(scripted: Any) -> None:
    """The loop of DSPy's multi-hop tutorial, which passes one list to every hop and extends it."""

    class Hops(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.take = dspy.Predict("claim, notes: list[str] -> new_notes: list[str]")

        def forward(self, claim: str, notes: list[str]) -> Any:
            for _ in range(2):
                found = self.take(claim=claim, notes=notes)
                notes.extend(found.new_notes)
                found.new_notes.append("a remark of the program's own")
            return dspy.Prediction(notes=notes)

    lm = scripted(lambda prompt: {"new_notes": f'["note {prompt.count("note ")}"]'})
    with dspy.context(lm=lm):
        target = tad.DspyTarget(Hops())
        graph = ta.propagate(
            target.run({}, dspy.Example(claim="It leans.", notes=["note a"]).with_inputs("claim", "notes")).node, "x"
        )
    taken = [node for node in graph.nodes if node.operation is not None and node.operation.name == "take"]
    assert [node.recorded_inputs["notes"].data for node in taken] == [["note a"], ["note a", "note 1"]]
    assert [node.data for node in taken] == [{"new_notes": ["note 1"]}, {"new_notes": ["note 2"]}]
    assert {parameter.key for parameter in graph.parameters} == {"take.instructions"}


def test_replies_from_the_cache_are_marked(scripted: Any) -> None:
    lm = scripted(step, cache=True)
    calls: list[Any] = []
    program = Stages()
    with dspy.context(lm=lm), record_calls(calls.append), tad.record(program):
        program(text="a cached text")
        program(text="a cached text")
    if len(lm.script.prompts) == 4:
        pytest.skip("this version of DSPy does not cache scripted models")
    assert [call.cached for call in calls] == [False, False, True, True]
    assert calls[2].usage.prompt_tokens == 0


def test_model_calls_in_threads_reach_the_ledger_of_the_run(step_lm: Any) -> None:
    calls: list[Any] = []
    program = Stages()
    examples = [dspy.Example(text=f"n{n}").with_inputs("text") for n in range(3)]
    with record_calls(calls.append), tad.record(program):
        program.batch(examples, num_threads=3, disable_progress_bar=True)
    assert len(calls) == 6
