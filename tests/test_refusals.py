"""What is passed wrongly is refused where it is passed, in words that say what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import trace_adapters as ta

x = ta.node(1, name="x", trainable=True)
y = x + 1
told = ta.ScriptedLM(lambda messages: "no change")
opto = ta.OptoPrime([x], lm=told)


class Program(ta.Module):
    def __init__(self) -> None:
        self.k = ta.node(1, name="k", trainable=True)

    def forward(self, q: int) -> Any:
        return self.k * q


def _study() -> ta.Study:
    return ta.Store.open(":memory:").create_study("s", base={"x": 1})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ta.Feedback("wrong answer"), TypeError, r"Feedback\(None, text\)"),
        (lambda: ta.Feedback(1.0, 5), TypeError, "a number, then a text"),
        (lambda: y.backward({"score": "high"}), ValueError, "score must be a number, got 'high'"),
        (lambda: ta.propagate(y, (int, "")), TypeError, "score must be a number"),
        (lambda: ta.ScriptedLM(5), ta.SettingError, "list of replies or a function of the messages, got 5"),
        (lambda: told("x", n="2"), ta.SettingError, "n='2'"),
        (lambda: ta.LM("m", api_key="k")("x", n=1.5), ta.SettingError, "n=1.5"),
        (lambda: ta.OptoPrime([x], lm=told, memory_size="5"), ta.SettingError, "memory_size"),
        (lambda: ta.OptoPrime([x], lm=told, max_prompt_tokens=None), ta.SettingError, "max_prompt_tokens"),
        (lambda: ta.OptoPrime([x], lm=told, mask=5), ta.SettingError, "mask holds section names"),
        (lambda: ta.OptoPrime([x], lm=told, mask=[5]), ta.SettingError, "mask holds section names"),
        (lambda: ta.TextGrad([x], lm=told, constraints=5), ta.SettingError, "constraints must be a text, or several"),
        (lambda: opto.propose([y]), ta.SettingError, "what propagate"),
        (lambda: opto.propose(y), ta.SettingError, "what propagate"),
        (lambda: opto.propose([ta.propagate(y, "bad")], n="2"), ta.SettingError, "n must be a whole number"),
        (lambda: ta.Parameter(1, "k", choices=5), ta.ParameterError, "choices of the parameter 'k'"),
        (lambda: ta.Parameter(1, "k", check="int"), ta.ParameterError, "check of the parameter 'k'"),
        (lambda: Program().set_values([1]), ta.ParameterError, "mapping from parameter key to value"),
        (lambda: Program().set_values({1: 2}), ta.ParameterError, "There is no parameter 1"),
        (lambda: ta.bundle(trust="yes")(len), ta.SettingError, "trust is 'sandbox' or 'in-process'"),
        (lambda: ta.bundle(timeout_s=0)(len), ta.SettingError, "timeout_s"),
        (lambda: ta.model(5), TypeError, "decorates a class"),
        (lambda: ta.Store.open(None), ta.StoreError, "'sqlite:///study.db' or a path, got None"),
        (lambda: ta.Store.open(":memory:").load_study(5), ta.StoreError, "name of a study"),
        (lambda: ta.Store.open(":memory:").create_study("s", base=[1]), ta.ParameterError, "a candidate, a mapping"),
        (lambda: ta.Store.open(":memory:").create_study("s", base={}, config=5), ta.StoreError, "config"),
        (lambda: _study().candidate(10**400), ta.StoreError, "key of a candidate"),
        (lambda: _study().add_candidate(5), ta.ParameterError, "a candidate, a mapping"),
    ],
)
def test_a_wrong_argument_is_named(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
