"""Examples of one candidate run as one batch, where a model of the chain is better at that than at single calls."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel

import trace_adapters as ta
import trace_adapters_langchain as tal
from trace_adapters.testing.conformance import check_target

PROMPT = PromptTemplate.from_template("{question}")
ROWS = [{"question": str(n), "answer": str(n)} for n in range(8)]


class Together(BaseChatModel):
    """A chat model with one request for many prompts; `sizes` are those of the requests."""

    sizes: list[int]
    answer: Callable[[str], str] = lambda text: text

    @property
    def _llm_type(self) -> str:
        return "together"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        text = self.answer(messages[-1].content)
        tokens = int(text) if text.isdigit() else 0
        said = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=said))])  # type: ignore[arg-type]

    def batch(self, inputs: Any, config: Any = None, **kwargs: Any) -> Any:
        self.sizes.append(len(inputs))
        return super().batch(inputs, config, **kwargs)


class Completing(BaseLLM):
    """A text model with one request for many prompts, as `OpenAI` and vLLM's have it."""

    sizes: list[int]
    answer: Callable[[str], str] = lambda text: text

    @property
    def _llm_type(self) -> str:
        return "completing"

    def _generate(self, prompts: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        self.sizes.append(len(prompts))
        return LLMResult(generations=[[Generation(text=self.answer(prompt))] for prompt in prompts])


class Serial(LLM):
    """LangChain's `LLM` asks for one prompt after the other, however many it gets."""

    @property
    def _llm_type(self) -> str:
        return "serial"

    def _call(self, prompt: str, *args: Any, **kwargs: Any) -> str:
        return prompt


def metric(example: Any, output: Any) -> float:
    return float(output == example["answer"])


def judge_all(chain: Any, store: Path | str, rows: Any = ROWS, judge: Any = metric, **options: Any) -> ta.Study:
    """The study of a search that judges the base on all rows, and no more."""
    options = {"trainable": "prompt", "workers": 4, "max_steps": 0, "progress": False, **options}
    url = f"sqlite:///{store}/study.db" if isinstance(store, Path) else store
    lm = ta.ScriptedLM(lambda messages: "")
    _, result = tal.optimize(chain, rows, judge, lm=lm, store=url, study="qa", return_result=True, **options)
    return result.study


def scores(study: ta.Study) -> dict[str, float | None]:
    return {one.example_id: one.score for one in study.evaluations()}


def hand(text: str) -> str:
    return text


def test_a_model_gets_the_prompts_of_workers_examples_together(tmp_path: Path) -> None:
    """Chunks of `workers`, and each example has its own trace, score and usage."""
    model = Together(sizes=[])
    study = judge_all(PROMPT | model | StrOutputParser(), tmp_path, rows=ROWS[:6])
    assert model.sizes == [4, 2]
    found = {one.example_id: one for one in study.evaluations()}
    assert {name: one.score for name, one in found.items()} == {str(n): 1.0 for n in range(6)}
    assert {name: one.usage.prompt_tokens for name, one in found.items()} == {str(n): n for n in range(6)}  # type: ignore[union-attr]
    assert {total.role: total.calls for total in study.totals()} == {"forward": 6}
    for name, one in found.items():
        graph = ta.TraceGraph.from_json(one.trace_json)  # type: ignore[arg-type]
        assert graph.output == name
        assert [p.key for p in graph.parameters] == ["prompt"]


def test_a_text_model_gets_them_in_one_call(tmp_path: Path) -> None:
    model = Completing(sizes=[])
    study = judge_all(PROMPT | model, tmp_path)
    assert model.sizes == [4, 4]
    assert set(scores(study).values()) == {1.0}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda own: PROMPT | own, True),
        (lambda own: PROMPT | own.bind(stop=["."]).with_config(tags=["t"]), True),
        (lambda own: PROMPT | own.with_fallbacks([own]), True),
        (lambda own: PROMPT | (own | hand), True),
        (lambda own: PROMPT | RunnableParallel(a=own), False),
        (lambda own: PROMPT | RunnableBranch((lambda p: True, own), own), False),
        (lambda own: PROMPT | own.with_retry(), False),  # its batch mixes up inputs in langchain-core 0.3.40
        (lambda own: PROMPT | (lambda p: own.invoke(p)), False),
    ],
)
def test_a_batch_is_made_where_it_reaches_a_model_that_takes_it(make: Any, expected: bool) -> None:
    assert tal.wrap(make(Completing(sizes=[])), trainable=["prompt"]).batches is expected


def test_models_without_a_batch_of_their_own_are_asked_side_by_side(answering: Any) -> None:
    """There a batch only makes examples wait for each other; who wants one says so."""
    for model in (answering(lambda text: text), Serial()):
        assert not tal.wrap(PROMPT | model, trainable=["prompt"]).batches
        assert tal.wrap(PROMPT | model, trainable=["prompt"], batch=True).batches
    assert not tal.wrap(PROMPT | Completing(sizes=[]), trainable=["prompt"], batch=False).batches
    with pytest.raises(ta.SettingError, match="batch must be True, False or None, got 'yes'"):
        tal.wrap(PROMPT | Serial(), trainable=["prompt"], batch="yes")  # type: ignore[arg-type]


