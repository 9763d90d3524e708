"""Imports point down one way, the core names no framework, and importing it costs little."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "trace_adapters"
ADAPTERS = ROOT / "adapters"
FACES = ("trace_adapters", "trace_adapters.extend")

# The floors of the house: a room imports from the floors below it, and from the rooms in BESIDE.
FLOORS = (
    ("errors", "lines", "showing", "threads"),
    ("context", "sandboxing"),
    ("history",),
    ("source_checks", "source_compiling", "source_definitions", "source_surroundings"),
    ("nodes", "code", "lm", "sandbox"),
    ("arguments", "learned", "pictures", "saving", "trace_json"),
    ("streams",),
    ("recording", "packing", "exporting"),
    ("bundles", "traces", "study"),
    ("modules", "tape", "lineage", "operators", "optimizers", "search", "inference"),
    ("confining", "targets", "progress"),
    ("accepting", "estimating", "evaluation", "optimization"),
    ("report", "cli"),
)
BESIDE = {
    ("exporting", "recording"),
    ("optimization", "evaluation"),
    ("optimization", "accepting"),
    ("sandbox", "code"),
    ("search", "optimizers"),
    ("source_compiling", "source_checks"),
    ("source_definitions", "source_checks"),
    ("tape", "lineage"),
}
TOP = ("testing",)  # shipped conformance suites: may use every room
FRAMEWORKS = re.compile(r"\b(dspy|langchain(_\w+)?|langgraph|litellm)\b", re.IGNORECASE)
FRAMEWORK_ROOTS = {"dspy", "langchain", "langchain_core", "langgraph", "litellm", "textgrad", "httpx"}

Import = tuple[str, int]  # dotted name, line


def modules_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def dotted_name(path: Path, top: Path) -> str:
    parts = path.relative_to(top).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, module: str, is_package: bool) -> Iterator[Import]:
    """Every import, also in functions and under `TYPE_CHECKING`; relative ones made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif is_import_call(node):
            yield node.args[0].value, node.lineno  # type: ignore[attr-defined]


