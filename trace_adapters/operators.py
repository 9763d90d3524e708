"""Python's operators and methods on nodes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from trace_adapters.bundles import _plain, _source
from trace_adapters.code import error_place
from trace_adapters.nodes import FailedCall, Node, Operation, Parameter as Parameter, is_tracing, node as node, unwrap
from trace_adapters.traces import Feedback, TraceGraph, backward

_BINARY: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow, "matmul": operator.matmul,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor,
    "lshift": operator.lshift, "rshift": operator.rshift,
}  # fmt: skip
_COMPARISONS: dict[str, Callable[..., Any]] = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
_UNARY: dict[str, Callable[..., Any]] = {
    "neg": operator.neg, "pos": operator.pos, "invert": operator.invert, "abs": abs, "round": round,
}  # fmt: skip


def apply(operation: Operation, function: Callable[..., Any], **arguments: Any) -> Node:
    """Call a function on nodes or values and record it."""
    values = [_plain(value) for value in arguments.values()]
    if not is_tracing():
        return Node(function(*values))
    names, sources = tuple(arguments), tuple(_source(value) for value in arguments.values())
    try:
        result = function(*values)
    except Exception as error:
        FailedCall(error, None, "", operation, names, sources, place=error_place(error)).raise_error()
    return Node(unwrap(result), None, "", operation, names, sources)


def format_text(template: Any, /, *args: Any, **fields: Any) -> Node:
    """`template.format(*args, **fields)` as a recorded operation; template and fields may be nodes."""
    arguments = {f"field_{number}": value for number, value in enumerate(args)} | fields
    names = list(fields)

    def fill(text: str, *values: Any) -> str:
        return text.format(*values[: len(args)], **dict(zip(names, values[len(args) :], strict=True)))

    return apply(Operation("format", "Fill the fields of a template."), fill, template=template, **arguments)


def _backward(self: Node, feedback: Feedback | str | float) -> TraceGraph:
    """Carry feedback on this output to every parameter that it was made from; adds to what is there."""
    return backward(self, feedback)


def _binary(name: str, function: Callable[[Any, Any], Any]) -> Callable[[Node, Any], Node]:
    operation = Operation(name, f"x {name} y")

    def method(self: Node, other: Any) -> Node:
        return apply(operation, function, x=self, y=other)

    return method


def _reflected(name: str, function: Callable[[Any, Any], Any]) -> Callable[[Node, Any], Node]:
    operation = Operation(name, f"x {name} y")

    def method(self: Node, other: Any) -> Node:
        return apply(operation, function, x=other, y=self)

    return method


def _unary(name: str, function: Callable[..., Any]) -> Callable[..., Node]:
    operation = Operation(name, f"{name} of x")

    def method(self: Node, *args: Any) -> Node:
        return apply(operation, function, x=self, **{f"argument_{n}": a for n, a in enumerate(args)})

    return method


class NodeMethod:
    """A method of a node's value; calling it is recorded as one operation."""

    def __init__(self, owner: Node, name: str) -> None:
        self._owner, self._name = owner, name

    def __call__(self, *args: Any, **kwargs: Any) -> Node:
        name, keywords = self._name, list(kwargs)
        count = len(args)

        def call(value: Any, *rest: Any) -> Any:
            return getattr(value, name)(*rest[:count], **dict(zip(keywords, rest[count:], strict=True)))

        arguments = {f"argument_{number}": value for number, value in enumerate(args)} | kwargs
        return apply(
            Operation(name, f"The method {name} of the value."), call, self_=self._owner, **arguments
        )


def _getattr(self: Node, name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    value = unwrap(self)
    attribute = getattr(value, name)
    if name == "format" and isinstance(value, str):
        return lambda *args, **fields: format_text(self, *args, **fields)
    if callable(attribute):
        return NodeMethod(self, name)
    return apply(Operation("getattr", "An attribute of x."), getattr, x=self, name=name)


def _iter(self: Node) -> Iterator[Node]:
    value = unwrap(self)
    if isinstance(value, dict):
        return (apply(Operation("key", "A key of x."), lambda _, k: k, x=self, key=key) for key in value)
    if not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
        raise TypeError(f"The value of {self.name!r} cannot be iterated over by index: {value!r}.")
    return (self[number] for number in range(len(value)))  # type: ignore[index]


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
    extras: dict[str, Any] = {
        "eq": _binary("eq", operator.eq),
        "neq": _binary("neq", operator.ne),
        "__getitem__": _binary("getitem", operator.getitem),
        "__contains__": lambda self, item: unwrap(item) in unwrap(self),
        "__len__": lambda self: len(unwrap(self)),
        "__iter__": _iter,
        "__getattr__": _getattr,
        "backward": _backward,
    }
    for name, method in extras.items():
        setattr(cls, name, method)


install(Node)
