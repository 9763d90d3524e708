"""Feedback on an output, carried back to the parameters that made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trace_adapters.errors import DataError
from trace_adapters.nodes import FailedCall, Node, Operation, Parameter, Value

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Feedback:
    """What a metric or a person says of one output.

    Attributes:
        score: Higher is better, usually in [0, 1]; None if there is only text.
        text: What was right or wrong, in words.
    """

    score: float | None = None
    text: str = ""

    @classmethod
    def of(cls, value: Any) -> Feedback:
        """Read a score, a text, a (score, text) pair or an object with `score` and `feedback` as feedback."""
        if isinstance(value, Feedback):
            return value
        if isinstance(value, str):
            return cls(None, value)
        if isinstance(value, (bool, int, float)):
            return cls(float(value))
        if isinstance(value, tuple) and len(value) == 2:
            return cls(None if value[0] is None else float(value[0]), str(value[1]))
        if isinstance(value, Mapping) and "score" in value:
            return cls(float(value["score"]), str(value.get("feedback") or ""))
        if hasattr(value, "score"):
            return cls(float(value.score), str(getattr(value, "feedback", "") or ""))
        raise TypeError(
            f"Feedback is a score, a text, (score, text) or an object with .score and .feedback; got {value!r}."
        )


@dataclass(frozen=True, eq=False)
class TraceGraph:
    """The nodes between parameters and one output, with the feedback on it: (f, g) of OPTO.

    Attributes:
        nodes: Parents before children. Parameters appear as the `Value` that was read.
        blanket: Other direct inputs of `nodes`; their own ancestors are left out.
        output: The judged node.
        feedback: What was said of it.
        names: Node -> a Python identifier, unique inside this graph.
        info: JSON data about the run, e.g. the example's id.
    """

    nodes: list[Node]
    blanket: list[Node]
    output: Node
    feedback: Feedback
    names: dict[Node, str]
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> list[Value]:
        """The trainable values that were read, in order."""
        return [node for node in self.nodes if isinstance(node, Value)]

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters that reach the output, each once."""
        return list(dict.fromkeys(value.parameter for value in self.values))

    @property
    def candidate(self) -> dict[str, Any]:
        """Parameter key -> the value that was really used (the last one read, if it changed on the way)."""
        return {value.parameter.key: value._data for value in self.values}

    @property
    def failure(self) -> FailedCall | None:
        """The failed call that ended the run, if it failed."""
        return self.output if isinstance(self.output, FailedCall) else None

    def __len__(self) -> int:
        return len(self.nodes)

    def to_json(self) -> str:
        """The graph as JSON text: lossless for JSON values, `repr` with a flag for others."""
        everything = [*self.blanket, *self.nodes]
        index = {node: number for number, node in enumerate(everything)}
        if self.output not in index:
            index[self.output] = len(everything)
            everything.append(self.output)
        return json.dumps(
            {
                "schema": SCHEMA_VERSION,
                "nodes": [_node_to_json(node, self.names.get(node, node.name), index) for node in everything],
                "blanket": len(self.blanket),
                "inside": len(self.nodes),
                "output": index[self.output],
                "feedback": {"score": self.feedback.score, "text": self.feedback.text},
                "info": self.info,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_json(cls, text: str, parameters: Iterable[Parameter] = ()) -> TraceGraph:
        """Read what `to_json` wrote.

        Args:
            text: The JSON text.
            parameters: Parameters to attach the values to by key; unknown keys get parameters of their own.

        Raises:
            DataError: If the text is not a trace graph of a version that this one knows.
        """
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA_VERSION:
                raise DataError(
                    f"The trace has schema {data['schema']!r}; this version reads {SCHEMA_VERSION}."
                )
            known = {parameter.key: parameter for parameter in parameters}
            nodes: list[Node] = []
            for entry in data["nodes"]:
                nodes.append(_node_from_json(entry, nodes, known))
            names = {node: entry["name"] for node, entry in zip(nodes, data["nodes"], strict=True)}
            blanket, inside = data["blanket"], data["inside"]
            return cls(
                nodes[blanket : blanket + inside],
                nodes[:blanket],
                nodes[data["output"]],
                Feedback(**data["feedback"]),
                names,
                data["info"],
            )
        except (KeyError, TypeError, IndexError, json.JSONDecodeError) as error:
            raise DataError(f"This text is not a trace graph: {error!r}.") from error


def propagate(
    output: Node, feedback: Feedback | str | float, *, info: Mapping[str, Any] | None = None
) -> TraceGraph:
    """Collect the nodes that some trainable parameter reaches on its way to `output`.

    The minimal subgraph propagator of OPTO (arXiv 2406.16218 sec. 3).

    Args:
        output: The judged node. Its ancestors are read, never changed.
        feedback: A `Feedback`, a score (higher is better) or a text.
        info: JSON data to keep with the graph.

    Returns:
        The graph of n nodes, parents before children; n = 0 if no parameter reaches `output`.

    Raises:
        TypeError: If `output` is not a node, or `feedback` is none.

    Time O(nodes + edges), no recursion, no model call.
    """
    if not isinstance(output, Node):
        raise TypeError(
            f"propagate() takes the node to judge, got {output!r}; make it with a bundle or node()."
        )
    top = output.read() if isinstance(output, Parameter) else output
    ancestors = _ancestors(top)
    reached: set[Node] = set()
    for node in ancestors:
        if (isinstance(node, Value) and node.parameter.trainable) or any(s in reached for s in node.sources):
            reached.add(node)
    nodes = [node for node in ancestors if node in reached]
    blanket = list(dict.fromkeys(s for node in nodes for s in node.sources if s not in reached))
    names = unique_names(dict.fromkeys([*nodes, top, *blanket]))
    return TraceGraph(nodes, blanket, top, Feedback.of(feedback), names, dict(info or {}))


def backward(output: Node, feedback: Feedback | str | float) -> TraceGraph:
    """Propagate and leave the graph with every parameter it reaches."""
    graph = propagate(output, feedback)
    for parameter in graph.parameters:
        parameter.receive(graph)
    return graph


def unique_names(nodes: Iterable[Node]) -> dict[Node, str]:
    """Give every node an identifier, unique among these nodes: `x`, `x_2`, `x_3`."""
    taken: dict[str, int] = {}
    names: dict[Node, str] = {}
    for node in nodes:
        stem = _identifier(node.name)
        number = taken.get(stem, 0) + 1
        name = stem if number == 1 else f"{stem}_{number}"
        while number > 1 and name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken[stem] = number
        taken.setdefault(name, 1)
        names[node] = name
    return names


def _ancestors(output: Node) -> list[Node]:
    """Every node that `output` depends on, itself included, parents first."""
    order: list[Node] = []
    seen: set[Node] = {output}
    stack: list[tuple[Node, int]] = [(output, 0)]
    while stack:
        node, position = stack.pop()
        sources = node.sources
        while position < len(sources) and sources[position] in seen:
            position += 1
        if position == len(sources):
            order.append(node)
            continue
        stack.append((node, position + 1))
        seen.add(sources[position])
        stack.append((sources[position], 0))
    return order


def _identifier(name: str) -> str:
    text = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    return text if text and not text[0].isdigit() else f"_{text}"


def _node_to_json(node: Node, name: str, index: Mapping[Node, int]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "value": _value_to_json(node._data)}
    if isinstance(node, Value):
        parameter = node.parameter
        entry["parameter"] = {
            "key": parameter.key,
            "kind": parameter.kind,
            "description": parameter.description,
            "constraint": parameter.constraint,
        }
    elif node._description:
        entry["description"] = node._description
    if node.operation is not None:
        known = [(a, index[s]) for a, s in zip(node._argument_names, node.sources, strict=True) if s in index]
        entry["operation"] = {
            "name": node.operation.name,
            "description": node.operation.description,
            "language_model": node.operation.language_model,
            "inputs": known,
        }
    if isinstance(node, FailedCall):
        entry["place"] = node.place
    return entry


def _value_to_json(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseException):
        return {"error": error_name(value), "message": str(value)}
    try:
        if json.loads(json.dumps(value, allow_nan=False)) == value:
            return {"json": value}
    except (TypeError, ValueError, RecursionError):
        pass
    return {"repr": repr(value)}


class RecordedError(Exception):
    """An exception read back from a recorded trace.

    Attributes:
        type_name: The name of the original's class.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(message)
        self.type_name = type_name


class RecordedValue:
    """Stands for a value that was no JSON; its `repr` is the original's."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def error_name(error: BaseException) -> str:
    """The class name of an exception, also of one read back from a recorded trace."""
    return error.type_name if isinstance(error, RecordedError) else type(error).__name__


def _node_from_json(entry: Mapping[str, Any], before: Sequence[Node], known: dict[str, Parameter]) -> Node:
    value = _value_from_json(entry["value"])
    if "parameter" in entry:
        about = entry["parameter"]
        key = about["key"]
        if key not in known:
            known[key] = Parameter(value, key, about["description"], about["constraint"], about["kind"])
        return Value(value, known[key])
    if "operation" not in entry:
        return Node(value, entry["name"], entry.get("description", ""))
    call = entry["operation"]
    operation = Operation(call["name"], call["description"], call["language_model"])
    names = tuple(argument for argument, _ in call["inputs"])
    sources = tuple(before[number] for _, number in call["inputs"])
    common = (value, None, entry.get("description", ""), operation, names, sources)
    if "place" in entry:
        place = entry["place"]
        return FailedCall(*common, place=tuple(place) if place else None)
    return Node(*common)


def _value_from_json(entry: Mapping[str, Any]) -> Any:
    if "json" in entry:
        return entry["json"]
    if "error" in entry:
        return RecordedError(entry["error"], entry["message"])
    return RecordedValue(entry["repr"])