def test_a_target_that_makes_batches_keeps_every_promise() -> None:
    def last(text: str) -> str:
        return text.split()[-1]

    target = tal.wrap(PROMPT | Completing(sizes=[]) | last, trainable=["last"])
    wrong, failing = "def last(text):\n    return text + '!'\n", "def last(text):\n    return text[99]\n"
    check_target(target, ROWS[1], metric, {"last": wrong}, {"last": failing})


def test_one_workers_and_many_find_the_same(tmp_path: Path) -> None:
    def cut(text: str) -> str:
        """Read the answer."""
        return text[5]

    good = '<value name="cut">\ndef cut(text):\n    return text\n</value>'
    found = []
    for workers in (1, 3, 8):
        model = Completing(sizes=[])
        _, result = tal.optimize(
            PROMPT | model | cut, ROWS, metric, trainable="code", workers=workers, progress=False, return_result=True,
            lm=ta.ScriptedLM(lambda messages: good), store=f"sqlite:///{tmp_path}/{workers}.db",
        )  # fmt: skip
        found.append([(trial.score, trial.candidate_key) for trial in result.study.trials()])
        assert max(model.sizes) == workers
    assert found[0] == found[1] == found[2]
    assert [score for score, _ in found[0]] == [0.0, 1.0]


def test_candidates_share_the_workers(tmp_path: Path) -> None:
    """The minibatches of two candidates run at the same time if there are workers for both."""
    both, met = threading.Barrier(2), []

    class Meeting(Completing):
        def _generate(self, prompts: Any, *args: Any, **kwargs: Any) -> LLMResult:
            if prompts[0].startswith("v"):
                both.wait(30)  # breaks if the other is not asked meanwhile
                met.append(len(prompts))
            return super()._generate(prompts, *args, **kwargs)

    replies = iter(range(100))
    lm = ta.ScriptedLM(lambda messages: f'<value name="prompt">\nv{next(replies)} {{question}}\n</value>')
    tal.optimize(
        PROMPT | Meeting(sizes=[]), ROWS, lambda e, o: 0.5, trainable="prompt", workers=6, proposals=2,
        minibatch_size=3, max_steps=1, progress=False, lm=lm, store=f"sqlite:///{tmp_path}/study.db",
    )  # fmt: skip
    assert met == [3, 3]


def run_batch(chain: Any, rows: Any = ROWS, **options: Any) -> list[Any]:
    target = tal.wrap(chain, trainable=["prompt"], batch=True, **options)
    return target.run_batch({}, rows, [copy_context() for _ in rows])


def test_a_failing_example_fails_alone() -> None:
    """Also by an exit, which LangChain gives to all of a batch."""

    def fragile(text: str) -> str:
        if text == "3":
            raise ValueError("three")
        if text == "4":
            sys.exit("four")
        return text

    runs = run_batch(PROMPT | Completing(sizes=[]) | fragile, ROWS[:6])
    assert [run.output for run in runs] == ["0", "1", "2", None, None, "5"]
    assert [type(run.error) for run in runs] == [type(None)] * 3 + [ValueError, SystemExit, type(None)]
    assert [run.node.name for run in runs][3:5] == ["fragile", "fragile"]


def test_a_request_for_many_that_one_prompt_spoils_is_made_again_for_each() -> None:
    """The failure of a common request is nobody's own, so it blames no example, and no server either."""

    class TooLong(RuntimeError):
        code = "context_length_exceeded"

    def refuse(text: str) -> str:
        if text == "2":
            raise TooLong("the prompt is too long")
        return text

    model = Completing(sizes=[], answer=refuse)
    runs = run_batch(PROMPT | model, ROWS[:4])
    assert model.sizes == [4, 1, 1, 1, 1]
    assert [run.output for run in runs] == ["0", "1", None, "3"]
    assert str(runs[2].error) == "the prompt is too long"


def test_a_server_that_fails_ends_the_search_and_loses_nothing(tmp_path: Path) -> None:
    """What went well in the same batch is in the study, and is not run again."""
    asked, down = [], [True]

    def answer(text: str) -> str:
        asked.append(text)
        if text == "5" and down[0]:
            raise ConnectionError("no server")
        return text

    chain = PROMPT | Together(sizes=[], answer=answer) | StrOutputParser()
    with pytest.raises(ta.ModelError, match="The chain's model failed: ConnectionError: no server"):
        judge_all(chain, tmp_path)
    assert sorted(asked) == [row["question"] for row in ROWS]
    with ta.Store.open(f"sqlite:///{tmp_path}/study.db").load_study("qa") as kept:
        assert sorted(scores(kept)) == ["0", "1", "2", "3", "4", "6", "7"]
    down[0] = False
    study = judge_all(chain, tmp_path, resume=True)
    assert asked[8:] == ["5"]
    assert set(scores(study).values()) == {1.0}
    judge_all(chain, tmp_path, resume=True)
    assert len(asked) == 9


