"""A DSPy program can ask the same server as a `ta.LM`; a server that fails is not the program's fault."""

from __future__ import annotations

import gc
import pickle
import warnings
from typing import Any

import cloudpickle
import dspy
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad
from trace_adapters.extend import record_calls
from trace_adapters.testing.openai_server import Completion, Failure, OpenAIServer
from trace_adapters_dspy.models import as_lm
from trace_adapters_dspy.shims import is_model_failure

EXAMPLE = dspy.Example(question="6 * 7?", answer="42").with_inputs("question")
GOOD = Completion("[[ ## answer ## ]]\n42\n\n[[ ## completed ## ]]", usage=(12, 3))


def model(server: OpenAIServer, **options: Any) -> Any:
    lm = ta.LM("some-model", base_url=server.base_url, api_key="secret")
    return tad.dspy_lm(lm, num_retries=0, cache=False, temperature=0.0, max_tokens=50, **options)


def test_a_program_asks_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    with OpenAIServer([GOOD], api_key="secret") as server, dspy.context(lm=model(server)):
        target = tad.DspyTarget(dspy.Predict("question -> answer"))
        with record_calls(calls.append):
            run = target.run({}, EXAMPLE)
    assert run.output == {"answer": "42"}
    assert server.requests[0].body["model"] == "some-model"
    assert (calls[0].usage.prompt_tokens, calls[0].usage.completion_tokens) == (12, 3)
    assert calls[0].status == "ok"


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_server_that_fails_ends_the_run(status: int) -> None:
    calls: list[Any] = []
    with OpenAIServer(lambda request: Failure(status)) as server, dspy.context(lm=model(server)):
        target = tad.DspyTarget(dspy.Predict("question -> answer"))
        with record_calls(calls.append), pytest.raises(ta.ModelError, match=str(status) + "|injected"):
            target.run({}, EXAMPLE)
    assert calls[0].status == "error"


def test_no_server_ends_the_run() -> None:
    with OpenAIServer([]) as server:
        lm = model(server)
    with dspy.context(lm=lm), pytest.raises(ta.ModelError):
        tad.DspyTarget(dspy.Predict("question -> answer")).run({}, EXAMPLE)


@pytest.mark.parametrize("typed", [True, False])
async def test_an_optimizer_asks_a_model_of_dspys(scripted: Any, typed: bool, numbered: Any) -> None:
    """A typed request where the model takes one: messages go away in DSPy 3.5."""
    if typed:
        pytest.importorskip("dspy.lm15", reason="typed requests came with DSPy 3.4")
    lm = scripted(lambda prompt: f"reply {numbered()} to {prompt}", typed=typed)
    asked = as_lm(lm, name="proposer", profile="small")
    calls: list[Any] = []
    with warnings.catch_warnings(), record_calls(calls.append):
        if typed:
            warnings.simplefilter("error")
        replies = [*asked("Hi", n=2, role="optimizer", temperature=0.5), *await asked.acall("Ho")]
    assert [reply.text for reply in replies] == ["reply 0 to Hi", "reply 1 to Hi", "reply 2 to Ho"]
    assert [(call.role, call.model, call.usage.prompt_tokens) for call in calls] == [
        ("optimizer", "proposer", 20),
        ("forward", "proposer", 10),
    ]
    assert (asked.profile, replies[0].finish_reason, replies[0].usage.cost_usd) == ("small", "stop", None)


def test_an_optimizers_model_that_fails_is_a_model_error(scripted: Any, tmp_path: Any) -> None:
    with OpenAIServer([]) as server:
        lm = model(server)
    teacher = tad.TraceOptimizer(lambda gold, pred: 0.0, lm=lm, store=tmp_path / "study.db", progress=False)
    task = scripted(lambda prompt: {"answer": "41"})
    with dspy.context(lm=task), pytest.raises(ta.ModelError, match="some-model"):
        teacher.compile(dspy.Predict("question -> answer"), trainset=[EXAMPLE])


def test_what_is_no_model_of_dspys_is_refused() -> None:
    with pytest.raises(ta.AdapterError, match=r"dspy\.LM"):
        as_lm(ta.ScriptedLM(["hello"]))


def test_the_server_lives_as_long_as_its_model() -> None:
    with OpenAIServer([GOOD]) as server:
        lm = model(server)
        gc.collect()
        assert lm.trace_adapters_lm.lm.base_url == server.base_url
        assert lm.copy().trace_adapters_lm.lm is lm.trace_adapters_lm.lm
        assert pickle.loads(cloudpickle.dumps(lm.trace_adapters_lm)).lm is None


def test_what_has_no_server_is_refused() -> None:
    with pytest.raises(ta.SettingError, match=r"ta\.LM"):
        tad.dspy_lm(ta.ScriptedLM(["hello"]))


class RateLimitError(Exception):
    """As a client of the openai family raises it."""


class ContextWindowExceededError(RateLimitError):
    """A prompt that is too long, which a candidate can cause."""


RateLimitError.__module__ = ContextWindowExceededError.__module__ = "litellm.exceptions"


def test_failures_of_the_server_are_told_from_those_of_the_program() -> None:
    wrapped = RuntimeError("both adapters failed")
    wrapped.__cause__ = RateLimitError()
    mine = ValueError("my own")
    mine.__context__ = RateLimitError()
    assert [is_model_failure(e) for e in (RateLimitError(), wrapped)] == [True, True]
    assert [is_model_failure(e) for e in (ContextWindowExceededError(), mine, KeyError("RateLimitError"))] == [
        False
    ] * 3
