"""What pyproject.toml promises is what is there: bounds, packages, entry points."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<lowest>[\d.]+),<(?P<first_refused>[\d.]+)")


def requirements() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"]
    return [
        *PROJECT["project"]["dependencies"],
        *(line for name in sorted(extras) if name != "all" for line in extras[name]),
    ]


@pytest.mark.parametrize("requirement", requirements())
def test_every_dependency_has_both_bounds(requirement: str) -> None:
    assert REQUIREMENT.fullmatch(requirement)


def test_lowest_versions_are_the_lower_bounds() -> None:
    lines = (ROOT / ".ci/lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {}
    adapters = [line for name in ("dspy", "langchain", "textgrad") for line in extras[name]]
    for requirement in [*PROJECT["project"]["dependencies"], *adapters]:
        match = REQUIREMENT.fullmatch(requirement)
        assert match
        wanted[match["name"]] = match["lowest"]
    assert {name: tuple(map(int, pinned[name].split("."))) for name in wanted} == {
        name: pad(version, pinned[name].count(".")) for name, version in wanted.items()
    }


def pad(version: str, dots: int) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (dots + 1 - len(numbers)))


def test_every_adapter_is_packed() -> None:
    packages = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("adapters/*/*/__init__.py")}
    build = PROJECT["tool"]["hatch"]["build"]
    assert set(build["targets"]["wheel"]["packages"]) == {"trace_adapters", *packages}
    assert set(build["dev-mode-dirs"]) == {".", *(str(Path(package).parent) for package in packages)}


def test_every_adapter_is_registered() -> None:
    declared = PROJECT["project"]["entry-points"]["trace_adapters"]
    packages = {path.parent.name for path in ROOT.glob("adapters/*/*/__init__.py")}
    assert {value.split(":")[0].split(".")[0] for value in declared.values()} == packages


def test_entry_points_name_what_can_be_imported() -> None:
    found = [
        point for point in entry_points(group="trace_adapters") if point.dist and point.dist.name == "trace-adapters"
    ]
    if not found:
        pytest.skip("trace-adapters is not installed here")
    assert all(point.load() for point in found)


def test_models_of_every_framework_are_registered() -> None:
    """What stands in pyproject.toml is a function `as_lm` of an adapter."""
    declared = PROJECT["project"]["entry-points"]["trace_adapters.models"]
    for name, value in declared.items():
        pytest.importorskip(name)
        assert EntryPoint(name, value, "trace_adapters.models").load().__name__ == "as_lm"
    assert set(declared) == {"dspy", "langchain_core"}


def test_no_thread_of_ours_keeps_a_program_from_ending() -> None:
    """After a second Ctrl-C a program waits for every thread of `concurrent.futures` that works.

    Those of the sandbox end in the seconds that a call may take.
    """
    files = [*ROOT.glob("trace_adapters/**/*.py"), *ROOT.glob("adapters/*/*/*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if "ThreadPoolExecutor(" in path.read_text(encoding="utf-8")}
    assert found == {"trace_adapters/sandbox/pool.py"}


def test_version_is_said_once() -> None:
    import trace_adapters

    assert trace_adapters.__version__ == PROJECT["project"]["version"]
