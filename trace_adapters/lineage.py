"""Where a value came from: earlier outputs recognized by identity, equality, then containment of text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trace_adapters.nodes import FailedCall, Node, Operation, Value, unwrap

NEVER = 1 << 62

OWN_CODE = Operation("own_code", "Code of the program that was not recorded made this text from the inputs shown.")
UNSEEN = Operation("unseen", "Code of the program that was not recorded made this, perhaps from the inputs shown.")
_LIST, _DICT = Operation("list"), Operation("dict")
_GETITEM = Operation("getitem", "x getitem y")
_MAX_PARTS = 500
_MAX_DEPTH = 6
_MAX_COPIED_DEPTH = 8


@dataclass(frozen=True, eq=False, slots=True)
class Snapshot:
    """A value as it was at one moment.

    Attributes:
        data: A copy that later changes do not touch; foreign objects as what they are made of.
        originals: `id` of a part of `data` that is a copy -> the object that it shows.
    """

    data: Any
    originals: Mapping[int, Any]


@dataclass(eq=False, slots=True)
class Call:
    """One observed call.

    Attributes:
        inputs: Argument name -> the value as it was passed; the program may have changed it since.
        given: Argument name -> the value when the call began.
        parameters: Argument name and value of every parameter that the call read.
        group: Made of other recorded calls; it becomes a node only if its result is not theirs.
        started: Position in the order of events; `ended` likewise, `NEVER` while the call runs.
        output: What it returned; the program may have changed it since.
        made: What it returned, when it did.
        place: (line number, line) where it failed, if known.
    """

    operation: Operation
    inputs: Mapping[str, Any]
    given: Mapping[str, Snapshot]
    parameters: tuple[tuple[str, Value], ...]
    parent: Call | None
    group: bool
    started: int
    ended: int = NEVER
    output: Any = None
    made: Snapshot = Snapshot(None, {})
    error: BaseException | None = None
    place: tuple[int, str] | None = None

    @property
    def data(self) -> Any:
        """What it returned, as a copy that later changes do not touch."""
        return self.made.data


@dataclass(frozen=True, eq=False, slots=True)
class _Origin:
    """A place in an output where a value stands."""

    data: Any
    node: Node
    path: tuple[Any, ...]
    ended: int
    call: Call | None


class Lineage:
    """The nodes made so far, and what their outputs hold.

    Calls must be added in the order in which they ended; an input is looked up among the calls that had
    ended when its own call started, so calls that ran side by side never feed each other.
    """

    def __init__(self, inputs: Mapping[str, Snapshot], values: Sequence[Value]) -> None:
        self.nodes: dict[Call, Node] = {}
        self._originals: dict[int, Any] = {}
        self._identities: dict[int, list[_Origin]] = {}
        self._equals: dict[Any, list[_Origin]] = {}
        self._consumed: dict[Call, int] = {}
        self._fields: dict[tuple[int, tuple[Any, ...]], Node] = {}
        self._kept: list[Any] = []  # ids stay valid as long as their objects live
        for value in values:
            self._register(unwrap(value), value, -1)
        self._given = {name: Node(self._read(value), name) for name, value in inputs.items()}
        for node in self._given.values():
            self._register(node.data, node, -1)

    def add(self, call: Call, inner: Sequence[Call] = ()) -> None:
        """Make the node of a call from its inputs, its parameters and the calls that ran inside it."""
        given = {name: self._read(value) for name, value in call.given.items()}
        names, sources = self._sources(given, call.started, call.ended)
        names, sources = self._with_calls(names, sources, self._unread(inner), call.ended)
        for name, value in call.parameters:
            names, sources = (*names, name), (*sources, value)
        self._keep_node(call, names, sources)

    def add_result(self, call: Call, inner: Sequence[Call]) -> None:
        """Make the node of a group from its result, which is not that of any call inside."""
        names, sources = self._sources(_as_fields(self._read(call.made)), call.ended, call.ended)
        names, sources = self._with_calls(names, sources, self._unread(inner), call.ended)
        self._keep_node(call, names, sources)

    def result(self, made: Snapshot, operation: Operation) -> Node:
        """The node of what the whole run returned; calls that nothing used are among its sources."""
        value = self._read(made)
        origin = self._find_same(value, NEVER)
        is_whole = origin is not None and origin.call is not None and not origin.path
        if origin is not None and is_whole and self._unread(list(self.nodes)) in ([], [origin.call]):
            return origin.node
        names, sources = self._sources(_as_fields(value), NEVER, NEVER)
        names, sources = self._with_calls(names, sources, self._unread(list(self.nodes)), NEVER)
        return Node(value, None, "", operation, names, sources)

    def explains(self, call: Call) -> bool:
        """Whether everything in a call's output was made by calls inside it, or stands in earlier values."""
        value = self._read(call.made)
        same = self._find_same(value, call.ended)
        if same is not None and same.ended > call.started:
            return True
        parts = [part for _, part, is_leaf in _parts(value) if is_leaf and not _is_trivial(part)]
        return bool(parts) and all(self._find(part, call.ended) is not None for part in parts)

    def latest(self, time: int) -> tuple[tuple[str, ...], tuple[Node, ...]]:
        """The calls that had ended by then and that no other had used; the run's inputs if there is none."""
        calls = self._unread(list(self.nodes), time)
        if calls:
            return self._with_calls((), (), calls, time)
        return tuple(self._given), tuple(self._given.values())

    def _keep_node(self, call: Call, names: tuple[str, ...], sources: tuple[Node, ...]) -> None:
        common = (None, "", call.operation, names, sources)
        if call.error is not None:
            self.nodes[call] = FailedCall(call.error, *common, place=call.place)
            return
        self.nodes[call] = Node(self._read(call.made), *common)
        self._register(call.data, self.nodes[call], call.ended, call)

    def _sources(self, inputs: Mapping[str, Any], started: int, ended: int) -> tuple[tuple[str, ...], tuple[Node, ...]]:
        found = {name: self._source(value, started, ended) for name, value in inputs.items()}
        follows = any(node is not None and _comes_from_call(node) for node in found.values())
        unread = [] if follows else self._unread(list(self.nodes), started)
        sources = []
        for name, node in found.items():
            if node is None and unread and not _is_trivial(inputs[name]):
                names, calls = self._with_calls((), (), unread, ended)
                node = Node(inputs[name], None, "", UNSEEN, names, calls)
            sources.append(Node(inputs[name], name) if node is None else node)
        return tuple(found), tuple(sources)

    def _source(self, value: Any, started: int, ended: int) -> Node | None:
        """The node that a value is, or None if nothing recorded made it."""
        origin = self._find(value, started)
        if origin is not None:
            return self._use(origin, ended)
        if isinstance(value, str):
            return self._text_source(value, started, ended)
        if isinstance(value, Mapping):
            items = {str(key): item for key, item in value.items()}
            return self._container_source(_DICT, items, value, started, ended)
        if isinstance(value, (list, tuple)):
            items = {f"item_{number}": item for number, item in enumerate(value)}
            return self._container_source(_LIST, items, value, started, ended)
        return None

    def _container_source(
        self, operation: Operation, items: Mapping[str, Any], value: Any, started: int, ended: int
    ) -> Node | None:
        if len(items) > _MAX_PARTS:
            return None
        found = {name: self._source(item, started, ended) for name, item in items.items()}
        if all(node is None for node in found.values()):
            return None
        sources = tuple(Node(items[name]) if node is None else node for name, node in found.items())
        return Node(value, None, "", operation, tuple(found), sources)

    def _text_source(self, text: str, started: int, ended: int) -> Node | None:
        origins = self._pieces(text, started) or self._whole(text, started)
        if not origins:
            return None
        names: tuple[str, ...] = ()
        sources: tuple[Node, ...] = ()
        for origin in origins:
            node = self._use(origin, ended)
            if origin.path or all(node is not source for source in sources):  # `in` would compare values
                names, sources = (*names, _free_name(node.name, names)), (*sources, node)
        return Node(text, None, "", OWN_CODE, names, sources)

    def _pieces(self, text: str, time: int) -> list[_Origin]:
        """The recorded texts that stand in `text`, the longest first; none stands only inside another."""
        found = []
        rest = text
        candidates = [key[1] for key in self._equals if key[0] is str and len(key[1]) <= len(text)]
        for piece in sorted(candidates, key=len, reverse=True):
            if not _stands_in(piece, rest):
                continue
            origin = self._last(self._equals[(str, piece)], time)
            if origin is not None:
                found.append(origin)
                rest = rest.replace(piece, "\0")
        return found

    def _whole(self, text: str, time: int) -> list[_Origin]:
        """The recorded text that `text` was cut out of, the most recent one."""
        best: _Origin | None = None
        for key, origins in self._equals.items():
            if key[0] is str and len(key[1]) > len(text) and _stands_in(text, key[1]):
                origin = self._last(origins, time)
                if origin is not None and (best is None or origin.ended > best.ended):
                    best = origin
        return [best] if best is not None else []

    def _use(self, origin: _Origin, ended: int) -> Node:
        if origin.call is not None:
            self._consumed[origin.call] = min(ended, self._consumed.get(origin.call, NEVER))
        node, path = origin.node, origin.path
        for length in range(1, len(path) + 1):
            key = (id(origin.node), path[:length])
            if key not in self._fields:
                part = unwrap(node)[path[length - 1]]
                name = f"{node.name}_{path[length - 1]}"
                keys = (node, Node(path[length - 1]))
                self._fields[key] = Node(part, name, "", _GETITEM, ("x", "y"), keys)
            node = self._fields[key]
        return node

    def _with_calls(
        self, names: tuple[str, ...], sources: tuple[Node, ...], calls: Sequence[Call], ended: int
    ) -> tuple[tuple[str, ...], tuple[Node, ...]]:
        for call in calls:
            if all(self.nodes[call] is not source for source in sources):
                self._consumed[call] = min(ended, self._consumed.get(call, NEVER))
                names = (*names, _free_name(call.operation.name, names))
                sources = (*sources, self.nodes[call])
        return names, sources

    def _unread(self, calls: Sequence[Call], time: int = NEVER) -> list[Call]:
        return [
            call
            for call in calls
            if call in self.nodes and call.ended < time and self._consumed.get(call, NEVER) >= time
        ]

    def _find(self, value: Any, time: int) -> _Origin | None:
        if _is_trivial(value):
            return None
        same = self._find_same(value, time)
        key = _equality_key(value)
        equal = self._last(self._equals.get(key, ()), time) if key is not None else None
        is_number = isinstance(value, (int, float))  # small ones are one object everywhere
        return equal if same is None or (equal is not None and is_number) else same

    def _find_same(self, value: Any, time: int) -> _Origin | None:
        """The same object, with what it holds now: the program may have changed it in between."""
        if _is_trivial(value):
            return None
        origins = reversed(self._identities.get(self._identity(value), ()))
        return next((o for o in origins if o.ended < time and _is_alike(o.data, value)), None)

    def _identity(self, part: Any) -> int:
        return id(self._originals.get(id(part), part))

    def _read(self, value: Snapshot) -> Any:
        """The data of a snapshot, whose parts are known by their originals from now on."""
        self._originals.update(value.originals)
        self._kept.append(value)
        return value.data

    @staticmethod
    def _last(origins: Sequence[_Origin], time: int) -> _Origin | None:
        return next((origin for origin in reversed(origins) if origin.ended < time), None)

    def _register(self, value: Any, node: Node, ended: int, call: Call | None = None) -> None:
        for path, part, _ in _parts(value):
            if _is_trivial(part):
                continue
            origin = _Origin(part, node, path, ended, call)
            self._kept.append(part)
            self._identities.setdefault(self._identity(part), []).append(origin)
            key = _equality_key(part)
            if key is not None:
                self._equals.setdefault(key, []).append(origin)