def is_import_call(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in {"import_module", "__import__"} and isinstance(node.args[0].value, str)


def names_of_core() -> set[str]:
    return {dotted_name(path, ROOT) for path in modules_below(CORE)}


def imported_module(name: str, known: set[str]) -> str:
    """The longest known module that `name` begins with: `x.nodes.Node` -> `x.nodes`."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def floor_of(room: str) -> int:
    return next((level for level, rooms in enumerate(FLOORS) if room in rooms), -1)


def wrong_imports(source: str, module: str, is_package: bool, known: set[str]) -> list[str]:
    """The imports in one module of the core that the architecture forbids, each as a sentence."""
    found = []
    room = module.split(".")[1]
    for name, line in imports_of(ast.parse(source), module, is_package):
        where = f"{module}:{line}"
        if name.split(".")[0] in FRAMEWORK_ROOTS:
            found.append(f"{where} imports the framework {name}")
        if name.split(".")[0] != "trace_adapters":
            continue
        target = imported_module(name, known)
        if target in FACES:
            found.append(f"{where} imports the face {target}")
            continue
        below = target.split(".")[1]
        if below == room:
            if target == f"trace_adapters.{room}" and not is_package:
                found.append(f"{where} imports the face of its own room, {target}")
        elif room not in TOP and (room, below) not in BESIDE and floor_of(below) >= floor_of(room):
            found.append(f"{where} ({room}) may not import {below}: it does not stand below")
    return found


CORE_MODULES = [path for path in modules_below(CORE) if dotted_name(path, ROOT) not in FACES]


@pytest.mark.parametrize("path", CORE_MODULES, ids=lambda path: dotted_name(path, ROOT))
def test_imports_point_down(path: Path) -> None:
    module, is_package = dotted_name(path, ROOT), path.name == "__init__.py"
    wrong = wrong_imports(path.read_text(encoding="utf-8"), module, is_package, names_of_core())
    assert wrong == []


def test_every_room_has_a_floor() -> None:
    rooms = {dotted_name(path, ROOT).split(".")[1] for path in CORE_MODULES}
    placed = {room for floor in FLOORS for room in floor} | set(TOP)
    assert rooms - placed == set()


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("from trace_adapters.optimization import optimize", "does not stand below"),
        ("from trace_adapters import traces", "does not stand below"),
        ("from trace_adapters.code import read_source", "does not stand below"),
        ("def f():\n    from trace_adapters.optimization import optimize", "does not stand below"),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..optimization import optimize",
            "not stand below",
        ),
        ("import importlib\nimportlib.import_module('trace_adapters.cli')", "does not stand below"),
        ("from trace_adapters import Node", "imports the face trace_adapters"),
        ("import trace_adapters as ta", "imports the face trace_adapters"),
        ("from .. import extend", "imports the face trace_adapters.extend"),
        ("from trace_adapters.lm import LM", "face of its own room"),
        ("from . import LM", "face of its own room"),
        ("import litellm.utils", "imports the framework"),
        ("from langchain_core.runnables import Runnable", "imports the framework"),
    ],
)
def test_wrong_imports_are_seen(source: str, complaint: str) -> None:
    known = {"trace_adapters", *FACES, "trace_adapters.lm", "trace_adapters.lm.client"}
    known |= {f"trace_adapters.{room}" for floor in FLOORS for room in floor}
    wrong = wrong_imports(source, "trace_adapters.lm.client", False, known)
    assert len(wrong) == 1
    assert complaint in wrong[0]


def test_right_imports_pass() -> None:
    known = {
        "trace_adapters",
        "trace_adapters.errors",
        "trace_adapters.lm",
        "trace_adapters.lm.client",
        "trace_adapters.lm.ledger",
    }
    source = "import json\nfrom trace_adapters.errors import ModelError\nfrom .ledger import record"
    assert wrong_imports(source, "trace_adapters.lm.client", False, known) == []


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(CORE.rglob("*")) if path.suffix in {".py", ".md"}],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_core_names_no_framework(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    named = [f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if FRAMEWORKS.search(line)]
    assert named == []


def adapter_packages() -> list[Path]:
    return sorted(path.parent for path in ADAPTERS.glob("*/*/__init__.py"))


@pytest.mark.parametrize("package", adapter_packages(), ids=lambda path: path.name)
def test_adapters_use_only_the_public_faces(package: Path) -> None:
    known = names_of_core()
    wrong = []
    for path in modules_below(package):
        module = dotted_name(path, package.parent)
        for name, line in imports_of(ast.parse(path.read_text(encoding="utf-8")), module, path.name == "__init__.py"):
            if name.split(".")[0] == "trace_adapters" and imported_module(name, known) not in FACES:
                wrong.append(f"{module}:{line} imports {name}")
    assert wrong == []


def test_adapters_know_nothing_of_each_other() -> None:
    names = {package.name for package in adapter_packages()}
    wrong = []
    for package in adapter_packages():
        for path in modules_below(package):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            roots = {name.split(".")[0] for name, _ in imports_of(tree, dotted_name(path, package.parent), False)}
            wrong += [f"{path.name} imports {root}" for root in roots & (names - {package.name})]
    assert wrong == []


def test_adapter_folders_are_no_packages() -> None:
    stray = [path for pattern in ("*.py", "*/*.py") for path in ADAPTERS.glob(pattern)]
    assert stray == []


def loaded_by(statement: str) -> set[str]:
    """Names of the modules that `statement` adds to a fresh interpreter."""
    code = f"import sys; before = set(sys.modules); {statement}; print('\\n'.join(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def strangers(modules: set[str]) -> set[str]:
    roots = {module.split(".")[0] for module in modules}
    return roots - set(sys.stdlib_module_names) - {"trace_adapters"}


@pytest.mark.parametrize(
    "statement",
    [
        "import trace_adapters",
        "import trace_adapters as ta; ta.node, ta.bundle, ta.Module, ta.propagate, ta.Feedback, ta.using",
        "import trace_adapters.extend",
    ],
)
def test_importing_the_tracer_loads_the_standard_library_only(statement: str) -> None:
    modules = loaded_by(statement)
    assert strangers(modules) == set()
    assert len(modules) < 150


def test_no_framework_is_loaded_by_the_whole_face() -> None:
    statement = "import trace_adapters as ta; [getattr(ta, name) for name in ta.__all__]"
    assert strangers(loaded_by(statement)) & FRAMEWORK_ROOTS <= {"httpx"}  # openai 2 brings httpx itself
