"""Where a value came from: a node, a mapping or list of such, or one that a choice let through."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from trace_adapters import Node
from trace_adapters.extend import FailedCall, Operation

CONTROL = "control_"
"""Begins the names of inputs that a call did not read: what decided that it ran, or that its result was used."""

DICT = Operation("dict", "A mapping of these values.")
LIST = Operation("list", "A list of these values.")
GETITEM = Operation("getitem", "x getitem y")
CHOICE = Operation("choice", "This value was used because of the control inputs.")
INSIDE = Operation("own_code", "A function's own code made this from the inputs shown.")

_MISSING = object()


def is_control(name: str) -> bool:
    """Whether an input of this name is a control edge: it decided, but its value did not go in."""
    return name.startswith(CONTROL)


class Flow:
    """Where a value came from."""

    def node(self) -> Node:
        """The value as one node; the same one at each call."""
        raise NotImplementedError

    def field(self, key: Any) -> Flow:
        """Where `value[key]` came from."""
        raise NotImplementedError

    def keys(self) -> list[Any] | None:
        """The keys of a mapping that is known key by key; None for anything else."""
        return None

    def inputs(self, keys: Iterable[Any] | None = None) -> dict[str, Node]:
        """Argument name -> node of a call that read this value.

        Args:
            keys: Only these items of a mapping were read; None if anything may have been.
        """
        known = self.keys()
        wanted = known if keys is None else [key for key in keys if known is None or key in known]
        if wanted is None:
            return {"input": self.node()}
        found: dict[str, Node] = {}
        for key in wanted:
            found[free_name(str(key), found)] = self.field(key).node()
        return found


class Whole(Flow):
    """A value that one node holds."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._parts: dict[Any, Flow] = {}

    def node(self) -> Node:
        return self._node

    def field(self, key: Any) -> Flow:
        known = self._parts.get(key)
        if known is None:
            part = _item(self._node._data, key)
            known = self if part is _MISSING else Whole(_part_node(self._node, key, part))
            self._parts[key] = known
        return known


class Fields(Flow):
    """A mapping that is known key by key.

    Args:
        parts: Key -> where its value came from.
        data: The mapping itself, if it was seen.
        rest: Where the values of other keys came from.
    """

    def __init__(self, parts: Mapping[Any, Flow], data: Any = None, rest: Flow | None = None) -> None:
        self._parts = dict(parts)
        self._data = data
        self._rest = rest
        self._node: Node | None = None

    def node(self) -> Node:
        if self._node is None:
            sources: dict[str, Node] = {}
            for key, part in self._parts.items():
                sources[free_name(str(key), sources)] = part.node()
            if self._rest is not None:
                sources[free_name("rest", sources)] = self._rest.node()
            data = self._data
            if data is None:
                data = {key: part.node()._data for key, part in self._parts.items()}
            self._node = Node(data, None, "", DICT, tuple(sources), tuple(sources.values()))
        return self._node

    def field(self, key: Any) -> Flow:
        if key in self._parts:
            return self._parts[key]
        return Whole(self.node()) if self._rest is None else self._rest.field(key)

    def keys(self) -> list[Any] | None:
        if self._rest is None:
            return list(self._parts)
        known = self._rest.keys()
        return None if known is None else list(dict.fromkeys([*known, *self._parts]))


class Items(Flow):
    """A list that is known item by item."""

    def __init__(self, parts: Sequence[Flow], data: Any = None) -> None:
        self._parts = list(parts)
        self._data = data
        self._node: Node | None = None

    def node(self) -> Node:
        if self._node is None:
            nodes = tuple(part.node() for part in self._parts)
            data = [node._data for node in nodes] if self._data is None else self._data
            names = tuple(f"item_{number}" for number in range(len(nodes)))
            self._node = Node(data, None, "", LIST, names, nodes)
        return self._node

    def field(self, key: Any) -> Flow:
        in_range = isinstance(key, int) and -len(self._parts) <= key < len(self._parts)
        return self._parts[key] if in_range else Whole(self.node())


class Chosen(Flow):
    """A value that was used because of others: a branch that was taken, an attempt after failed ones."""

    def __init__(self, flow: Flow, because: Mapping[str, Node]) -> None:
        self._flow = flow
        self._because = dict(because)
        self._node: Node | None = None
        self._parts: dict[Any, Flow] = {}

    def node(self) -> Node:
        if self._node is None:
            inner = self._flow.node()
            names = ("value", *(f"{CONTROL}{name}" for name in self._because))
            self._node = Node(inner._data, None, "", CHOICE, names, (inner, *self._because.values()))
        return self._node

    def field(self, key: Any) -> Flow:
        if key not in self._parts:
            self._parts[key] = Chosen(self._flow.field(key), self._because)
        return self._parts[key]

    def keys(self) -> list[Any] | None:
        return self._flow.keys()


class Failure(Flow):
    """What a part that failed gave: the failed call."""

    def __init__(self, node: FailedCall, error: BaseException) -> None:
        self._node = node
        self.error = error

    def because(self, because: Mapping[str, Node]) -> Failure:
        """The same call with control edges from what decided that it was made."""
        node = self._node
        names = list(node.recorded_inputs)
        for name in because:  # a branch in a branch has decided before
            names.append(_unused(f"{CONTROL}{name}", names))
        common = (node._name, node._description, node.operation, tuple(names), (*node.sources, *because.values()))
        return Failure(FailedCall(node._data, *common, place=node.place, source_text=node.source_text), self.error)

    def node(self) -> Node:
        return self._node

    def field(self, key: Any) -> Flow:
        return self


def merged(first: Flow, second: Flow, data: Any = None) -> Flow:
    """Two mappings in one; the second wins."""
    keys = second.keys()
    if keys is None:
        return Fields({}, data, _both(first, second))
    return Fields({key: second.field(key) for key in keys}, data, first)


def chosen(flow: Flow, because: Mapping[str, Node]) -> Flow:
    """A flow with what decided for it; the flow itself if nothing did."""
    return Chosen(flow, because) if because and not isinstance(flow, Failure) else flow


def all_inputs(*parts: Mapping[str, Node]) -> dict[str, Node]:
    """The inputs of several sources under names of their own; the same node once."""
    found: dict[str, Node] = {}
    for part in parts:
        for name, node in part.items():
            if found.get(name) is not node:
                found[free_name(name, found)] = node
    return found


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """A name for an argument that is not yet taken."""
    stem = re.sub(r"\W", "_", name) or "value"
    return _unused(f"_{stem}" if stem.startswith(CONTROL) else stem, taken)


def _unused(stem: str, taken: Container[str]) -> str:
    free, number = stem, 1
    while free in taken:
        number += 1
        free = f"{stem}_{number}"
    return free


def _both(first: Flow, second: Flow) -> Flow:
    nodes = (first.node(), second.node())
    return Whole(Node(nodes[0]._data, None, "", DICT, ("first", "second"), nodes))


def _item(value: Any, key: Any) -> Any:
    try:
        if isinstance(value, Mapping):
            return value.get(key, _MISSING)
        return value[key] if isinstance(value, (list, tuple)) and isinstance(key, int) else _MISSING
    except (IndexError, TypeError):
        return _MISSING


def _part_node(node: Node, key: Any, part: Any) -> Node:
    return Node(part, f"{node.name}_{key}", "", GETITEM, ("x", "y"), (node, Node(key)))
