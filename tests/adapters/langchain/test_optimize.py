"""`tal.optimize` on chains: what comes back, what goes in, and what is said when something cannot work."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, FewShotChatMessagePromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableSequence
from langchain_core.runnables.history import RunnableWithMessageHistory

import trace_adapters as ta
import trace_adapters_langchain as tal
from trace_adapters.testing.conformance import check_target
from trace_adapters.testing.openai_server import Failure, OpenAIServer

SCRATCH: dict[str, Any] = {}


def extract_answer(response: str) -> str:
    """Read the answer out of the model's response."""
    return response.split("Answer:")[1].strip()


GOOD = "def extract_answer(response):\n    return response.split()[-1]\n"
PROMPT = ChatPromptTemplate.from_messages([("system", "Answer with one word."), ("human", "{question}")])
ROWS = [{"question": f"{n} + {7 - n}", "answer": "7"} for n in range(8)]


def make_chain(*replies: str) -> Any:
    return PROMPT | FakeListChatModel(responses=list(replies) or ["it is 7"]) | StrOutputParser() | extract_answer


def metric(example: Any, output: Any) -> ta.Feedback:
    right = output == example["answer"]
    return ta.Feedback(float(right), "" if right else f"expected {example['answer']!r}")


def proposing(**values: Any) -> ta.ScriptedLM:
    """Proposes these values if asked for them; a prompt shows `prompt.system` as `prompt_system`."""

    def propose(messages: Any) -> str:
        shown = {key.replace(".", "_"): value for key, value in values.items()}
        asked = {key: value for key, value in shown.items() if f'name="{key}"' in str(messages)}
        return "".join(f'<value name="{key}">\n{value}\n</value>\n' for key, value in asked.items())

    return ta.ScriptedLM(propose)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def optimize(chain: Any, store: str, dataset: Any = ROWS, judge: Any = metric, **options: Any) -> Any:
    options = {"trainable": "code", "lm": proposing(extract_answer=GOOD), "progress": False, **options}
    return tal.optimize(chain, dataset, judge, store=store, return_result=True, **options)


def test_a_chain_learns(store: str) -> None:
    """What comes back is a plain chain of the same type, with what was learned; the user's chain is untouched."""
    chain = make_chain()
    better, result = optimize(chain, store)
    assert type(better) is RunnableSequence
    assert better.invoke(ROWS[0]) == "7"
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert result.program is better
    assert better.steps[0] is chain.steps[0]  # what did not change is shared
    with pytest.raises(IndexError):
        chain.invoke(ROWS[0])


def test_nothing_of_ours_is_in_the_result(store: str) -> None:
    better, _ = optimize(make_chain(), store, trainable=["prompt", "code"])
    kinds = {type(step).__module__.partition(".")[0] for step in better.steps}
    assert kinds == {"langchain_core"}
    assert not [cell for cell in better.steps[-1].func.__closure__ or () if "trace_adapters" in repr(cell)]


def test_prompt_and_code_learn_together_and_nothing_else(store: str) -> None:
    """From the user's own prompt; the human message was not named, so it stays, and the model never hears of it."""
    lm = proposing(**{"prompt.system": "Be brief.", "extract_answer": GOOD, "prompt.human": "{question}!"})
    better, result = optimize(make_chain(), store, trainable=["prompt.system", "extract_answer"], lm=lm)
    assert set(result.best.candidate) == {"prompt.system", "extract_answer"}
    assert [m.content for m in better.steps[0].invoke({"question": "q"}).messages] == ["Be brief.", "q"]
    assert 'name="prompt_human"' not in lm.calls[0].prompt
    assert "Answer with one word." in lm.calls[0].prompt


def test_the_core_finds_the_adapter(store: str) -> None:
    """`ta.wrap` and `ta.optimize` take a chain, too."""
    target = ta.wrap(make_chain(), trainable=["code"])
    result = ta.optimize(target, ROWS, metric, lm=proposing(extract_answer=GOOD), store=store, progress=False)
    assert type(result.program) is RunnableSequence
    assert result.best.score == 1.0


