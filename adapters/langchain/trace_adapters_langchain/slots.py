"""The tree of recorded runs, with each run under the one whose code called it, in the place it has there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from trace_adapters_langchain.leaves import differs
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
    context in which such a run begins names the right one. And in chains that were not repaired it names a run
    further out for bound steps (see `repairs`); those are put back by their place and their input, and if several
    runs fit, under each of them: rather an edge too many than one too few.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.roots: list[RecordedRun] = []
        self._children: dict[UUID, list[RecordedRun]] = {}
        self._places: dict[UUID, Where | None] = {}
        runs = dict(recorder.runs)
        parents: dict[UUID, UUID | None] = {}
        for run in runs.values():
            parent = parents[run.id] = _parent(run, runs, parents)
            self._places[run.id] = place_of(run.tags)
            if parent is None:
                self.roots.append(run)
                continue
            known = run.id in recorder.places or run.id in recorder.chains
            better = [] if known else self._parents_inside(run, parent)
            parents[run.id] = better[0].id if better else parent
            for inner in better:
                self._children.setdefault(inner.id, []).append(run)
            if not better:
                self._children.setdefault(parent, []).append(run)

    def _parents_inside(self, run: RecordedRun, told: UUID) -> list[RecordedRun]:
        """The runs inside the told parent that this run must be in, if it has no place in the parent itself."""
        siblings = self._children.get(told, ())
        begun = [one for one in siblings if _is_open(one, run)]
        if not begun:
            return []
        families = {place[0] for place in map(self._place, siblings) if place is not None}
        places = _places_of(run.tags)
        if len(places) == 1 and places[0][0] in families | ({"branch"} if "condition" in families else set()):
            return []
        self._places[run.id] = next((place for place in places if place[0] not in families), None)
        found = [inner for one in begun for inner in self._innermost(run, one)]
        if not found:
            self._places[run.id] = place_of(run.tags)
        return found

    def _innermost(self, run: RecordedRun, one: RecordedRun) -> list[RecordedRun]:
        """The innermost open runs that fit as the parent."""
        begun = [inner for inner in self.inside(one) if _is_open(inner, run)]
        found = [fitting for inner in begun for fitting in self._innermost(run, inner)]
        return found or ([one] if self._fits(run, one) else [])

    def _fits(self, run: RecordedRun, parent: RecordedRun) -> bool:
        """Whether a run may be the next one in a parent, by its place and its input."""
        place = self._place(run)
        if place is not None and place[0] == "step" and place[1] > 1:
            before = [one for one in self.inside(parent) if self._place(one) == ("step", place[1] - 1)]
            return any(not differs(run.inputs, one.output) for one in before)
        return not differs(run.inputs, parent.inputs)

    def _place(self, run: RecordedRun) -> Where | None:
        return self._places[run.id]

    def inside(self, run: RecordedRun) -> list[RecordedRun]:
        """The runs directly inside one, in the order in which they began."""
        return self._children.get(run.id, [])

    def by_place(self, run: RecordedRun) -> dict[Where, list[RecordedRun]]:
        """Place -> the runs in it: one, unless a runnable runs others in its own way."""
        found: dict[Where, list[RecordedRun]] = {}
        for child in self.inside(run):
            where = self._place(child)
            if where is not None:
                found.setdefault(where, []).append(child)
        return found

    def kind(self, run: RecordedRun) -> str | None:
        """The kind of composite that an unknown run is one of; None for what may do anything with its input."""
        inside = self.inside(run)
        kinds = {where[0] for where in map(self._place, inside) if where is not None}
        for place, kind in (("step", "sequence"), ("key", "parallel"), ("condition", "branch"), ("attempt", "retry")):
            if place in kinds:
                return kind
        if run.name.startswith("RunnableAssign<") and len(inside) == 1 and self.kind(inside[0]) == "parallel":
            return "assign"
        return None

    def is_attempt(self, run: RecordedRun) -> bool:
        """Whether a run is the second attempt of a retry, or a later one."""
        where = self._place(run)
        return where is not None and where[0] == "attempt"


def place_of(tags: Sequence[str]) -> Where | None:
    """The place that LangChain's own tags name; None if they name none."""
    places = _places_of(tags)
    return places[0] if places else None


def _places_of(tags: Sequence[str]) -> list[Where]:
    """Several, if LangChain merged the tags of two places."""
    found: list[Where] = []
    for tag in tags:
        for prefix, kind, numbered in _PREFIXES:
            if tag.startswith(prefix):
                which = tag[len(prefix) :]
                found.append((kind, int(which) if numbered and which.isdigit() else which))
    return found


def _is_open(run: RecordedRun, at: RecordedRun) -> bool:
    """Whether a run had begun and not ended when another began."""
    return run.started < at.started and (run.ended is None or run.ended > at.started)


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
