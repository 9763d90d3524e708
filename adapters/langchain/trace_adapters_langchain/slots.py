"""The tree of recorded runs, with each run under the one whose code called it, in the place it has there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

from trace_adapters_langchain.leaves import differs
from trace_adapters_langchain.recording import RecordedRun, Recorder

Where = tuple[str, Any]
"""A place: ("step", 2), ("key", "question"), ("condition", 1), ("branch", "default"), ("attempt", 2)."""

GRAPH_STEP = "graph:step:"

_PREFIXES = (
    ("seq:step:", "step", True),
    ("map:key:", "key", False),
    ("condition:", "condition", True),
    ("branch:", "branch", True),
    ("retry:attempt:", "attempt", True),
)

_KINDS = (
    ({"step"}, "sequence"),
    ({"key"}, "parallel"),
    ({"condition", "branch"}, "branch"),
    ({"", "attempt"}, "retry"),  # its first attempt has no tag
)


class Tree:
    """The runs of one recording.

    LangChain names the wrong parent for the attempts of a fallback: the run in which the fallback itself runs. The
    context in which such a run begins names the right one. And in chains that were not repaired it names a run
    further out for bound steps (see `repairs`); those are put back by their place and their input, and if several
    runs fit, under each of them: rather an edge too many than one too few.
    """

    def __init__(self, recorder: Recorder) -> None:
        runs = dict(recorder.runs)
        parents: dict[UUID, UUID | None] = {}
        self._children: dict[UUID, list[RecordedRun]] = {}
        self._told: dict[UUID, list[RecordedRun]] = {}
        self._named: dict[UUID, list[Where]] = {}
        self._places: dict[UUID, Where | None] = {}
        for run in runs.values():
            parent = parents[run.id] = _parent(run, runs, parents)
            # the tags of an attempt of a fallback are the fallback's own
            named = self._named[run.id] = _places_of(run.tags) if parent == run.parent else []
            self._places[run.id] = named[0] if named else None
            if parent is not None:
                self._told.setdefault(parent, []).append(run)
        self.roots = [run for run in runs.values() if parents[run.id] is None]
        for run in runs.values():
            told = parents[run.id]
            if told is not None:
                known = run.id in recorder.places or run.id in recorder.chains
                for parent in ([] if known else self._parents_inside(run, told)) or [runs[told]]:
                    self._children.setdefault(parent.id, []).append(run)

    def _parents_inside(self, run: RecordedRun, told: UUID) -> list[RecordedRun]:
        """The runs inside the told parent that this run must be in, if it has no place in the parent itself."""
        begun = [one for one in self._children.get(told, ()) if _is_open(one, run)]
        places = self._named[run.id]
        if not begun or self._belongs(places, told) or (not places and is_node(run)):
            return []
        others = [self._family(one) for one in self._told[told] if one is not run]
        merged = set.intersection(*others) if others else set()  # the parent's own places, which LangChain merged in
        self._places[run.id] = next((place for place in places if _group(place) not in merged), None)
        found = [inner for one in begun for inner in self._innermost(run, one)]
        if not found:
            self._places[run.id] = places[0] if places else None
        return found

    def _belongs(self, places: Sequence[Where], told: UUID) -> bool:
        """Whether a run is told to be in a composite that has places like its own."""
        family = {_group(place) for place in places}
        return len(family) == 1 and all(family <= self._family(one) for one in self._told[told])

    def _family(self, run: RecordedRun) -> set[str]:
        """What kinds of composites have places like those of a run."""
        return {_group(place) for place in self._named[run.id]}

    def _innermost(self, run: RecordedRun, one: RecordedRun) -> list[RecordedRun]:
        """The innermost open runs that fit as the parent."""
        begun = [inner for inner in self.inside(one) if _is_open(inner, run)]
        found = [fitting for inner in begun for fitting in self._innermost(run, inner)]
        return found or ([one] if self._fits(run, one) else [])

    def _fits(self, run: RecordedRun, parent: RecordedRun) -> bool:
        """Whether a run may be the next one in a parent, by its place and its input."""
        if parent.kind != "chain":  # a model that runs beside it, on the same input
            return False
        place = self._place(run)
        if place is not None and place[0] == "step" and place[1] > 1:
            before = [one for one in self.inside(parent) if self._place(one) == ("step", place[1] - 1)]
            return any(not differs(run.inputs, one.output) for one in before)
        families = [self._family(one) for one in self._told.get(parent.id, ())]
        if place is None or place[0] == "attempt":
            alike = not any(families)  # what has no places may be a retry or a fallback
        else:
            alike = all(_group(place) in family for family in families)
        return alike and not differs(run.inputs, parent.inputs)

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
        kinds = {"" if where is None else where[0] for where in map(self._place, inside)}
        for places, kind in _KINDS:
            if kinds - {""} and kinds <= places:
                return kind
        if run.name.startswith("RunnableEach<") and inside:
            return "each"
        if run.name.startswith("RunnableAssign<") and len(inside) == 1 and self.kind(inside[0]) == "parallel":
            return "assign"
        return None


def is_node(run: RecordedRun) -> bool:
    """Whether a run is a node of a graph, of which many may run side by side on one input."""
    return any(tag.startswith(GRAPH_STEP) for tag in run.tags)


def place_of(tags: Sequence[str]) -> Where | None:
    """The place that LangChain's own tags name; None if they name none."""
    places = _places_of(tags)
    return places[0] if places else None


def are_attempts(runs: Sequence[RecordedRun], around: RecordedRun) -> bool:
    """Whether runs can be the attempts of one retry: one after the other, each because the one before failed."""
    if not any((place_of(run.tags) or ("",))[0] == "attempt" for run in runs):
        return False
    return in_turn(runs, around)


def in_turn(runs: Sequence[RecordedRun], around: RecordedRun) -> bool:
    """Whether each run began because the one before failed, and the last decided."""
    in_turn = all(one.error is not None and (one.ended or 0) < after.started for one, after in pairwise(runs))
    return in_turn and (runs[-1].error is None) == (around.error is None)


def by_input(runs: Sequence[RecordedRun], items: Sequence[Any]) -> dict[int, RecordedRun]:
    """Number of an item -> its run, if there is a run for each and their inputs tell them apart; else nothing."""
    if len(runs) != len(items) or len(items) > 200:  # each is compared with each
        return {}
    fitting = [[n for n, item in enumerate(items) if not differs(one.inputs, item)] for one in runs]
    placed = {numbers[0]: one for one, numbers in zip(runs, fitting, strict=True) if len(numbers) == 1}
    return placed if len(placed) == len(runs) else {}


def _places_of(tags: Sequence[str]) -> list[Where]:
    """Several, if LangChain merged the tags of two places."""
    found: list[Where] = []
    for tag in tags:
        for prefix, kind, numbered in _PREFIXES:
            if tag.startswith(prefix):
                which = tag[len(prefix) :]
                found.append((kind, int(which) if numbered and which.isdigit() else which))
    return found


def _group(place: Where) -> str:
    return "branch" if place[0] == "condition" else place[0]


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
