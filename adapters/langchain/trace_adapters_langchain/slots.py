"""The tree of recorded runs, with each run under the one whose code called it, in the place it has there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from trace_adapters_langchain.recording import RecordedRun, Recorder

Where = tuple[str, Any]
"""A place: ("step", 2), ("key", "question"), ("condition", 1), ("branch", "default"), ("attempt", 2)."""

_PREFIXES = (
    ("seq:step:", "step", True),
    ("map:key:", "key", False),
    ("condition:", "condition", True),
    ("branch:", "branch", True),
    ("retry:attempt:", "attempt", True),
)


class Tree:
    """The runs of one recording.

    LangChain names the wrong parent for the attempts of a fallback: the run in which the fallback itself runs. The
    context in which such a run begins names the right one.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.roots: list[RecordedRun] = []
        self._children: dict[UUID, list[RecordedRun]] = {}
        runs = dict(recorder.runs)
        parents: dict[UUID, UUID | None] = {}
        for run in runs.values():
            parent = parents[run.id] = _parent(run, runs, parents)
            (self.roots if parent is None else self._children.setdefault(parent, [])).append(run)

    def inside(self, run: RecordedRun) -> list[RecordedRun]:
        """The runs directly inside one, in the order in which they began."""
        return self._children.get(run.id, [])

    def by_place(self, run: RecordedRun) -> dict[Where, list[RecordedRun]]:
        """Place -> the runs in it: one, unless a runnable runs others in its own way."""
        found: dict[Where, list[RecordedRun]] = {}
        for child in self.inside(run):
            where = place_of(child.tags)
            if where is not None:
                found.setdefault(where, []).append(child)
        return found

    def kind(self, run: RecordedRun) -> str | None:
        """The kind of composite that an unknown run is one of; None for what may do anything with its input."""
        inside = self.inside(run)
        kinds = {where[0] for where in (place_of(child.tags) for child in inside) if where is not None}
        for place, kind in (("step", "sequence"), ("key", "parallel"), ("condition", "branch"), ("attempt", "retry")):
            if place in kinds:
                return kind
        if run.name.startswith("RunnableAssign<") and len(inside) == 1 and self.kind(inside[0]) == "parallel":
            return "assign"
        return None

    def is_attempt(self, run: RecordedRun) -> bool:
        """Whether a run is the second attempt of a retry, or a later one."""
        where = place_of(run.tags)
        return where is not None and where[0] == "attempt"


def place_of(tags: Sequence[str]) -> Where | None:
    """The place that LangChain's own tags name; None if they name none."""
    for tag in tags:
        for prefix, kind, numbered in _PREFIXES:
            if tag.startswith(prefix):
                which = tag[len(prefix) :]
                return kind, int(which) if numbered and which.isdigit() else which
    return None


def _parent(run: RecordedRun, runs: dict[UUID, RecordedRun], parents: dict[UUID, UUID | None]) -> UUID | None:
    """The innermost of the two runs that may have called this one."""
    told = run.parent if run.parent in runs else None
    around = runs.get(run.around) if run.around is not None else None
    if around is None or around.id == run.id or (around.ended is not None and around.ended < run.started):
        return told
    if told is None:
        return around.id
    above = parents.get(around.id)
    while above is not None and above != told:
        above = parents.get(above)
    return told if above is None else around.id