def test_a_late_example_fails_alone(tmp_path: Path) -> None:
    """One that hangs keeps the others of its batch waiting; they run again by themselves, and so does it."""
    release, asked = threading.Event(), []

    def hang(text: str) -> str:
        if text == "2":
            release.wait(60)
        return text

    model = Completing(sizes=[], answer=lambda text: asked.append(text) or text)
    started = time.monotonic()
    study = judge_all(PROMPT | model | hang | hand, tmp_path, rows=ROWS[:4], timeout_s=1.5)
    assert time.monotonic() - started < 40
    release.set()
    found = {one.example_id: one for one in study.evaluations()}
    assert {name: one.score for name, one in found.items()} == {"0": 1.0, "1": 1.0, "2": 0.0, "3": 1.0}
    assert "longer than its limit of 1.5 s" in found["2"].feedback
    failed = ta.TraceGraph.from_json(found["2"].trace_json)  # type: ignore[arg-type]
    assert failed.nodes[-1].name == "hang"
    assert sorted(asked) == sorted(2 * ["0", "1", "2", "3"])
    assert {total.role: total.calls for total in study.totals()} == {"forward": 8}


def test_steps_that_can_only_be_awaited() -> None:
    """The batch is awaited then; a model whose batch is one call is one call there, too."""

    async def wait(text: str) -> str:
        return text

    model = Completing(sizes=[])
    target = tal.wrap(PROMPT | model | RunnableLambda(wait), trainable=["prompt"])
    for _ in range(2):
        runs = target.run_batch({}, ROWS[:3], [copy_context() for _ in range(3)])
        assert [run.output for run in runs] == ["0", "1", "2"]
    assert model.sizes == [3, 3, 3]  # the first one found out that it must be awaited


def test_a_candidates_values_reach_every_example_of_its_batch() -> None:
    """Those of the chain's own parts, and those that are read where they are used."""
    ask = tal.trainable(PromptTemplate.from_template("<{text}>"), "ask")
    chain = PROMPT | Completing(sizes=[]) | RunnableLambda(lambda text: ask.invoke({"text": text}).text)
    target = tal.wrap(chain, trainable=["prompt", ask])
    assert target.batches
    candidate = {"prompt": "{question}!", "ask": "[{text}]"}
    runs = target.run_batch(candidate, ROWS[:3], [copy_context() for _ in range(3)])
    assert [run.output for run in runs] == ["[0!]", "[1!]", "[2!]"]
    graphs = [ta.propagate(run.node, "x") for run in runs]
    assert all(graph.candidate == candidate for graph in graphs)


def test_calls_with_callbacks_of_their_own_are_counted(tmp_path: Path) -> None:
    """Handlers that a function gives replace those of the run; the ledger hears of such calls all the same."""
    other = Together(sizes=[])

    def look_up(text: str) -> str:
        return str(other.invoke(text, {"callbacks": [BaseCallbackHandler()]}).content)

    study = judge_all(PROMPT | Completing(sizes=[]) | look_up, tmp_path, rows=ROWS[:4])
    assert {total.role: total.calls for total in study.totals()} == {"forward": 8}


def test_replies_from_a_cache_cost_nothing(tmp_path: Path) -> None:
    """Of a batch, the cache answers what it knows; usage stays with the example that caused it."""
    model = Together(sizes=[], cache=InMemoryCache())
    rows = [{"question": f"{n % 2 + 5}", "answer": "5", "id": f"r{n}"} for n in range(4)]
    first = judge_all(PROMPT | model | StrOutputParser(), tmp_path, rows=rows[:2], workers=2)
    assert {one.example_id: one.usage.prompt_tokens for one in first.evaluations()} == {"r0": 5, "r1": 6}  # type: ignore[union-attr]
    again = judge_all(PROMPT | model | StrOutputParser(), f"sqlite:///{tmp_path}/again.db", rows=rows)
    assert [one.usage for one in again.evaluations()] == [None] * 4
    assert {total.cached for total in again.totals()} == {4}


def test_a_batch_runs_only_what_can_be_paid(tmp_path: Path) -> None:
    """Tokens are looked at before each chunk."""
    model = Together(sizes=[])
    study = judge_all(PROMPT | model | StrOutputParser(), tmp_path, rows=ROWS, budget=ta.Budget(tokens=5))
    assert model.sizes == [4]
    assert len(study.evaluations()) == 4


def test_the_users_own_config_counts() -> None:
    """Callbacks hear every example; `max_concurrency` cuts the requests."""
    heard = []

    class Handler(BaseCallbackHandler):
        def on_llm_start(self, serialized: Any, prompts: Any, **kwargs: Any) -> None:
            heard.extend(prompts)

    model = Completing(sizes=[])
    run_batch(PROMPT | model, ROWS[:5], config={"callbacks": [Handler()], "max_concurrency": 2})
    assert model.sizes == [2, 2, 1]
    assert sorted(heard) == ["0", "1", "2", "3", "4"]
