"""Python's operators and the methods of values, on nodes."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

from trace_adapters.arguments import ATOMS, changed, gather, is_mutable_container, own, snapshot, unique
from trace_adapters.code import error_place
from trace_adapters.context import TRACING
from trace_adapters.errors import ExecutionError
from trace_adapters.nodes import (
    Constant,
    FailedCall,
    Node,
    Operation,
    Parameter as Parameter,
    Value,
    node as node,
    unwrap,
)
from trace_adapters.packing import install as install_packing
from trace_adapters.traces import TraceGraph, backward

_BINARY: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow, "matmul": operator.matmul,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "lshift": operator.lshift, "rshift": operator.rshift, "divmod": divmod,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
}  # fmt: skip
_UNARY: dict[str, Callable[..., Any]] = {
    "neg": operator.neg, "pos": operator.pos, "invert": operator.invert, "abs": abs, "round": round,
    "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc,
}  # fmt: skip
_CONVERSIONS: dict[str, Callable[..., Any]] = {
    "int": int, "float": float, "complex": complex, "index": operator.index,
}  # fmt: skip
_XY = ("x", "y")
_FORMAT = Operation("format", "Fill the fields of a template.")
_CALL = Operation("call", "Call x.")
_ITEM, _KEY = Operation("item", "The item of x at a position."), Operation("key", "The key of x at a position.")
_SETITEM, _DELITEM = Operation("setitem", "x with x[key] = value."), Operation("delitem", "x without x[key].")


def apply(operation: Operation, function: Callable[..., Any], **arguments: Any) -> Node:
    """Call a function on nodes or values and record it."""
    return _apply(operation, function, tuple(arguments), tuple(arguments.values()))


def format(template: Any, /, *args: Any, **fields: Any) -> Node:
    """`template.format(*args, **fields)` as a recorded operation; template and fields may be nodes."""
    names = unique(["template", *(f"field_{number}" for number in range(len(args))), *fields])
    keywords = list(fields)

    def fill(text: str, *values: Any) -> str:
        return text.format(*values[: len(args)], **dict(zip(keywords, values[len(args) :], strict=True)))

    return _apply(_FORMAT, fill, names, (template, *args, *fields.values()))


class NodeMethod:
    """A method of a node's value; calling it is recorded as one operation.

    A method that changes a list, dict, set or bytearray in place changes what the node shows from then on;
    calls that took the node before keep the value that they took.
    """

    def __init__(self, owner: Node, name: str) -> None:
        self._owner, self._name = owner, name

    def __call__(self, *args: Any, **kwargs: Any) -> Node:
        name, count, keywords = self._name, len(args), list(kwargs)
        if name == "format" and isinstance(unwrap(self._owner), str):
            return format(self._owner, *args, **kwargs)

        def call(value: Any, *rest: Any) -> Any:
            return getattr(value, name)(*rest[:count], **dict(zip(keywords, rest[count:], strict=True)))

        names = unique(["self", *(f"argument_{number}" for number in range(count)), *keywords])
        return _change(_method(name), call, self._owner, names, (self._owner, *args, *kwargs.values()))


class _Missing(ExecutionError, AttributeError):
    """An operation that a value does not have, to be caught as either; `hasattr` needs the second."""


class _Unfit(ExecutionError, TypeError):
    """A value that has no length or cannot be iterated over; Python's own protocols need a TypeError."""


def _apply(operation: Operation, function: Callable[..., Any], names: tuple[str, ...], given: tuple[Any, ...]) -> Node:
    values = [value if type(value) in ATOMS else _operand(value) for value in given]
    if not TRACING.get():
        return Constant(own(function(*values)))
    try:
        result = function(*values)
    except Exception as error:
        raise _failed(operation, error, names, given).as_error() from error
    sources = _sources(given)
    if isinstance(result, Node):
        inner = result.read()
        if not inner._led:
            return Node(inner._data, None, "", operation, names, sources)
        return Node(inner._data, None, "", operation, (*names, "returned"), (*sources, inner))
    return Node(result, None, "", operation, names, sources)


def _sources(given: tuple[Any, ...]) -> tuple[Node, ...]:
    return tuple([v.read() if isinstance(v, Node) else Constant(v) if type(v) in ATOMS else gather(v) for v in given])


def _failed(operation: Operation, error: Exception, names: tuple[str, ...], given: tuple[Any, ...]) -> FailedCall:
    return FailedCall(error, None, "", operation, names, _sources(given), place=error_place(error))


def _change(
    operation: Operation, function: Callable[..., Any], owner: Node, names: tuple[str, ...], given: tuple[Any, ...]
) -> Node:
    """Apply a function that may change its first argument in place."""
    current = owner.read()
    if not is_mutable_container(current._data):
        return _apply(operation, function, names, given)
    after = snapshot(current._data)
    result = _apply(operation, lambda _, *rest: function(after, *rest), names, given)
    if changed(current._data, after):
        if isinstance(current, Value):
            raise TypeError(
                f"{operation.name} changes the value of the parameter {owner.name!r} in place; set its `.data` instead."
            )
        current._newer = Node(after, current._name, current._description, operation, names, result._sources)
    return result


def _operand(value: Any) -> Any:
    """What an operator works on: it changes nothing in place, so nothing is copied."""
    return value.read()._data if isinstance(value, Node) else own(value)


def _backward(self: Node, feedback: Any = "") -> TraceGraph:
    """Carry feedback on this output to every parameter that it was made from; adds to what is there."""
    return backward(self, feedback)


