"""Recorded runs as nodes: what LangChain's composites do with values is known, so the data flow needs no guessing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from trace_adapters import Node
from trace_adapters.extend import FailedCall, Operation, Value
from trace_adapters_langchain import leaves
from trace_adapters_langchain.chains import shape_of
from trace_adapters_langchain.flows import (
    INSIDE,
    Failure,
    Fields,
    Flow,
    Items,
    Whole,
    all_inputs,
    chosen,
    free_name,
    merged,
)
from trace_adapters_langchain.graphs import is_graph, is_routing, lift_graph
from trace_adapters_langchain.recording import RecordedRun, Recorder, TracedChain
from trace_adapters_langchain.slots import Tree, Where, are_attempts, by_input, in_turn

Parameters = Mapping[int, Sequence[tuple[str, Value]]]
"""`id` of a runnable -> what it reads of the parameters, by argument name."""

_COMPOSITES = frozenset({"sequence", "parallel", "assign", "branch", "fallbacks", "retry", "each"})
_BOUND = Operation("bound", "The steps inside were called with the other inputs bound to them.")
_UNKNOWN = Operation("unrecorded", "A step that LangChain did not report made this from the inputs shown.")


class Lifting:
    """The nodes of one recording.

    Args:
        recorder: What happened.
        parameters: What the runnables of the chain read.
        sources: `id` of a runnable -> the source in force of its function.
        config: The config of the call, which may choose among alternatives.
    """

    def __init__(
        self,
        recorder: Recorder,
        parameters: Parameters | None = None,
        sources: Mapping[int, leaves.Source] | None = None,
        config: Any = None,
    ) -> None:
        self.tree = Tree(recorder)
        self._places = recorder.places
        self._chains = recorder.chains
        self._parameters: dict[int, Sequence[tuple[str, Value]]] = dict(parameters or {})
        self._sources: dict[int, leaves.Source] = dict(sources or {})
        self._config = config
        self._ended: dict[Node, int] = {}
        self.flows: dict[UUID, Flow] = {}

    def node(self, chain: Any, inputs: Any, output: Any, error: BaseException | None = None) -> Node:
        """The output of one call of a chain, with everything that led to it; a failed call if it raised `error`."""
        node = self.place(self.tree.roots, chain, given(inputs), "").node()
        if error is not None and not isinstance(node, FailedCall):
            names, sources = tuple(node.recorded_inputs), node.sources
            return FailedCall(error, None, "", node.operation or _UNKNOWN, names, sources)
        if isinstance(node, FailedCall):
            return node if error is not None else Node(output, None, "", INSIDE, (node.name,), (node,))
        if node._data is output:
            return node
        return Node(output, node._name, node._description, node.operation, tuple(node.recorded_inputs), node.sources)

    def place(self, runs: Sequence[RecordedRun], runnable: Any, flow: Flow, name: str) -> Flow:
        """What a place in a composite gave.

        Args:
            runs: The runs in that place: one, unless the runnable there runs others in its own way.
            runnable: What stands there; None if it is not known.
            flow: What went in.
            name: What to call it if LangChain reported nothing.
        """
        runnable, flow, extra = self._resolved(runnable, flow)
        if len(runs) == 1 and leaves.reports_itself(runnable):
            return self.run(runs[0], runnable, flow, extra)
        if not runs:
            inputs = flow.inputs()
            unseen = Node(None, name or None, "", _UNKNOWN, tuple(inputs), tuple(inputs.values()))
            return _with_values(Whole(unseen), extra)
        return _with_values(self._group(runs, flow, type(runnable).__name__ if runnable is not None else name), extra)

    def run(self, run: RecordedRun, runnable: Any, flow: Flow, extra: Sequence[tuple[str, Value]] = ()) -> Flow:
        """What one run gave."""
        traced = self._chains.get(run.id)
        if traced is not None:  # a traced chain that was called by a function, with parameters of its own
            parameters, sources, chain = traced
            self._parameters.update(parameters)
            self._sources.update(sources)
            runnable, flow, extra = self._resolved(chain, flow)
        found = self._lift(run, runnable, flow, extra)
        self.flows[run.id] = found
        return found

    def _lift(self, run: RecordedRun, runnable: Any, flow: Flow, extra: Sequence[tuple[str, Value]]) -> Flow:
        shape = shape_of(runnable)
        kind = shape.kind if shape is not None else None
        if runnable is None:
            kind = self.tree.kind(run) or ("fallbacks" if self._are_fallbacks(run) else None)
        if shape is None and is_graph(self.tree, run):
            return lift_graph(self, run, runnable, flow)
        parts = shape.read(runnable) if shape is not None else {}
        if kind not in _COMPOSITES:
            return self._call(run, runnable, flow, extra)
        found: Flow = getattr(self, f"_{kind}")(run, parts, flow)
        if isinstance(found, Failure) and run.error is None:  # somebody's own code went on after it
            return self._call(run, None, flow, extra)
        return _with_values(found, extra)

    def _resolved(self, runnable: Any, flow: Flow) -> tuple[Any, Flow, list[tuple[str, Value]]]:
        """What really runs in the place of a runnable that has no run of its own, with what was bound to it."""
        extra: list[tuple[str, Value]] = []
        while runnable is not None:
            shape = shape_of(runnable)
            kind = shape.kind if shape is not None else None
            if kind == "binding":
                extra += self._parameters.get(id(runnable), ())
                runnable = runnable.bound
            elif kind == "dynamic":
                runnable = leaves.prepared(runnable, self._config)
            elif kind == "router":
                key = flow.field("key").node()
                runnable = runnable.runnables.get(key._data)
                flow = chosen(flow.field("input"), {"key": key})
            elif isinstance(runnable, TracedChain):
                parameters, sources, runnable = runnable.reads()
                self._parameters.update(parameters)
                self._sources.update(sources)
            else:
                break
        return runnable, flow, extra

    def _sequence(self, run: RecordedRun, parts: Mapping[Any, Any], flow: Flow) -> Flow:
        by_place = self.tree.by_place(run)
        last = max([which for kind, which in (*parts, *by_place) if kind == "step"], default=0)
        for number in range(1, last + 1):
            where: Where = ("step", number)
            runs = by_place.get(where, [])
            later = any(("step", n) in by_place for n in range(number + 1, last + 1))
            if not runs and run.error is not None and not later:
                return self._failure(run, flow.inputs())
            flow = self.place(runs, parts.get(where), flow, f"step of {run.name}")
            if isinstance(flow, Failure):
                return flow
        return (self._first_failure(run, [flow], flow) or flow) if last else self._call(run, None, flow, ())

    def _parallel(self, run: RecordedRun, parts: Mapping[Any, Any], flow: Flow) -> Flow:
        by_place = self.tree.by_place(run)
        found: dict[str, Flow] = {}
        for where in dict.fromkeys([*parts, *by_place]):
            if where[0] != "key":
                continue
            if where not in by_place and run.error is not None:
                continue
            found[where[1]] = self.place(by_place.get(where, []), parts.get(where), flow, str(where[1]))
        return self._first_failure(run, found.values(), flow) or Fields(found, run.output)

    def _assign(self, run: RecordedRun, parts: Mapping[Any, Any], flow: Flow) -> Flow:
        inner = self.place(self.tree.inside(run), parts.get(("mapper", "")), flow, run.name)
        if isinstance(inner, Failure):
            return inner
        return self._first_failure(run, [inner], flow) or merged(flow, inner, run.output)

    def _branch(self, run: RecordedRun, parts: Mapping[Any, Any], flow: Flow) -> Flow:
        by_place = self.tree.by_place(run)
        because: dict[str, Node] = {}
        taken: Flow | None = None
        for where in sorted(by_place, key=lambda where: by_place[where][0].started):
            found = self.place(by_place[where], parts.get(where), flow, str(where[0]))
            if isinstance(found, Failure):
                return self._because(found, because)
            if where[0] == "condition":
                because[f"condition_{where[1]}"] = found.node()
            else:
                taken = found
        if taken is None:
            return self._call(run, None, flow, ())
        return self._because(self._first_failure(run, [taken], flow) or taken, because)

    def _fallbacks(self, run: RecordedRun, parts: Mapping[Any, Any], flow: Flow) -> Flow:
        attempts = self.tree.inside(run)
        if not parts:
            return self._attempts(run, attempts, [None] * len(attempts), flow)
        known = [part for (kind, _), part in parts.items() if kind == "attempt"]
        if len(attempts) > len(known) or not all(leaves.makes_one_run(part) for part in known):
            return self._group(attempts, flow, run.name)
        return self._attempts(run, attempts, known, flow)

    def _are_fallbacks(self, run: RecordedRun) -> bool:
        """Whether an unknown run is that of a fallback, whose attempts were one run each."""
        attempts = self.tree.inside(run)
        return run.name == "RunnableWithFallbacks" and bool(attempts) and in_turn(attempts, run)

    def _retry(self, run: RecordedRun, parts: Mapping[Any, Any], flow: Flow) -> Flow:
        attempts = self.tree.inside(run)
        numbered = all(attempt.id in self._places for attempt in attempts)
        bound = parts.get(("bound", ""))
        if attempts and (numbered or are_attempts(attempts, run)):
            return self._attempts(run, attempts, [bound] * len(attempts), flow)
        if bound is None:
            return self._call(run, None, flow, ())
        return self._lift(run, *self._resolved(bound, flow))  # a stream is not retried

    def _attempts(self, run: RecordedRun, attempts: Sequence[RecordedRun], known: Sequence[Any], flow: Flow) -> Flow:
        """The attempt that went well, because the others failed; the first failure if none did."""
        failed: dict[str, Node] = {}
        failures: list[Failure] = []
        for attempt, runnable in zip(attempts, known, strict=False):
            found = self.place([attempt], runnable, self._with_failure(flow, attempt, failed), run.name)
            if not isinstance(found, Failure):
                return self._first_failure(run, [found], flow) or chosen(found, failed)
            failed[f"failed_attempt_{len(failed) + 1}"] = found.node()
            failures.append(found)
        if not failures or run.error is None:
            return self._call(run, None, flow, ())
        return next((one for one in failures if one.error is run.error), failures[0])

    @staticmethod
    def _with_failure(flow: Flow, attempt: RecordedRun, failed: Mapping[str, Node]) -> Flow:
        """The input of an attempt, with the error of the one before if LangChain put it there."""
        if not failed or not isinstance(attempt.inputs, dict):
            return flow
        before = list(failed.values())[-1]
        added = {k: Whole(before) for k, v in attempt.inputs.items() if v is before._data}
        return merged(flow, Fields(added), attempt.inputs) if added else flow

    def _each(self, run: RecordedRun, parts: Mapping[Any, Any], flow: Flow) -> Flow:
        bound = parts.get(("bound", ""))
        runs = self.tree.inside(run)
        items = run.inputs if isinstance(run.inputs, (list, tuple)) else None
        placed = {self._places[one.id]: one for one in runs if one.id in self._places}
        if not placed and bound is None:
            placed = by_input(runs, items or ())
        if items is None or not leaves.makes_one_run(bound) or len(placed) != len(runs):
            return self._group(runs, flow, run.name)
        found = [
            self.place([placed[number]], bound, flow.field(number), run.name)
            for number in range(len(items))
            if number in placed
        ]
        return self._first_failure(run, found, flow) or Items(found, run.output)

    def call(self, run: RecordedRun, runnable: Any, flow: Flow) -> Flow:
        """What a run gave that may have run others inside, whatever their tags say."""
        found = self.flows[run.id] = self._call(run, runnable, flow, ())
        return found

    def _call(self, run: RecordedRun, runnable: Any, flow: Flow, extra: Sequence[tuple[str, Value]]) -> Flow:
        """What a leaf gave, or a function that may have run others inside."""
        through = leaves.passed_through(runnable, flow)
        if through is not None and run.error is None:
            return through
        keys = leaves.keys_read(runnable, self._sources)
        inputs = dict(flow.inputs(keys))
        own = dict(self._parameters.get(id(runnable), ()))
        if keys is not None and len(self.tree.inside(run)) == 1 and leaves.only_chooses(runnable, self._sources):
            return self._route(run, runnable, flow, all_inputs(inputs, own))
        self._add_inside(run, flow, inputs, own)
        inputs = all_inputs(inputs, own, dict(extra))
        if run.error is not None:
            return self._failure(run, inputs, runnable)
        operation = leaves.operation(run, runnable, self._sources)
        return Whole(Node(leaves.shown(run.output), None, "", operation, tuple(inputs), tuple(inputs.values())))

    def _route(self, run: RecordedRun, runnable: Any, flow: Flow, inputs: Mapping[str, Node]) -> Flow:
        """What a chain gave that a function returned: the function only decided."""
        (child,) = self.tree.inside(run)
        operation = leaves.operation(run, runnable, self._sources)
        choice = Node(child.name, None, "", operation, tuple(inputs), tuple(inputs.values()))
        return self._because(self.run(child, None, flow), {operation.name: choice})

    def _because(self, flow: Flow, because: Mapping[str, Node]) -> Flow:
        """A flow with control edges from what decided that it came about, also if it is a failure."""
        if not isinstance(flow, Failure):
            return chosen(flow, because)
        found = flow.because(because)
        self._ended[found.node()] = self._ended.get(flow.node(), 0)
        return found

    def _add_inside(self, run: RecordedRun, flow: Flow, inputs: dict[str, Node], own: Mapping[str, Node]) -> None:
        """Add what ran inside a function to its inputs.

        A runnable that the function returned gets the function's whole input, whatever the function itself read.
        The function's own code made what it called them with.
        """
        read = dict(inputs)
        runs = [child for child in self.tree.inside(run) if not is_routing(child, run)]
        self._add_runs(
            runs,
            inputs,
            lambda child: all_inputs(own, read if leaves.differs(child.inputs, run.inputs) else flow.inputs()),
        )

    def _group(self, runs: Sequence[RecordedRun], flow: Flow, name: str) -> Flow:
        """What some runs gave that a runnable ran in its own way: it may depend on all of them."""
        inputs = dict(flow.inputs())
        read = dict(inputs)
        ordered = sorted(runs, key=lambda one: one.started)
        last = self._add_runs(ordered, inputs, lambda _: read)
        if last is None or isinstance(last, Failure):
            return last or flow
        operation = Operation(name or "own_code", INSIDE.description)
        data = leaves.shown(ordered[-1].output)
        return Whole(Node(data, None, "", operation, tuple(inputs), tuple(inputs.values())))

    def _add_runs(
        self,
        runs: Sequence[RecordedRun],
        inputs: dict[str, Node],
        seen_by: Callable[[RecordedRun], Mapping[str, Node]],
    ) -> Flow | None:
        """Add what runs gave to inputs; each may have gone into those that began after it ended.

        Returns:
            What the last one gave; None if there is none.
        """
        ended: list[tuple[int, str, Node]] = []
        found: Flow | None = None
        for child in runs:
            before = {name: node for end, name, node in ended if end < child.started}
            sources = all_inputs(seen_by(child), before)
            data = leaves.shown(child.inputs)
            made = Node(data, None, "", INSIDE, tuple(sources), tuple(sources.values()))
            found = self.run(child, None, Whole(made))
            name = free_name(child.name, inputs)
            inputs[name] = found.node()
            if child.ended is not None:
                ended.append((child.ended, name, inputs[name]))
        return found

    def _first_failure(self, run: RecordedRun, parts: Iterable[Flow], flow: Flow) -> Flow | None:
        """How a run failed; None if it did not."""
        if run.error is None:
            return None
        return self.failed(run, [part for part in parts if isinstance(part, Failure)], flow)

    def failed(self, run: RecordedRun, failures: Sequence[Failure], flow: Flow, runnable: Any = None) -> Flow:
        """How a run failed: with the error of a part, or with one of its own, maybe because parts had failed."""
        for one in sorted(failures, key=lambda one: one.error is not run.error):
            if leaves.is_same(one.error, run.error):
                return one
        before = [{one.node().name: one.node()} for one in failures]
        return self._failure(run, all_inputs(flow.inputs(), *before), runnable)

    def _failure(self, run: RecordedRun, inputs: Mapping[str, Node], runnable: Any = None) -> Flow:
        error = run.error if run.error is not None else RuntimeError(f"{run.name} did not end")
        inner = [n for n in inputs.values() if isinstance(n, FailedCall) and leaves.is_same(n._data, error)]
        if inner:  # an exception passes through many calls; it was raised in the one that ended first
            return Failure(min(inner, key=lambda node: self._ended.get(node, 0)), error)
        operation = leaves.operation(run, runnable, self._sources)
        source = self._sources.get(id(runnable))
        node = FailedCall(
            error, None, "", operation, tuple(inputs), tuple(inputs.values()),
            place=leaves.place_of_error(error, source),
            source_text=None if source is None else source.text,
        )  # fmt: skip
        self._ended[node] = run.ended or 0
        return Failure(node, error)


def _with_values(flow: Flow, extra: Sequence[tuple[str, Value]]) -> Flow:
    """A flow to which parameters went that were bound to a whole composite."""
    if not extra or isinstance(flow, Failure):
        return flow
    inputs = all_inputs({"value": flow.node()}, dict(extra))
    return Whole(Node(inputs["value"]._data, None, "", _BOUND, tuple(inputs), tuple(inputs.values())))


def given(inputs: Any) -> Flow:
    """What a chain was called with: nodes named like the keys, or one named "input"."""
    if isinstance(inputs, Mapping) and inputs and all(isinstance(key, str) for key in inputs):
        return Fields({key: Whole(Node(leaves.shown(value), key)) for key, value in inputs.items()}, inputs)
    return Whole(Node(leaves.shown(inputs), "input"))