def snapshot(value: Any, unpack: Callable[[Any], Any]) -> Snapshot:
    """A value as it is now: its containers copied, foreign objects as `unpack` shows them."""
    originals: dict[int, Any] = {}
    return Snapshot(_copied(value, unpack, originals, 0), originals)


def _copied(value: Any, unpack: Callable[[Any], Any], originals: dict[int, Any], depth: int) -> Any:
    if value is None or isinstance(value, (str, int, float)) or depth > _MAX_COPIED_DEPTH:
        return value
    made: Any
    if isinstance(value, Mapping):
        made = {key: _copied(item, unpack, originals, depth + 1) for key, item in list(value.items())}
    elif isinstance(value, (list, tuple)):
        items = [_copied(item, unpack, originals, depth + 1) for item in list(value)]
        made = tuple(items) if type(value) is tuple else items
    else:
        shown = unpack(value)
        fields = isinstance(shown, (Mapping, list, tuple))  # an object and its fields are one level
        made = value if shown is value else _copied(shown, unpack, originals, depth if fields else depth + 1)
    if made is not value:
        originals[id(made)] = value
    return made


def _parts(value: Any) -> Iterator[tuple[tuple[Any, ...], Any, bool]]:
    """(path, part, whether it is a leaf) of a value, itself included; at most `_MAX_PARTS`."""
    stack: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    for _ in range(_MAX_PARTS):
        if not stack:
            return
        path, part = stack.pop()
        items: list[tuple[Any, Any]] = []
        if len(path) < _MAX_DEPTH:
            if isinstance(part, Mapping):
                items = list(part.items())
            elif isinstance(part, (list, tuple)):
                items = list(enumerate(part))
        yield path, part, not items
        stack += [((*path, key), item) for key, item in reversed(items)]