def test_a_target_keeps_every_promise() -> None:
    target = tal.wrap(make_chain("Answer: 7"), trainable=["extract_answer"])
    check_target(
        target,
        ROWS[0],
        metric,
        {"extract_answer": "def extract_answer(response):\n    return 'other'\n"},
        {"extract_answer": "def extract_answer(response):\n    return response[99]\n"},
    )


def test_a_crash_is_feedback_with_its_line() -> None:
    target = tal.wrap(make_chain(), trainable=["code"])
    feedback = target.judge(metric, ROWS[0], target.run({}, ROWS[0]))
    assert feedback.score == 0.0
    assert (
        'IndexError: list index out of range in extract_answer, line 3: return response.split("Answer:")'
        in feedback.text
    )
    assert "Expected: answer = '7'" in feedback.text


def test_a_failing_step_before_the_end_is_named() -> None:
    def first(row: dict[str, str]) -> dict[str, str]:
        return {"question": row["wrong key"]}

    target = tal.wrap(RunnableLambda(first) | make_chain(), trainable=["code"], inputs=["question"])
    run = target.run({}, ROWS[0])
    assert "KeyError: 'wrong key' in first" in target.judge(metric, ROWS[0], run).text


def test_a_metric_without_words_gets_some() -> None:
    target = tal.wrap(make_chain("Answer: 8"), trainable=["code"])
    run = target.run({}, ROWS[0])
    assert target.judge(lambda example, output: 0.0, ROWS[0], run).text == (
        "Not right. Expected: answer = '7'. Got: \"8\""
    )
    assert target.judge(lambda example, output: 1.0, ROWS[0], run).text == "Correct."


def test_a_message_as_output_reaches_the_metric_as_it_is() -> None:
    target = tal.wrap(PROMPT | FakeListChatModel(responses=["7"]), trainable=["prompt"])
    seen: list[Any] = []
    run = target.run({}, ROWS[0])
    target.judge(lambda example, output: seen.append(output) or 1.0, ROWS[0], run)
    assert seen[0].content == "7"
    assert "AIMessage" in json.dumps(ta.propagate(run.node, "x").to_json()) or run.node.data is seen[0]


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"trainable": ()}, ta.AdapterError, "nothing to train.*extract_answer"),
        ({"trainable": ["prompt.sytem"]}, ta.SettingError, r"No parameter matches 'prompt.sytem'.*prompt\.system"),
        ({"trainable": 3}, ta.SettingError, "trainable must be kinds, names or globs.*got"),
        ({"timeout_s": 0}, ta.SettingError, "timeout_s must be"),
        ({"config": 3}, ta.SettingError, "config must be a RunnableConfig or a function"),
        ({"inputs": 3}, ta.SettingError, "inputs must be a field or a list"),
        ({"dataset": []}, ta.DataError, "dataset is empty"),
        ({"valset": [{"q": "x"}]}, ta.DataError, "Example 1 lacks 'question'"),
        ({"dataset": [*ROWS, {"quest": "x", "answer": "7"}]}, ta.DataError, "Example 9 lacks 'question'.*'quest'"),
        ({"judge": "exact"}, ta.SettingError, "metric must be"),
        ({"lm": None}, ta.SettingError, "asks a language model"),
    ],
)
def test_what_cannot_work_is_said_before_any_model_is_called(
    store: str, options: dict[str, Any], error: Any, complaint: str
) -> None:
    model = FakeListChatModel(responses=["it is 7"])
    with pytest.raises(error, match=complaint):
        optimize(PROMPT | model | StrOutputParser() | extract_answer, store, **options)
    assert model.i == 0


def test_a_chain_with_nothing_to_train(store: str) -> None:
    with pytest.raises(ta.SettingError, match=r"No parameter matches '\*'. There are none"):
        optimize(FakeListChatModel(responses=["x"]) | StrOutputParser(), store, trainable="*", inputs="question")


def test_a_chain_that_hides_its_prompts_says_how_to_train_them() -> None:
    """A wrapper that keeps the chain in a closure shows nothing, so the message says what to do."""
    with pytest.raises(ta.AdapterError, match=r"RunnableWithMessageHistory.*tal\.trainable\(prompt\)"):
        tal.trace(RunnableWithMessageHistory(PROMPT | FakeListChatModel(responses=["x"]), InMemoryChatMessageHistory))


