"""The faces export what is written here, nothing more and nothing less."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import get_origin

import pytest

ROOT = Path(__file__).resolve().parent.parent

FACES = {
    "trace_adapters": [
        "AdapterError",
        "Budget",
        "BudgetExceeded",
        "Candidate",
        "CodeError",
        "DataError",
        "Demonstrations",
        "ExecutionError",
        "Feedback",
        "LM",
        "MetricError",
        "ModelError",
        "ModelUnavailable",
        "Module",
        "Node",
        "OptoPrime",
        "Parameter",
        "ParameterError",
        "SandboxError",
        "SandboxKilled",
        "SandboxTimeout",
        "SandboxUnavailable",
        "ScriptExhausted",
        "ScriptedLM",
        "SettingError",
        "Store",
        "StoreError",
        "StoreTooNew",
        "Study",
        "StudyExists",
        "StudyNotFound",
        "TextGrad",
        "TraceAdaptersError",
        "TraceGraph",
        "UntrustedCode",
        "as_lm",
        "bundle",
        "carry_context",
        "format",
        "model",
        "no_trace",
        "node",
        "optimize",
        "propagate",
        "using",
        "wrap",
    ],
    "trace_adapters.extend": [
        "AdaptedLM",
        "BatchTarget",
        "CallRecord",
        "CodeSpec",
        "Demonstration",
        "Estimate",
        "EvaluationRecord",
        "EventRecord",
        "FailedCall",
        "Greedy",
        "Judge",
        "Judgement",
        "LanguageModel",
        "LearnedFunction",
        "Limits",
        "MemoryCache",
        "Messages",
        "Operation",
        "Optimizer",
        "Outcome",
        "ParameterSpec",
        "Policy",
        "Price",
        "Proposal",
        "ProposalRecord",
        "PythonTarget",
        "Question",
        "Reply",
        "ReplyCache",
        "Result",
        "RoleTotals",
        "Run",
        "SandboxPool",
        "SourceCode",
        "SqliteCache",
        "StepRecord",
        "StudyInfo",
        "Tape",
        "Target",
        "TrialRecord",
        "Usage",
        "Value",
        "annotate",
        "backward",
        "call_metric",
        "candidate_key",
        "check_source",
        "check_values",
        "choosing_sandbox",
        "code_parameter",
        "compile_source",
        "count_tokens",
        "default_pool",
        "differences",
        "error_place",
        "estimate",
        "export_candidate",
        "failure_feedback",
        "is_tracing",
        "keyed",
        "load_function",
        "noting_levels",
        "read_source",
        "record_calls",
        "require_terms",
        "register_codec",
        "report",
        "sample_seed",
        "spec_of",
        "threads",
        "unwrap",
        "write_text",
    ],
}


@pytest.mark.parametrize("face", FACES)
def test_face_exports_these_names(face: str) -> None:
    assert importlib.import_module(face).__all__ == FACES[face]


@pytest.mark.parametrize(("face", "name"), [(face, name) for face, names in FACES.items() for name in names])
def test_name_resolves(face: str, name: str) -> None:
    value = getattr(importlib.import_module(face), name)
    is_alias = get_origin(value) is not None
    assert is_alias or getattr(value, "__name__", name) == name


@pytest.mark.parametrize("face", FACES)
def test_names_are_listed_by_dir(face: str) -> None:
    assert set(FACES[face]) <= set(dir(importlib.import_module(face)))


@pytest.mark.parametrize("face", FACES)
def test_type_checkers_see_what_python_sees(face: str) -> None:
    module = importlib.import_module(face)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    seen = {
        alias.asname: f"{line.module}"
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert seen == module._HOMES


@pytest.mark.parametrize("face", FACES)
def test_unknown_name_is_an_attribute_error(face: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nodee'"):
        importlib.import_module(face).nodee


def test_no_room_hides_a_name_of_the_face() -> None:
    """Importing `trace_adapters.optimize` would bind that module over the function."""
    rooms = {path.stem for path in (ROOT / "trace_adapters").iterdir()}
    assert rooms & set(FACES["trace_adapters"]) == set()


def test_star_import_brings_the_face() -> None:
    names: dict[str, object] = {}
    exec("from trace_adapters import *", names)
    assert set(FACES["trace_adapters"]) <= set(names)