def _as_fields(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return {"value": value}


def _is_alike(one: Any, other: Any) -> bool:
    """Whether two values hold the same; foreign objects only if they are the same object."""
    if one is other:
        return True
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_alike(item, other[key]) for key, item in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_is_alike, one, other))
    return isinstance(one, (str, int, float)) and isinstance(other, (str, int, float)) and one == other


def _is_trivial(value: Any) -> bool:
    """Values so common that to meet one twice means nothing."""
    if value is None or isinstance(value, bool):
        return True
    return isinstance(value, (str, list, dict, tuple)) and not value


def _equality_key(value: Any) -> tuple[type, Any] | None:
    if isinstance(value, (str, int, float)):
        return type(value), value
    if type(value) in (list, dict, tuple):
        try:
            text = repr(value)
        except Exception:  # of something in it
            return None
        return (type(value), text) if len(text) < 10_000 else None
    return None


def _stands_in(piece: str, text: str) -> bool:
    """Whether a text of some weight stands in another: 8 characters, or 2 between word borders."""
    stripped = piece.strip()
    if len(stripped) < 2 or piece not in text:
        return False
    if len(stripped) >= 8:
        return True
    return re.search(rf"(?<!\w){re.escape(stripped)}(?!\w)", text) is not None


def _comes_from_call(node: Node) -> bool:
    """Whether a recorded call made this value, perhaps through unrecorded code."""
    if node.operation is None:
        return False
    if node.operation in (OWN_CODE, _LIST, _DICT, _GETITEM):
        return any(_comes_from_call(source) for source in node.sources)
    return True


def _free_name(name: str, taken: Sequence[str]) -> str:
    stem = re.sub(r"\W", "_", name) or "value"
    free, number = stem, 1
    while free in taken:
        number += 1
        free = f"{stem}_{number}"
    return free
