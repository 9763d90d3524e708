"""Arguments of a call, as nodes for the record and as plain values for the function."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any

from trace_adapters.history import Constant, Node, Operation, unwrap

# Types whose values nobody can change in place, and that hold no nodes.
ATOMS: frozenset[type] = frozenset(
    {NoneType, bool, int, float, complex, str, bytes, range, type, FunctionType, BuiltinFunctionType}
)
LIST, TUPLE, DICT = Operation("list"), Operation("tuple"), Operation("dict")


def take(value: Any) -> tuple[Node, Any]:
    """A node for the record and the plain value for the function.

    The two share nothing that can be changed in place, as far as it is made of lists, dicts, sets, dataclasses
    and arrays: what the function does to its arguments never falsifies the record. A function that is given a
    plain list works on the caller's own; one that is given a node works on a copy of the node's value.
    """
    if isinstance(value, Node):
        source = value.read()
        data = source._data
        if type(data) in ATOMS:
            return source, data
        return source, _plain(data, count_reads=True) if holds_nodes(data) else snapshot(data)
    if type(value) in ATOMS:
        return Constant(value), value
    if holds_nodes(value):
        source = gather(value)
        return source, snapshot(source._data)
    return Constant(snapshot(value)), value


def own(value: Any) -> Any:
    """The plain value for a function that is not recorded."""
    if isinstance(value, Node):
        data = value._data if type(value) is Node and value._newer is None else unwrap(value)
        if type(data) in ATOMS:
            return data
        return _plain(data) if holds_nodes(data) else snapshot(data)
    return _plain(value) if type(value) not in ATOMS and holds_nodes(value) else value


def gather(value: Any) -> Node:
    """A container of nodes as a node with the plain container, made of its items."""
    if isinstance(value, Node):
        return value.read()
    if type(value) in ATOMS or not holds_nodes(value):
        return Constant(snapshot(value))
    parts = _parts(value)
    operation = DICT if isinstance(value, dict) else LIST if isinstance(value, list) else TUPLE
    if dataclasses.is_dataclass(value):
        operation = Operation(type(value).__name__)
    return Node(_plain(value), None, "", operation, unique(parts), tuple(gather(item) for item in parts.values()))


def holds_nodes(value: Any) -> bool:
    """Whether a container has nodes in it, at any depth."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        current = stack.pop()
        items = _items(current)
        if items is None or id(current) in seen:
            continue
        seen.add(id(current))
        types = set(map(type, items))
        if types <= ATOMS:
            continue
        if any(issubclass(cls, Node) for cls in types):
            return True
        stack += [item for item in items if type(item) not in ATOMS]
    return False


def snapshot(value: Any) -> Any:
    """A copy that shares nothing which can be changed in place, as far as `take` says; cheap for the rest."""
    if type(value) in ATOMS:
        return value
    try:
        return _snapshot(value, {})
    except Exception:  # the user's classes are called here; what cannot be copied is recorded as it is
        return value


def changed(before: Any, after: Any) -> bool:
    """Whether a value was changed in place, when `after` was a snapshot of it."""
    if type(before) in ATOMS:
        return False
    try:
        return not bool(before == after)
    except ValueError:  # arrays compare by element
        return True


def is_mutable_container(value: Any) -> bool:
    """Whether `snapshot` copies a value as a whole."""
    return isinstance(value, (list, dict, set, bytearray))


def unique(names: Iterable[Any]) -> tuple[str, ...]:
    """Argument names, each once: `x`, `x_2`."""
    taken: dict[str, None] = {}
    for given in names:
        name, number = str(given), 1
        while name in taken:
            number += 1
            name = f"{given}_{number}"
        taken[name] = None
    return tuple(taken)