def _binary(name: str, function: Callable[[Any, Any], Any]) -> Callable[[Node, Any], Node]:
    operation = Operation(name, f"x {name} y")

    def method(self: Node, other: Any) -> Node:
        return _apply(operation, function, _XY, (self, other))

    return method


def _reflected(name: str, function: Callable[[Any, Any], Any]) -> Callable[[Node, Any], Node]:
    operation = Operation(name, f"x {name} y")

    def method(self: Node, other: Any) -> Node:
        return _apply(operation, function, _XY, (other, self))

    return method


def _unary(name: str, function: Callable[..., Any]) -> Callable[..., Node]:
    operation = Operation(name, f"{name} of x")

    def method(self: Node, *args: Any) -> Node:
        return _apply(operation, function, ("x", *(f"argument_{n}" for n in range(len(args)))), (self, *args))

    return method


def _conversion(name: str, function: Callable[..., Any]) -> Callable[[Node], Any]:
    def method(self: Node) -> Any:
        self.data  # noqa: B018  # inside a bundle this counts as a reading
        return _apply(Operation(name, f"x as {name}"), function, ("x",), (self,))._data

    return method


def _power(self: Node, other: Any, modulus: Any = None) -> Node:
    if modulus is None:
        return _apply(_POWER, operator.pow, _XY, (self, other))
    return _apply(_POWER, pow, ("x", "y", "modulus"), (self, other, modulus))


_POWER = Operation("pow", "x to the power of y")


@functools.lru_cache(maxsize=1024)
def _method(name: str) -> Operation:
    return Operation(name, f"The method {name} of the value.")


def _getattr(self: Node, name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        attribute = getattr(unwrap(self), name)
    except AttributeError as error:
        failed = _failed(_GETATTR, error, ("x", "name"), (self, name))
        raise _Missing(str(failed.as_error()), failed) from error
    return NodeMethod(self, name) if callable(attribute) else _attribute(self, name)


def _attribute(self: Node, name: Any) -> Node:
    """An attribute of the value as a node, also one whose name a node has itself."""
    return _apply(_GETATTR, getattr, ("x", "name"), (self, name))


_GETATTR = Operation("getattr", "An attribute of x.")


def _call_method(self: Node, name: str, /, *args: Any, **kwargs: Any) -> Node:
    """Call a method of the value, also one whose name a node has itself."""
    return NodeMethod(self, name)(*args, **kwargs)


def _call(self: Node, /, *args: Any, **kwargs: Any) -> Node:
    count, keywords = len(args), list(kwargs)

    def call(function: Any, *rest: Any) -> Any:
        return function(*rest[:count], **dict(zip(keywords, rest[count:], strict=True)))

    names = unique(["x", *(f"argument_{number}" for number in range(count)), *keywords])
    return _apply(_CALL, call, names, (self, *args, *kwargs.values()))


def _iter(self: Node) -> Iterator[Node]:
    value = self.data
    if isinstance(value, dict):
        return (_apply(_KEY, lambda _, k: k, _XY, (self, key)) for key in list(value))
    if hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        return (self[number] for number in range(len(value)))
    if not hasattr(value, "__iter__"):
        error = TypeError(f"The value of {self.name!r} cannot be iterated over: {value!r}.")
        failed = _failed(_ITEM, error, ("x",), (self,))
        raise _Unfit(str(failed.as_error()), failed) from error
    return (Node(own(item), None, "", _ITEM, _XY, (self.read(), Constant(number))) for number, item in enumerate(value))


def _len(self: Node) -> int:
    try:
        return len(self.data)
    except TypeError as error:
        failed = _failed(_LEN, error, ("x",), (self,))
        raise _Unfit(str(failed.as_error()), failed) from error


_LEN = Operation("len", "The length of x.")


def _setitem(self: Node, key: Any, value: Any) -> None:
    _change(_SETITEM, operator.setitem, self, ("x", "key", "value"), (self, key, value))


def _delitem(self: Node, key: Any) -> None:
    _change(_DELITEM, operator.delitem, self, ("x", "key"), (self, key))


def _clone(self: Node) -> Node:
    """A node with the same value, made from this one."""
    return _apply(Operation("clone", "The same value as x."), snapshot, ("x",), (self,))


def install(cls: type[Node]) -> None:
    """Give a node class the operators."""
    for name, function in _BINARY.items():
        setattr(cls, f"__{name}__", _binary(name, function))
        setattr(cls, f"__r{name}__", _reflected(name, function))
    for name, function in _COMPARISONS.items():
        setattr(cls, f"__{name}__", _binary(name, function))
        setattr(cls, name, _binary(name, function))
    for name, function in _UNARY.items():
        setattr(cls, f"__{name}__", _unary(name, function))
    for name, function in _CONVERSIONS.items():
        setattr(cls, f"__{name}__", _conversion(name, function))
    extras: dict[str, Any] = {
        "eq": _binary("eq", operator.eq),
        "neq": _binary("neq", operator.ne),
        "contains": _binary("contains", operator.contains),
        "len": _unary("len", len),
        "call": _call_method,
        "clone": _clone,
        "getattr": _attribute,
        "backward": _backward,
        "__pow__": _power,
        "__getitem__": _binary("getitem", operator.getitem),
        "__setitem__": _setitem,
        "__delitem__": _delitem,
        "__contains__": lambda self, item: unwrap(item) in self.data,
        "__len__": _len,
        "__iter__": _iter,
        "__call__": _call,
        "__getattr__": _getattr,
    }
    for name, method in extras.items():
        setattr(cls, name, method)


install(Node)
install_packing()
