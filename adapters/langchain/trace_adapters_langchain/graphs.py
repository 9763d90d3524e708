"""The nodes of a LangGraph graph: what one wrote into the state is what others read there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from trace_adapters import Node
from trace_adapters.extend import Operation
from trace_adapters_langchain import leaves
from trace_adapters_langchain.flows import INSIDE, Failure, Fields, Flow, Whole, chosen, free_name
from trace_adapters_langchain.recording import RecordedRun
from trace_adapters_langchain.slots import GRAPH_STEP, Tree, place_of

MERGED = Operation("merged", "The state's own rule merged these values into one.")


class Calls(Protocol):
    """What is asked of the lifting of all other runs."""

    tree: Tree

    def call(self, run: RecordedRun, runnable: Any, flow: Flow) -> Flow: ...

    def run(self, run: RecordedRun, runnable: Any, flow: Flow) -> Flow: ...

    def failed(self, run: RecordedRun, failures: Sequence[Failure], flow: Flow, runnable: Any = None) -> Flow: ...


def is_graph(tree: Tree, run: RecordedRun) -> bool:
    """Whether a run is one of a graph, which runs its nodes in steps."""
    return any(_step(child) is not None for child in tree.inside(run))


def is_routing(run: RecordedRun, around: RecordedRun) -> bool:
    """Whether a run inside a graph's node chose the nodes to come: it ran after the node itself."""
    where = place_of(run.tags)
    return _step(around) is not None and where is not None and where[0] == "step" and where[1] > 1


def lift_graph(calls: Calls, run: RecordedRun, graph: Any, flow: Flow) -> Flow:
    """What a graph gave.

    A node reads, for each key of the state, what was written there last; if the state's rule merged what several wrote,
    all of it. Nodes of one step do not see each other's writings. Who chose a node is a control edge.

    Args:
        calls: Lifts the runs inside.
        run: The graph's run.
        graph: The compiled graph, if it is known: then a node has edges only from the keys that its function reads.
        flow: What the graph was called with.
    """
    state = _State(flow, run.inputs)
    because: dict[str, Node] = {}
    failures: list[Failure] = []
    for step in _steps(calls.tree.inside(run)):
        done: list[tuple[RecordedRun, Flow]] = []
        for one in step:
            found = calls.call(one, None, state.read_by(one, _keys(graph, one.name)))
            if isinstance(found, Failure):
                failures.append(found)
                continue
            done.append((one, chosen(found, because)))
        because = {}
        for one, found in done:
            state.write(one.output, found)
            because.update(_routes(calls, one, found, because))
    if run.error is not None:
        return calls.failed(run, failures, flow, graph)
    return state.output(run.output)


class _State:
    """The state of a graph while its run is followed.

    Args:
        given: Where the graph's input came from.
        inputs: The input itself.
    """

    def __init__(self, given: Flow, inputs: Any) -> None:
        self._given = given
        self._written: dict[str, list[tuple[Flow, Any]]] = {}
        keys = inputs if isinstance(inputs, Mapping) else ()
        self._first = {key: given.field(key) for key in keys}

    def read_by(self, run: RecordedRun, keys: Sequence[str] | None) -> Flow:
        """What a node was given."""
        if not isinstance(run.inputs, Mapping):
            return self._made_by_anything(run.inputs)
        wanted = [key for key in run.inputs if keys is None or key in keys]
        return Fields({key: self._read(key, run.inputs[key]) for key in wanted}, dict(run.inputs))

    def write(self, output: Any, flow: Flow) -> None:
        """Note what a node wrote."""
        for key, value in _writings(output):
            self._written.setdefault(key, []).append((flow.field(key), value))

    def output(self, output: Any) -> Flow:
        """What the graph gave."""
        if not isinstance(output, Mapping):
            return self._made_by_anything(output)
        return Fields({key: self._read(key, value) for key, value in output.items()}, output)

    def _read(self, key: str, value: Any) -> Flow:
        written = self._written.get(key, [])
        if not written:
            return self._first.get(key) or self._made_by_anything(value, key)
        last, last_value = written[-1]
        if _is_same(last_value, value):
            return last
        sources = [self._first[key]] if key in self._first else []
        return _joined([*sources, *(flow for flow, _ in written)], value, key, MERGED)

    def _made_by_anything(self, value: Any, key: str | None = None) -> Flow:
        """A value that is nobody's writing, such as the argument that a routing function sends to a node."""
        flows = [flow for written in self._written.values() for flow, _ in written]
        return _joined([self._given, *flows], value, key, INSIDE)


def _joined(flows: Iterable[Flow], value: Any, name: str | None, operation: Operation) -> Flow:
    sources: dict[str, Node] = {}
    for node in dict.fromkeys(flow.node() for flow in flows):
        sources[free_name(node.name, sources)] = node
    return Whole(Node(leaves.shown(value), name, "", operation, tuple(sources), tuple(sources.values())))


def _steps(runs: Iterable[RecordedRun]) -> list[list[RecordedRun]]:
    steps: dict[int, list[RecordedRun]] = {}
    for run in runs:
        number = _step(run)
        if number is not None:
            steps.setdefault(number, []).append(run)
    return [steps[number] for number in sorted(steps)]


def _step(run: RecordedRun) -> int | None:
    numbers = [tag[len(GRAPH_STEP) :] for tag in run.tags if tag.startswith(GRAPH_STEP)]
    return int(numbers[0]) if numbers and numbers[0].isdigit() else None


def _routes(calls: Calls, run: RecordedRun, flow: Flow, taken: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    """(name, node) of the functions that chose after a node; they read the state with what the node wrote."""
    names = dict(taken)
    for child in calls.tree.inside(run):
        if is_routing(child, run):
            inner = Whole(Node(leaves.shown(child.inputs), None, "", INSIDE, (run.name,), (flow.node(),)))
            names[free_name(child.name, names)] = node = calls.run(child, None, inner).node()
            yield next(name for name, known in names.items() if known is node), node


def _writings(output: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(output, Mapping):
        yield from output.items()
    elif isinstance(output, list | tuple):
        for one in output:
            yield from _writings(one) if not isinstance(one, str) else ()
    elif hasattr(output, "update") and hasattr(output, "goto"):  # a Command
        yield from _writings(output.update)
    elif hasattr(type(output), "model_fields"):
        yield from ((name, getattr(output, name)) for name in type(output).model_fields)


def _keys(graph: Any, name: str) -> list[str] | None:
    """The keys of the state that a node's function reads; None if it may read any."""
    node = getattr(graph, "nodes", {}).get(name) if graph is not None else None
    held = getattr(getattr(node, "bound", None), "__dict__", {})  # its own: what learns has the one in force elsewhere
    function = held.get("func") or held.get("afunc")  # with `func`, the other only calls it
    return None if function is None else leaves.items_read_by(function)


def _is_same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # what cannot be compared may be anything
        return False