def test_a_lambda_without_source_is_named(store: str) -> None:
    chain = make_chain("x").steps[0] | RunnableLambda(eval("lambda value: value"), name="odd")
    with pytest.raises(ta.SettingError, match=r"'odd' cannot be trained.*lambda"):
        optimize(chain, store, trainable=["odd"])


def test_a_metric_that_raises_loses_nothing(store: str) -> None:
    """The study keeps what was judged before, and goes on from there once the metric is mended."""
    calls = []

    def brittle(example: Any, output: Any) -> ta.Feedback:
        calls.append(output)
        if len(calls) == 3:
            raise ZeroDivisionError("brittle")
        return metric(example, output)

    chain = make_chain("Answer: 8")
    with pytest.raises(ta.MetricError, match="'brittle' raised ZeroDivisionError: brittle"):
        optimize(chain, store, judge=brittle, study="qa")
    with ta.Store.open(store).load_study("qa") as kept:
        assert len(kept.evaluations()) >= 2
    _, result = optimize(make_chain("Answer: 8"), store, study="qa", resume=True, max_steps=1)
    assert result.study.evaluations()[0].score == 0.0


def test_a_model_that_fails_on_every_call(store: str) -> None:
    """The search ends with the model's own error; the program is not blamed, and the study can go on."""
    openai = pytest.importorskip("langchain_openai")
    with OpenAIServer(lambda request: Failure(503, "overloaded")) as server:
        model = openai.ChatOpenAI(model="m", base_url=server.base_url, api_key="k", max_retries=0)
        chain = PROMPT | model | StrOutputParser() | extract_answer
        with pytest.raises(ta.ModelError, match="overloaded"):
            optimize(chain, store, study="qa")
    with ta.Store.open(store).load_study("qa") as kept:
        assert all(total.failed == total.calls > 0 for total in kept.totals())
    answering = FakeListChatModel(responses=["Answer: 7"])
    _, result = optimize(PROMPT | answering | StrOutputParser() | extract_answer, store, study="qa", resume=True)
    assert result.best.score == 1.0


def test_a_fallback_comes_before_the_model_is_blamed() -> None:
    openai = pytest.importorskip("langchain_openai")
    with OpenAIServer(lambda request: Failure(503)) as server:
        model = openai.ChatOpenAI(model="m", base_url=server.base_url, api_key="k", max_retries=0)
        safe = model.with_fallbacks([FakeListChatModel(responses=["Answer: 7"])])
        target = tal.wrap(PROMPT | safe | StrOutputParser() | extract_answer, trainable=["code"])
        assert target.run({}, ROWS[0]).output == "7"


def test_a_run_that_is_late_fails_where_it_hangs() -> None:
    """The step is named, the search goes on, and the thread ends at its next step."""
    after, release = [], threading.Event()

    def hang(text: str) -> str:
        release.wait(60)
        return text

    chain = make_chain("Answer: 7") | RunnableLambda(hang) | RunnableLambda(lambda text: after.append(text) or text)
    target = tal.wrap(chain, trainable=["extract_answer"], timeout_s=1.0)
    started = time.monotonic()
    run = target.run({}, ROWS[0])
    assert time.monotonic() - started < 30
    feedback = target.judge(metric, ROWS[0], run)
    assert feedback.score == 0.0
    assert "longer than its limit of 1 s" in feedback.text
    assert run.node.name == "hang"
    assert [p.key for p in ta.propagate(run.node, feedback).parameters] == ["extract_answer"]
    release.set()
    for thread in threading.enumerate():
        if thread.name == "trace-adapters-rollout":
            thread.join(60)
    assert after == []


def test_runs_are_invoked_never_streamed() -> None:
    streamed = []

    class Model(FakeListChatModel):
        def _stream(self, *args: Any, **kwargs: Any) -> Any:
            streamed.append(1)
            yield from super()._stream(*args, **kwargs)

    chain = PROMPT | Model(responses=["Answer: 7"]) | StrOutputParser() | extract_answer
    assert tal.wrap(chain, trainable=["code"]).run({}, ROWS[0]).output == "7"
    assert streamed == []


