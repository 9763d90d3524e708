"""A DSPy program can ask the same server as a `ta.LM`; a server that fails is not the program's fault."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import cloudpickle
import dspy
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad
from trace_adapters.extend import record_calls
from trace_adapters.testing.openai_server import Completion, Failure, OpenAIServer
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
