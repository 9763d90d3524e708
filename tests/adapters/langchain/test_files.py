"""Learned values are saved with what they were learned from, loaded with consent, compared, and exported without us."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnablePassthrough

import trace_adapters_langchain as tal
from trace_adapters import DataError, ParameterError, UntrustedCode

SUFFIX = "!"
LEARNED = "def add(text):\n    import math\n    return text + str(math.floor(2.5)) + SUFFIX\n"


def add(text: str) -> str:
    return text + SUFFIX


def helper(text: str) -> str:
    return text * 2


def uses_helper(text: str) -> str:
    return helper(text)


@pytest.fixture
def traced() -> Any:
    return tal.trace(PromptTemplate.from_template("Say {word}") | StrOutputParserOfPrompts() | RunnableLambda(add))


def StrOutputParserOfPrompts() -> Any:
    return RunnableLambda(text_of)


def text_of(prompt: Any) -> str:
    return str(prompt.to_string())


def test_saved_values_come_back(traced: Any, tmp_path: Path) -> None:
    traced.with_values({"prompt": "Whisper {word}"}).save(tmp_path / "qa.json")
    again = traced.load(tmp_path / "qa.json")
    assert again.invoke({"word": "hi"}) == "Whisper hi!"
    assert traced.invoke({"word": "hi"}) == "Say hi!"


def test_loaded_code_runs_only_with_consent(traced: Any, tmp_path: Path) -> None:
    path = tmp_path / "qa.json"
    traced.with_values({"add": LEARNED}).save(path)
    loaded = traced.load(path)
    assert "+    return text + str(math.floor(2.5)) + SUFFIX" in loaded.diff()
    with pytest.raises(UntrustedCode, match=r"traced\.trust"):
        loaded.invoke({"word": "hi"})
    with pytest.raises(UntrustedCode):
        loaded.plain()
    assert isinstance(loaded.node({"word": "hi"}).data, UntrustedCode)
    assert loaded.trust().invoke({"word": "hi"}) == "Say hi2!"
    assert traced.load(path, allow_code=True).plain().invoke({"word": "hi"}) == "Say hi2!"


def test_a_changed_chain_is_told(traced: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "qa.json"
    traced.with_values({"prompt": "Whisper {word}"}).save(path)
    changed = tal.trace(PromptTemplate.from_template("Shout {word}") | RunnableLambda(text_of))
    with caplog.at_level(logging.WARNING):
        assert changed.load(path).invoke({"word": "hi"}) == "Whisper hi"
    assert "unknown here, left out: add" in caplog.text
    assert "learned from another value than the chain has now: prompt" in caplog.text


def test_a_step_put_before_changes_no_name(traced: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "qa.json"
    traced.with_values({"prompt": "Whisper {word}"}).save(path)
    longer = tal.trace(RunnablePassthrough() | RunnableLambda(dict) | traced.chain)
    with caplog.at_level(logging.WARNING):
        assert longer.load(path).invoke({"word": "hi"}) == "Whisper hi!"
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": "other"}', '{"format": "trace-adapters chain", "values": {"a": 1}}']
)
def test_files_of_others_are_refused(traced: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "qa.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"qa\.json"):
        traced.load(path)
    with pytest.raises(DataError, match=r"none\.json"):
        traced.load(tmp_path / "none.json")


def test_a_file_whose_values_do_not_fit_changes_nothing(traced: Any, tmp_path: Path) -> None:
    path = tmp_path / "qa.json"
    traced.save(path)
    data = json.loads(path.read_text())
    data["values"]["prompt"]["value"] = "no variable"
    path.write_text(json.dumps(data))
    with pytest.raises(ParameterError, match=r"lost \{word\}"):
        traced.load(path)


def test_diff_shows_what_was_learned(traced: Any) -> None:
    other = traced.with_values({"prompt": "Whisper {word}"})
    assert other.diff() == traced.with_values({"prompt": "Whisper {word}"}).diff(traced)
    assert "-Say {word}\n+Whisper {word}" in other.diff()
    assert traced.diff() == ""


def test_a_traced_chain_travels_in_a_pickle(traced: Any) -> None:
    """As far as the chain itself does: functions by their names, no lambdas."""
    better = traced.with_values({"prompt": "Whisper {word}", "add": LEARNED})
    again = pickle.loads(pickle.dumps(better))
    assert again.values == better.values
    assert again.invoke({"word": "hi"}) == "Whisper hi2!"
    assert again.node({"word": "hi"}).data == "Whisper hi2!"


def run_alone(folder: Path, program: str) -> str:
    """What a program prints where nothing of ours can be imported."""
    blocked = "import sys\nfor name in ('trace_adapters', 'trace_adapters_langchain'): sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-c", blocked + program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_export_runs_where_only_langchain_core_is(traced: Any, tmp_path: Path) -> None:
    better = traced.with_values({"prompt": 'Whisper {word} {{"a": 1}}', "add": LEARNED})
    assert better.export(tmp_path / "learned.py") == []
    printed = run_alone(tmp_path, "from learned import build; print(build().invoke({'word': 'hi'}))")
    assert printed == better.invoke({"word": "hi"}) == 'Whisper hi {"a": 1}2!'


def test_an_export_asks_for_what_cannot_be_written(tmp_path: Path, answering: Any) -> None:
    shots = FewShotChatMessagePromptTemplate(
        examples=[{"q": "1+1", "a": "two"}],
        example_prompt=ChatPromptTemplate.from_messages([("human", "{q}"), ("ai", "{a}")]),
    )
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), shots, ("human", "{q}")])
    model = answering(lambda text: text)
    chain = (
        RunnablePassthrough.assign(q=itemgetter("q"), long=RunnableLambda(lambda x: len(x["q"])))
        | RunnableBranch((lambda x: x["long"] > 100, RunnableLambda(uses_helper)), prompt)
        | model.bind(stop=["\n"])
        | StrOutputParser()
    ).with_retry(stop_after_attempt=2)
    better = tal.trace(chain).with_values({"prompt.system": "Be terse."})
    assert better.export(tmp_path / "learned.py") == ["uses_helper", "model"]
    program = (
        "from learned import build\nfrom langchain_core.runnables import RunnableLambda\n"
        "print(build(uses_helper=None or RunnableLambda(str), model=RunnableLambda(lambda p, **k: p.to_string())"
        " | (lambda t: t.upper())).invoke({'q': '2+2'}))"
    )
    assert "TERSE" in run_alone(tmp_path, program)
    assert "def build(uses_helper, model):" in (tmp_path / "learned.py").read_text()


def today() -> str:
    return helper("today ")


@pytest.mark.parametrize("placeholder", [MessagesPlaceholder("history", optional=True), ("placeholder", "{history}")])
def test_prompts_with_placeholders_and_functions_are_exported(tmp_path: Path, placeholder: Any) -> None:
    """Placeholders for messages are written down with their prompt; of its functions, those that can be."""
    prompt = ChatPromptTemplate.from_messages([("system", "{mood}, {day}"), placeholder, ("human", "{q}")])
    traced = tal.trace(prompt.partial(mood=lambda: "calm", day=today) | RunnableLambda(text_of))
    better = traced.with_values({"prompt.system": "Learned. {mood}, {day}"})
    assert better.export(tmp_path / "learned.py") == ["today"]
    program = (
        "from learned import build\nfor more in ({}, {'history': [('ai', 'one')]}):\n"
        "    print(build(today=lambda: 'today today ').invoke({'q': '2+2', **more}))"
    )
    given = [{"q": "2+2"}, {"q": "2+2", "history": [("ai", "one")]}]
    assert run_alone(tmp_path, program) == "\n".join(better.batch(given))