def test_steps_that_can_only_be_awaited() -> None:
    async def ask(prompt: Any) -> str:
        return "Answer: 7"

    target = tal.wrap(PROMPT | RunnableLambda(ask) | extract_answer, trainable=["code"])
    runs = [target.run({}, ROWS[0]) for _ in range(2)]
    assert [run.output for run in runs] == ["7", "7"]
    first, second = ([node.name for node in ta.propagate(run.node, "x").nodes] for run in runs)
    assert first == second  # nothing is left of the attempt to run it without a loop


def test_many_workers_find_the_same(tmp_path: Path) -> None:
    found = []
    for workers in (1, 4):
        _, result = optimize(make_chain(), f"sqlite:///{tmp_path}/{workers}.db", workers=workers)
        found.append([(t.score, t.candidate_key) for t in result.study.trials()])
    assert found[0] == found[1]


def test_a_study_goes_on(store: str) -> None:
    """What is recorded is not run again."""
    optimize(make_chain(), store, study="qa", max_steps=1)
    lm = proposing(extract_answer=GOOD)
    model = FakeListChatModel(responses=["it is 7"])
    _, result = optimize(
        PROMPT | model | StrOutputParser() | extract_answer, store, study="qa", resume=True, lm=lm, max_steps=1
    )
    assert (result.best.score, len(lm.calls), model.i) == (1.0, 0, 0)


EXAMPLE = ChatPromptTemplate.from_messages([("human", "{question}"), ("ai", "{response}")])


def few_shot_chain(answer: Any) -> Any:
    examples = FewShotChatMessagePromptTemplate(
        examples=[{"question": "1 + 1", "response": "two"}], example_prompt=EXAMPLE
    )
    prompt = ChatPromptTemplate.from_messages([("system", "Answer."), examples, ("human", "{question}")])
    return prompt | RunnableLambda(lambda value: value.to_messages()) | answer | StrOutputParser()


class Counting(FakeListChatModel):
    """Adds up if the question is short, or if an example shows how."""

    responses: list[str] = ["unused"]  # noqa: RUF012 - a field of a pydantic model

    def _call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        question = messages[-1].content
        knows = any(message.content == "7" for message in messages)
        return "7" if knows or question.startswith("0") else "many"


def test_examples_are_filled_from_runs_that_went_well(store: str) -> None:
    """An example is what went into the prompt with what the model answered, in the example's own fields."""
    chain = few_shot_chain(Counting())
    better, result = optimize(chain, store, trainable=["examples"], optimizer="demos", lm=None, max_steps=6)
    assert result.best.candidate == {"prompt.examples": [{"question": "0 + 7", "response": "7"}]}
    assert result.best.score == 1.0
    assert better.steps[0].messages[1].examples == [{"question": "0 + 7", "response": "7"}]


def test_examples_can_be_written_by_an_optimizer(store: str) -> None:
    lm = proposing(**{"prompt.examples": '[{"question": "3 + 4", "response": "7"}]'})
    _, result = optimize(few_shot_chain(Counting()), store, trainable=["examples"], lm=lm)
    assert result.best.score == 1.0


def test_a_chat_model_is_the_optimizer(store: str) -> None:
    reply = f'<value name="extract_answer">\n{GOOD}</value>'
    _, result = optimize(make_chain(), store, lm=FakeListChatModel(responses=[reply]))
    assert result.best.score == 1.0
    assert {t.role for t in result.study.totals()} == {"forward", "optimizer"}


def test_a_model_in_the_metric_is_counted_as_judge(store: str) -> None:
    judge = FakeListChatModel(responses=["1"])
    _, result = optimize(make_chain("Answer: 7"), store, judge=lambda e, o: float(judge.invoke(o).content), max_steps=1)
    assert {t.role: t.calls for t in result.study.totals()}["judge"] == 2 * len(ROWS)  # for learning and for choosing


@pytest.mark.parametrize("wanted", ["metric_calls", "tokens"])
def test_a_budget_ends_the_search(store: str, wanted: str) -> None:
    lm = ta.ScriptedLM(
        lambda messages: '<value name="extract_answer">\ndef extract_answer(response):\n    return response\n</value>'
    )
    budget = ta.Budget(**{wanted: 20 if wanted == "metric_calls" else 500})
    _, result = optimize(make_chain(), store, lm=lm, budget=budget)
    assert "budget" in result.stopped


