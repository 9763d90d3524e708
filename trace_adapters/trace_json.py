"""Nodes as JSON: lossless for JSON values, `repr` with a flag for others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trace_adapters.nodes import FailedCall, NestedCall, Node, Operation, Parameter, Value
from trace_adapters.showing import repr_of, str_of


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


def nodes_to_json(nodes: Sequence[Node], names: Mapping[Node, str]) -> list[dict[str, Any]]:
    """One entry a node; inputs are numbers of entries, those that are not among `nodes` are left out."""
    index = {node: number for number, node in enumerate(nodes)}
    return [_node_to_json(node, names.get(node, node.name), index) for node in nodes]


def nodes_from_json(entries: Sequence[Mapping[str, Any]], known: dict[str, Parameter]) -> list[Node]:
    """Read what `nodes_to_json` wrote; parameters are taken from `known`, or made and put there.

    Raises:
        TypeError, KeyError, ValueError, AttributeError: If it did not write this.
    """
    made: dict[int, Node] = {}
    waiting = list(range(len(entries) - 1, -1, -1))
    most = 2 * len(entries) + sum(len(_before(entry)) for entry in entries)
    while waiting:
        number = waiting[-1]
        before = [place for place in _before(entries[number]) if place not in made]
        if number in made or not before:
            waiting.pop()
            made.setdefault(number, _node_from_json(entries[number], made, known))
            continue
        if not all(isinstance(place, int) and 0 <= place < len(entries) for place in before):
            raise ValueError(f"the inputs of node {number} are not all there")
        if len(waiting) > most:
            raise ValueError("the inputs of some node lead back to it")
        waiting += before
    return [made[number] for number in range(len(entries))]


def _before(entry: Mapping[str, Any]) -> list[Any]:
    """The numbers of the entries that must be read first: the inputs of a call, and what was returned inside of it."""
    inputs = [place for _, place in entry["operation"]["inputs"]] if "operation" in entry else []
    return [*inputs, entry["inside"]] if "inside" in entry else inputs


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
        pairs = zip(node._argument_names, node.sources, strict=True)
        known = [(argument, index[s]) for argument, s in pairs if s in index]
        entry["operation"] = {
            "name": node.operation.name,
            "description": node.operation.description,
            "language_model": node.operation.language_model,
            "inputs": known,
        }
    if isinstance(node, FailedCall):
        entry.update(place=node.place, source=node.source_text)
    if node.inside is not None and node.inside in index:
        entry["inside"] = index[node.inside]
    return entry


def _value_to_json(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseException):
        return {"error": error_name(value), "message": str_of(value)}
    try:
        if json.loads(json.dumps(value, allow_nan=False)) == value:
            return {"json": value}
    except (TypeError, ValueError, RecursionError):
        pass
    return {"repr": repr_of(value)}


def _node_from_json(entry: Mapping[str, Any], before: Mapping[int, Node], known: dict[str, Parameter]) -> Node:
    value = _value_from_json(entry["value"])
    if "parameter" in entry:
        about = entry["parameter"]
        key = about["key"]
        if key not in known:
            words = _text(about["description"]), _text(about["constraint"])
            known[key] = Parameter(value, key, *words, about["kind"])
        return Value(value, known[key])
    if "operation" not in entry:
        return Node(value, _text(entry["name"]), _text(entry.get("description", "")))
    call = entry["operation"]
    operation = Operation(_text(call["name"]), _text(call["description"]), bool(call["language_model"]))
    names = tuple(_text(argument) for argument, _ in call["inputs"])
    sources = tuple(before[number] for _, number in call["inputs"])
    common = (value, None, _text(entry.get("description", "")), operation, names, sources)
    if "place" in entry:
        place, source = entry["place"], entry.get("source")
        where = (int(place[0]), _text(place[1])) if place else None
        return FailedCall(*common, place=where, source_text=None if source is None else _text(source))
    return NestedCall.around(before[entry["inside"]], *common) if "inside" in entry else Node(*common)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _value_from_json(entry: Mapping[str, Any]) -> Any:
    if "json" in entry:
        return entry["json"]
    if "error" in entry:
        return RecordedError(entry["error"], entry["message"])
    return RecordedValue(entry["repr"])
