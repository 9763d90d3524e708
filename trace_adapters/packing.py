"""Graphs of any depth in pickles and deep copies, without recursion."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from trace_adapters.history import Constant, FailedCall, NestedCall, Node
from trace_adapters.nodes import Parameter, Value
from trace_adapters.streams import Stream

Row = tuple[type[Node], dict[str, Any]]  # class, slots; nodes of the same pack as their numbers

# Node id -> the pack it went into, for as long as some pickler or deepcopy keeps that pack: what nodes share is
# written once, and a list of a thousand nodes of one chain costs a thousand rows.
_packs: WeakValueDictionary[int, Pack] = WeakValueDictionary()


class Pack:
    """The ancestors of a node as a flat table; a pickle holds it once."""

    __slots__ = ("__weakref__", "nodes", "places")

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.places = {id(node): number for number, node in enumerate(nodes)}

    def __reduce__(self) -> Any:
        return _unpack, ([_row(node, self) for node in self.nodes],)


def reduce_node(node: Node) -> Any:
    """`__reduce__` of nodes: a place in a pack."""
    pack = _pack_of(node)
    if pack is None:
        pack = Pack(_unpacked_ancestors(node))
        for member in pack.nodes:
            _packs[id(member)] = pack
    return _pick, (pack, pack.places[id(node)])


def install() -> None:
    """Make nodes travel in packs; parameters travel alone, with their value and no feedback."""
    Node.__reduce__ = reduce_node  # type: ignore[method-assign,assignment]


def _pack_of(node: Node) -> Pack | None:
    pack = _packs.get(id(node))
    return pack if pack is not None and pack.nodes[pack.places[id(node)]] is node else None


def _unpacked_ancestors(node: Node) -> list[Node]:
    """The node with all it is connected to that stands in no pack yet."""
    order: list[Node] = [node]
    seen = {node}
    for current in order:  # grows while it is read
        for relative in _relatives(current):
            if relative not in seen and not isinstance(relative, Parameter) and _pack_of(relative) is None:
                seen.add(relative)
                order.append(relative)
    return order


def _relatives(node: Node) -> list[Node]:
    node = node.read() if isinstance(node, Stream) else node
    extra = [other for other in (node.inside, node._newer) if other is not None]
    return [*node.sources, *extra]


def _row(node: Node, pack: Pack) -> Row:
    def place(other: Node | None) -> Any:
        return other if other is None else pack.places.get(id(other), other)

    cls = type(node) if type(node) in (Constant, Value, FailedCall, NestedCall) else Node
    state: dict[str, Any] = {"_data": node._data, "_newer": place(node._newer)}
    if cls is not Constant:
        state.update(_name=node._name, _description=node._description, _operation=node._operation, _led=node._led)
        state.update(_argument_names=node._argument_names, _sources=tuple(map(place, node.sources)))
    if isinstance(node, Value):
        state["parameter"] = node.parameter
    elif isinstance(node, FailedCall):
        state.update(place=node.place, source_text=node.source_text)
    elif isinstance(node, NestedCall):
        state["_inside"] = place(node.inside)
    return cls, state


def _unpack(rows: list[Row]) -> Pack:
    nodes: list[Node] = [Node.__new__(cls) for cls, _ in rows]

    def found(other: Any) -> Any:
        return nodes[other] if isinstance(other, int) else other

    for node, (_, state) in zip(nodes, rows, strict=True):
        for name, value in state.items():
            if name == "_sources":
                value = tuple(map(found, value))
            setattr(node, name, found(value) if name in ("_inside", "_newer") else value)
    return Pack(nodes)


def _pick(pack: Pack, number: int) -> Node:
    return pack.nodes[number]
