"""Learned programs are loaded with consent, compared and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad


def extract(response: str) -> str:
    """Find the answer."""
    return response.split("Answer:")[1].strip()


GOOD = "def extract(response):\n    return response.split()[-1]"


class Old(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> response")


class New(Old):
    def __init__(self) -> None:
        super().__init__()
        self.extract = tad.Function(extract)
        self.header = tad.Text("Answer.")


@pytest.fixture
def learned() -> Any:
    return tad.apply(New(), {"extract": GOOD, "predict.instructions": "Be brief.", "header": "Answer!"})


def test_load_needs_consent_for_code(learned: Any, tmp_path: Path) -> None:
    learned.save(str(tmp_path / "p.json"))
    loaded = tad.load(New(), tmp_path / "p.json")
    assert (loaded.extract.source, loaded.header, loaded.predict.signature.instructions) == (
        GOOD,
        "Answer!",
        "Be brief.",
    )
    with pytest.raises(ta.UntrustedCode):
        loaded.extract("it is 42")
    assert tad.load(New(), tmp_path / "p.json", allow_code=True).extract("it is 42") == "42"


def test_an_unchanged_function_needs_no_consent(tmp_path: Path) -> None:
    New().save(str(tmp_path / "p.json"))
    assert tad.load(New(), tmp_path / "p.json").extract("Answer: 42") == "42"


def test_old_files_load(tmp_path: Path) -> None:
    old = tad.apply(Old(), {"instructions" if False else "predict.instructions": "Be brief."})
    old.save(str(tmp_path / "old.json"))
    loaded = tad.load(New(), tmp_path / "old.json")
    assert loaded.predict.signature.instructions == "Be brief."
    assert loaded.header == "Answer."
    with pytest.raises(ta.ParameterError, match="header"):
        tad.load(New(), tmp_path / "old.json", strict=True)


def test_a_program_that_is_one_predictor_loads(tmp_path: Path) -> None:
    """DSPy writes the state of a bare predictor without the name of a parameter around it."""
    path = tmp_path / "best.json"
    best = tad.apply(dspy.Predict("text -> label"), {"instructions": "Be strict."})
    best.save(str(path))
    assert tad.diff(tad.load(dspy.Predict("text -> label"), path, strict=True), best) == ""
    with pytest.raises(ta.DataError, match="no saved program"):
        tad.load(dspy.ChainOfThought("text -> label"), path)


def test_a_file_that_does_not_fit_changes_nothing(learned: Any, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    learned.save(str(path))
    state = json.loads(path.read_text())
    state["extract"] = {"source": "def other(): pass"}
    path.write_text(json.dumps(state))
    program = New()
    before = program.dump_state()
    with pytest.raises(ta.ParameterError):
        tad.load(program, path)
    assert program.dump_state() == before


@pytest.mark.parametrize("text", ["not json", "[1, 2]", '{"predict": 3}'])
def test_what_is_no_saved_program_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ta.DataError):
        tad.load(New(), tmp_path / "p.json")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    New().save(str(tmp_path / "p.pkl"))
    with pytest.raises(ta.DataError, match=r'save the program as "….json"'):
        tad.load(New(), tmp_path / "p.pkl")


def test_what_is_no_program_is_refused(learned: Any, tmp_path: Path) -> None:
    learned.save(str(tmp_path / "p.json"))
    with pytest.raises(ta.AdapterError, match=r"Expected a dspy\.Module, got 5"):
        tad.load(5, tmp_path / "p.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ta.DataError, match="No such file"):
        tad.load(New(), tmp_path / "p.json")


def test_diff_shows_what_changed(learned: Any) -> None:
    text = tad.diff(New(), learned)
    assert "+    return response.split()[-1]" in text
    assert "+Be brief." in text
    assert tad.diff(learned, learned) == ""


def test_export_writes_readable_files(learned: Any, tmp_path: Path) -> None:
    folder = tad.export(learned, tmp_path / "learned")
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert any(name.endswith(".py") and "response.split()[-1]" in text for name, text in texts.items())
    assert any("Be brief." in text for text in texts.values())
