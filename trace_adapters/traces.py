"""Feedback on an output, carried back to the parameters that made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trace_adapters.errors import DataError
from trace_adapters.nodes import FailedCall, Node, Parameter, Value
from trace_adapters.trace_json import (
    RecordedError as RecordedError,
    RecordedValue as RecordedValue,
    error_name as error_name,
    nodes_from_json,
    nodes_to_json,
)

if TYPE_CHECKING:
    from trace_adapters.pictures import Picture

SCHEMA_VERSION = 1
MAX_SHAPES = 120  # in a picture, before repeated calls are folded


@dataclass(frozen=True)
class Feedback:
    """What a metric or a person says of one output.

    Attributes:
        score: Higher is better, usually in [0, 1]; None if there is only text.
        text: What was right or wrong, in words.
    """

    score: float | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if self.score is not None and not hasattr(self.score, "__float__"):
            raise TypeError(f"Feedback takes a number, then a text, got score={self.score!r}; Feedback(None, text).")
        if not isinstance(self.text, str):
            raise TypeError(f"Feedback takes a number, then a text, got text={self.text!r}.")

    @classmethod
    def of(cls, value: Any) -> Feedback:
        """Read a score, a text, a (score, text) pair or an object with `score` and `feedback` as feedback.

        A node counts as its value, an exception as its text.
        """
        if isinstance(value, FailedCall):
            return cls(None, value.create_feedback())
        if isinstance(value, Node):
            value = value.data
        if isinstance(value, Feedback):
            return value
        if isinstance(value, BaseException):
            return cls(None, f"{error_name(value)}: {value}")
        if isinstance(value, str):
            return cls(None, value)
        if isinstance(value, tuple) and len(value) == 2:
            score, text = value
            return cls(None if score is None else _number(score), "" if text is None else str(text))
        if isinstance(value, Mapping) and "score" in value:
            return cls(_number(value["score"]), str(value.get("feedback") or ""))
        if hasattr(value, "score"):
            return cls(_number(value.score), str(getattr(value, "feedback", "") or ""))
        if hasattr(value, "__float__"):  # also Decimal, Fraction and the numbers of other libraries
            return cls(_number(value))
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
        info: JSON data about the run, e.g. the example's id.
        given_names: Names to use instead of those that `unique_names` gives.
    """

    nodes: list[Node]
    blanket: list[Node]
    output: Node
    feedback: Feedback
    info: dict[str, Any] = field(default_factory=dict)
    given_names: dict[Node, str] | None = field(default=None, repr=False)

    @cached_property
    def names(self) -> dict[Node, str]:
        """Node -> a Python identifier, unique inside this graph."""
        if self.given_names is not None:
            return self.given_names
        return unique_names([*(self.nodes or [self.output]), *self.blanket])

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

    def expand(self, node: Node) -> TraceGraph:
        """The graph of what a call of a bundle with `traceable_code=True` did inside, with the same feedback.

        Raises:
            ValueError: If the inside of the node was not recorded.
        """
        if node.inside is None:
            raise ValueError(f"The inside of {node.name!r} was not recorded; only bundle(traceable_code=True) does.")
        nodes = _parents_first(node.inside, from_parameters=False)
        return TraceGraph(nodes, [], node.inside, self.feedback, dict(self.info))

    def to_mermaid(self, max_shapes: int = MAX_SHAPES) -> str:
        """A Mermaid flowchart. Repeated calls are folded until about `max_shapes` are left."""
        from trace_adapters import pictures

        return pictures.mermaid(self._picture(max_shapes))

    def to_dot(self, max_shapes: int = MAX_SHAPES) -> str:
        """A graph in the DOT language of Graphviz, folded as in `to_mermaid`; values are tooltips."""
        from trace_adapters import pictures

        return pictures.dot(self._picture(max_shapes))

    def to_html(self, max_shapes: int = MAX_SHAPES) -> str:
        """A page of its own: the folded picture, every parameter and every call, values on hover."""
        from trace_adapters import pictures

        return pictures.page(self._repr_html_(max_shapes))

    def _repr_html_(self, max_shapes: int = MAX_SHAPES) -> str:
        from trace_adapters import pictures

        feedback = (self.feedback.score, self.feedback.text)
        return pictures.fragment(self._picture(max_shapes), self.nodes, self.names, feedback)

    def _picture(self, max_shapes: int) -> Picture:
        from trace_adapters import pictures  # most programs draw nothing

        return pictures.draw(self.nodes, self.blanket, self.output, self.names, max_shapes)

    def to_json(self) -> str:
        """The graph as JSON text: lossless for JSON values, `repr` with a flag for others."""
        everything = dict.fromkeys([*self.blanket, *self.nodes, self.output])
        for node in list(everything):
            if node.inside is not None:
                everything.update(dict.fromkeys(_ancestors_inside(node.inside)))
        nodes = list(everything)
        return json.dumps(
            {
                "schema": SCHEMA_VERSION,
                "nodes": nodes_to_json(nodes, self.names),
                "blanket": len(self.blanket),
                "inside": len(self.nodes),
                "output": next(number for number, node in enumerate(nodes) if node is self.output),
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
        known = {parameter.key: parameter for parameter in parameters}
        try:
            data = json.loads(text)
            if data["schema"] != SCHEMA_VERSION:
                raise DataError(f"The trace has schema {data['schema']!r}; this version reads {SCHEMA_VERSION}.")
            nodes = nodes_from_json(data["nodes"], known)
            names = {node: str(entry["name"]) for node, entry in zip(nodes, data["nodes"], strict=True)}
            blanket, inside = data["blanket"], data["inside"]
            return cls(
                nodes[blanket : blanket + inside],
                nodes[:blanket],
                nodes[data["output"]],
                Feedback(**data["feedback"]),
                data["info"],
                names,
            )
        except DataError:
            raise
        except (KeyError, TypeError, IndexError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"This text is not a trace graph: {error!r}.") from error


def propagate(output: Node, feedback: Feedback | str | float, *, info: Mapping[str, Any] | None = None) -> TraceGraph:
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
        raise TypeError(f"propagate() takes the node to judge, got {output!r}; make it with a bundle or node().")
    top = output.read()
    nodes = _parents_first(top)
    reached = set(nodes)
    if any(isinstance(node, Value) and not node.parameter.trainable for node in nodes):
        reached = set()
        for node in nodes:
            if (isinstance(node, Value) and node.parameter.trainable) or any(s in reached for s in node._sources):
                reached.add(node)
        nodes = [node for node in nodes if node in reached]
    blanket = list({source: None for node in nodes for source in node._sources if source not in reached})
    return TraceGraph(nodes, blanket, top, Feedback.of(feedback), dict(info or {}))


def backward(output: Node, feedback: Feedback | str | float) -> TraceGraph:
    """Propagate and leave the graph with every parameter it reaches."""
    graph = propagate(output, feedback)
    for parameter in graph.parameters:
        parameter.receive(graph)
    return graph


def unique_names(nodes: Iterable[Node]) -> dict[Node, str]:
    """Give every node an identifier, unique among these nodes: `x`, `x_2`, `x_3`."""
    nodes = list(nodes)
    stems: dict[str, str] = {}
    given: list[str] = []
    for node in nodes:
        name = node._name
        if name is None:
            name = node._operation.name if node._operation is not None else type(node._data).__name__
        stem = stems.get(name)
        if stem is None:
            stem = stems[name] = _identifier(name)
        given.append(stem)
    reserved = set(stems.values())  # only these can be met by a stem with a number
    last: dict[str, int] = {}
    names: dict[Node, str] = {}
    for node, stem in zip(nodes, given, strict=True):
        number = last.get(stem)
        if number is None:
            last[stem] = 1
            names[node] = stem
            continue
        number += 1
        name = f"{stem}_{number}"
        while name in reserved:
            number += 1
            name = f"{stem}_{number}"
        last[stem] = number
        names[node] = name
    return names


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("A score must fit into a float, got an int that is too large.") from None
    except (TypeError, ValueError) as error:
        raise type(error)(f"A score must be a number, got {value!r}.") from error


def _parents_first(output: Node, *, from_parameters: bool = True) -> list[Node]:
    """What `output` depends on, itself included; only what some parameter went into, unless told otherwise."""
    order: list[Node] = []
    done: set[Node] = set()
    stack = [output] if output._led or not from_parameters else []
    while stack:
        node = stack[-1]
        waits = False
        if node not in done:
            for source in reversed(node._sources):
                if source not in done and (source._led or not from_parameters):
                    stack.append(source)
                    waits = True
            if not waits:
                done.add(node)
                order.append(node)
        if not waits:
            stack.pop()
    return order


def _ancestors_inside(output: Node) -> list[Node]:
    """Everything in the recorded inside of a call, and inside of what was called there."""
    found = dict.fromkeys(_parents_first(output, from_parameters=False))
    for node in list(found):
        if node.inside is not None:
            found = {**dict.fromkeys(_ancestors_inside(node.inside)), **found}
    return list(found)


def _identifier(name: str) -> str:
    text = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    return text if text and not text[0].isdigit() else f"_{text}"