def test_a_traced_chain_is_taken_with_its_terms(store: str) -> None:
    """What `tal.trace` was told counts, `uses=` for instance; other names trace it anew."""
    traced = tal.trace(make_chain(), trainable="code", trust="in-process")
    better = tal.optimize(traced, ROWS, metric, lm=proposing(extract_answer=GOOD), store=store, progress=False)
    assert better.invoke(ROWS[0]) == "7"
    assert list(tal.wrap(traced, trainable=["prompt.system"]).parameters()) == ["prompt.system"]
    with pytest.raises(ta.SettingError, match=r"trust= to tal\.trace"):
        tal.wrap(traced, trust="in-process")


def test_a_chain_that_changes_its_input_changes_nobody_elses() -> None:
    def drain(row: dict[str, Any]) -> dict[str, Any]:
        return {"question": row["words"].pop()}

    row = {"words": ["a", "b"], "answer": "7"}
    target = tal.wrap(RunnableLambda(drain) | make_chain("Answer: 7"), trainable=["extract_answer"], inputs=["words"])
    assert [target.run({}, row).output for _ in range(3)] == ["7", "7", "7"]
    assert row["words"] == ["a", "b"]


def test_each_run_of_a_graph_with_memory_is_on_its_own() -> None:
    graph = pytest.importorskip("langgraph.graph")
    memory = pytest.importorskip("langgraph.checkpoint.memory")
    builder = graph.StateGraph(graph.MessagesState)
    builder.add_node("count", lambda state: {"messages": [("ai", str(len(state["messages"])))]})
    builder.add_edge(graph.START, "count")
    app = builder.compile(checkpointer=memory.InMemorySaver())
    part = tal.trainable("unused", "text")
    target = tal.wrap(app, trainable=[part], inputs=["messages"])
    rows = {"messages": [("user", "hi")]}
    assert [target.run({}, rows).output["messages"][-1].content for _ in range(2)] == ["1", "1"]


def test_the_cost_is_said_before_anything_is_spent() -> None:
    """In the words that DSPy users get; no model is asked, and arguments that cannot work are refused."""
    asked: list[Any] = []

    def judge(example: Any, output: Any) -> float:
        asked.append(example)
        return 1.0

    model = FakeListChatModel(responses=["it is 7"])
    chain = PROMPT | model.with_fallbacks([model]) | RunnableLambda(lambda m: {"question": m.content}) | PROMPT | model
    found = tal.estimate(chain, ROWS[:6], judge, valset=ROWS[6:], trainable="prompt", budget=60, max_steps=3)
    assert (found.metric_calls, found.program_calls, found.optimizer_calls) == (60, 120, 3)
    assert found.keys == ["prompt.system", "prompt.human"]  # one prompt, which stands in two places
    short = tal.estimate(PROMPT | model, ROWS, judge, trainable="prompt", budget=60)
    assert found.prompt_tokens is not None
    assert short.prompt_tokens is not None
    assert found.prompt_tokens == pytest.approx(2 * short.prompt_tokens, rel=0.05)
    assert short.prompt_tokens > 60 * 8  # the two messages and the example
    assert "at most 60 runs of the program with about 60 model calls" in str(short)
    assert (asked, model.i) == ([], 0)
    with pytest.raises(ta.SettingError, match="budget with metric_calls"):
        tal.estimate(chain, ROWS, judge, trainable="prompt", budget=ta.Budget(usd=1))
    with pytest.raises(ta.SettingError, match="metric must be"):
        tal.estimate(chain, ROWS, "exact", trainable="prompt")
    with pytest.raises(ta.DataError, match="lacks 'question'"):
        tal.estimate(chain, [{"q": "x"}], judge, trainable="prompt")


def test_what_nobody_can_know_of_the_cost_is_not_guessed() -> None:
    ask = tal.trainable(PROMPT, "ask")
    found = tal.estimate(RunnableLambda(ask.invoke), ROWS, metric, trainable=[ask], inputs="question")
    assert (found.metric_calls, found.program_calls, found.prompt_tokens) == (400, None, None)
    assert "with an unknown number of model calls, and 50 optimizer calls; training ask.system, ask.human" in str(found)
    assert tal.estimate(make_chain(), ROWS, metric, trainable="code", optimizer="textgrad").optimizer_calls is None