class Binder:
    """Finds the argument names of calls; the signature is read once.

    Args:
        function: What is called.
        skip_first: Whether its first parameter is bound already.

    Attributes:
        names: Of the parameters, in order.
        signature: Without a first parameter that is bound; None if it cannot be known.
    """

    __slots__ = ("_defaults", "_positional", "_simple", "names", "signature")

    def __init__(self, function: Callable[..., Any], *, skip_first: bool = False) -> None:
        try:
            signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None
        parameters = list(signature.parameters.values()) if signature is not None else []
        parameters = parameters[1:] if skip_first else parameters
        self.signature = signature.replace(parameters=parameters) if signature is not None else None
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._simple = signature is not None and all(p.kind in by_name for p in parameters)
        self._positional = sum(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in parameters)
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        self.names = tuple(p.name for p in parameters)

    def fits(self, count: int) -> bool:
        """Whether so many positional arguments are all that there can be."""
        return self._simple and count == self._positional == len(self.names)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Argument name -> value, defaults too. A call that does not fit has names all the same."""
        if self._simple and len(args) <= self._positional:
            found = dict(zip(self.names, args, strict=False))
            for name in self.names[len(args) :]:
                if name in kwargs:
                    found[name] = kwargs[name]
                elif name in self._defaults:
                    found[name] = self._defaults[name]
            if len(found) == len(self.names) and all(name in self.names[len(args) :] for name in kwargs):
                return found
        return self._bind(args, kwargs)

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        loose = [(f"argument_{number}", value) for number, value in enumerate(args)] + list(kwargs.items())
        if self.signature is None:
            return _unique_pairs(loose)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:  # the call itself will raise the function's own error, as a recorded failure
            return _unique_pairs(loose)
        bound.apply_defaults()
        pairs: list[tuple[str, Any]] = []
        for parameter in self.signature.parameters.values():
            value = bound.arguments[parameter.name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                pairs += [(f"{parameter.name}_{number}", item) for number, item in enumerate(value)]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                pairs += list(value.items())
            else:
                pairs.append((parameter.name, value))
        return _unique_pairs(pairs)


def _unique_pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = unique(name for name, _ in pairs)
    return dict(zip(names, (value for _, value in pairs), strict=True))


def _items(value: Any) -> Iterable[Any] | None:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    return _fields(value).values() if _is_record(value) else None


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return dict(value)
    if _is_record(value):
        return _fields(value)
    return {f"item_{number}": item for number, item in enumerate(value)}


def _is_record(value: Any) -> bool:
    return hasattr(type(value), "__dataclass_fields__")


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if hasattr(value, f.name)}


def _plain(value: Any, *, count_reads: bool = False) -> Any:
    if isinstance(value, Node):
        return snapshot(value.data if count_reads else unwrap(value))
    if type(value) in ATOMS or not holds_nodes(value):
        return snapshot(value)
    return _rebuilt(value, lambda item: _plain(item, count_reads=count_reads))


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """A container of the same type with changed items; types that cannot be made anew become plain ones."""
    if isinstance(value, dict):
        items = {key: change(item) for key, item in value.items()}
        if type(value) is dict:
            return items
        copied = copy.copy(value)
        copied.update(items)
        return copied
    if _is_record(value):
        copied = copy.copy(value)
        for name, item in _fields(value).items():
            object.__setattr__(copied, name, change(item))
        return copied
    if hasattr(value, "_make"):
        return value._make(map(change, value))
    kind = next(k for k in (list, tuple, set, frozenset) if isinstance(value, k))
    return kind(map(change, value))


def _snapshot(value: Any, made: dict[int, Any]) -> Any:
    cls = type(value)
    if cls in ATOMS or isinstance(value, Node):
        return value
    if id(value) in made:
        return made[id(value)]
    if cls is list or cls is dict:
        if ATOMS.issuperset(map(type, value if cls is list else value.values())):
            return value.copy()
        empty: Any = cls()
        made[id(value)] = empty  # before the items: a container may hold itself
        if cls is list:
            empty.extend(_snapshot(item, made) for item in value)
        else:
            empty.update((key, _snapshot(item, made)) for key, item in value.items())
        return empty
    if isinstance(value, tuple):
        return value if ATOMS.issuperset(map(type, value)) else _rebuilt(value, lambda item: _snapshot(item, made))
    if is_mutable_container(value) or hasattr(value, "__array_interface__"):
        return copy.copy(value)
    if _is_record(value):
        return _rebuilt(value, lambda item: _snapshot(item, made))
    return value
