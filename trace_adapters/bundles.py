"""Functions whose calls are recorded."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import Any, overload

from trace_adapters.code import error_place
from trace_adapters.learned import LearnedFunction
from trace_adapters.nodes import FailedCall, Node, Operation, Parameter, collect_reads, is_tracing, unwrap

_CONTAINERS: dict[type, Operation] = {list: Operation("list"), tuple: Operation("tuple"), dict: Operation("dict")}
CODE_ARGUMENT = "__code__"


class Bundle:
    """A function that takes nodes or plain values and returns a node that remembers the call.

    Made by `bundle`. Of a method, every instance has its own bundle (and its own trainable source).

    Attributes:
        operation: Name and description shown in traces.
        parameter: The function's source as a `Parameter` if trainable, else None.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        operation: Operation,
        learned: LearnedFunction | None,
        parameter: Parameter | None,
        catch_execution_error: bool,
        bound_to: Any = None,
    ) -> None:
        self.function = function
        self.operation = operation
        self.learned = learned
        self.parameter = parameter
        self.catch_execution_error = catch_execution_error
        self._bound_to = bound_to
        self._binder = _Binder(function, skip_first=bound_to is not None)
        self._is_async = inspect.iscoroutinefunction(function)
        with contextlib.suppress(AttributeError, TypeError):
            update_wrapper(self, function)

    def parameters(self) -> list[Parameter]:
        """The source of the function, if trainable."""
        return [self.parameter] if self.parameter is not None else []

    def __get__(self, instance: Any, owner: type | None = None) -> Bundle:
        if instance is None or isinstance(self.function, (staticmethod, classmethod)):
            return self
        return self._bound(instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not is_tracing():
            return self._call_untraced(args, kwargs)
        names, sources = self._binder.sources(args, kwargs)
        plain_args, plain_kwargs = [_plain(a) for a in args], {k: _plain(v) for k, v in kwargs.items()}
        text = None
        if self.parameter is not None:
            value = self.parameter.read()
            names, sources, text = (*names, CODE_ARGUMENT), (*sources, value), value._data
        if self._is_async:
            return self._record_async(names, sources, text, plain_args, plain_kwargs)
        with collect_reads() as reads:
            try:
                result: Any = self._call(text, plain_args, plain_kwargs)
            except Exception as error:
                return self._failed(error, names, sources, reads)
        return self._done(result, names, sources, reads)

    async def _record_async(self, names: Any, sources: Any, text: Any, args: Any, kwargs: Any) -> Node:
        with collect_reads() as reads:
            try:
                result: Any = await self._call(text, args, kwargs)
            except Exception as error:
                return self._failed(error, names, sources, reads)
        return self._done(result, names, sources, reads)

    def _call(self, text: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._bound_to is not None:
            args = [self._bound_to, *args]
        if text is None or self.learned is None:
            return self.function(*args, **kwargs)
        return self.learned.call(text, args, kwargs)

    def _call_untraced(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        text = self.parameter.read()._data if self.parameter is not None else None
        result = self._call(text, [_plain(a) for a in args], {k: _plain(v) for k, v in kwargs.items()})
        return _wrap_later(result) if self._is_async else Node(unwrap(result))

    def _done(self, result: Any, names: tuple[str, ...], sources: tuple[Node, ...], reads: Any) -> Node:
        if isinstance(result, Node):
            names, sources, result = (*names, "returned"), (*sources, result), unwrap(result)
        names, sources = _with_reads(names, sources, reads)
        return Node(result, None, "", self.operation, names, sources)

    def _failed(
        self, error: Exception, names: tuple[str, ...], sources: tuple[Node, ...], reads: Any
    ) -> Node:
        names, sources = _with_reads(names, sources, reads)
        place = error_place(error, self.learned.source if self.learned is not None else None)
        failed = FailedCall(error, None, "", self.operation, names, sources, place=place)
        if not self.catch_execution_error:
            failed.raise_error()
        return failed

    def _bound(self, instance: Any) -> Bundle:
        own = vars(instance).setdefault("_trace_adapters_bundles", {})
        name = self.operation.name
        if name not in own or own[name].operation is not self.operation:
            own[name] = Bundle(
                self.function,
                self.operation,
                self.learned,
                copy.deepcopy(self.parameter),
                self.catch_execution_error,
                bound_to=instance,
            )
        found: Bundle = own[name]
        return found


@overload
def bundle(description: Callable[..., Any]) -> Bundle: ...
@overload
def bundle(
    description: str | None = None,
    *,
    trainable: bool = False,
    uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
    catch_execution_error: bool = True,
    name: str | None = None,
    trust: str = "sandbox",
    timeout_s: float = 5.0,
) -> Callable[[Callable[..., Any]], Bundle]: ...
def bundle(
    description: str | Callable[..., Any] | None = None,
    *,
    trainable: bool = False,
    uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
    catch_execution_error: bool = True,
    name: str | None = None,
    trust: str = "sandbox",
    timeout_s: float = 5.0,
) -> Bundle | Callable[[Callable[..., Any]], Bundle]:
    """Record the calls of a function.

    The `bundle` of Trace (arXiv 2406.16218 sec. 2). Use as `@bundle`, `@bundle(...)` or `bundle(...)(function)`.

    Args:
        description: What the function does, shown to optimizers; default its docstring.
        trainable: Make the function's source a parameter. A source that an optimizer wrote runs in the sandbox.
        uses: Host functions that a learned source may call.
        catch_execution_error: Return a node with the exception as its value when the function raises, so that
            feedback can flow through the failed call; if False, raise `ExecutionError` from it.
        name: Shown in traces, and the key of the trainable source; default the function's name.
        trust: "in-process" runs learned sources in this process.
        timeout_s: Wall-clock limit of one call of a learned source in the sandbox.

    Returns:
        A `Bundle`, or a decorator that makes one.

    Raises:
        CodeError: If `trainable` and the source cannot be read (lambda, builtin, typed into a REPL).
    """

    def make(function: Callable[..., Any]) -> Bundle:
        if not callable(function):
            raise TypeError(f"bundle() takes a function, got {function!r}.")
        shown = name or getattr(function, "__name__", type(function).__name__).strip("<>")
        text = description if isinstance(description, str) else inspect.getdoc(function) or ""
        learned = parameter = None
        if trainable:
            learned = LearnedFunction(function, uses=uses, trust=trust, timeout_s=timeout_s)
            parameter = code_parameter(learned, key=shown, description=text)
        return Bundle(function, Operation(shown, text), learned, parameter, catch_execution_error)

    if callable(description):
        return make(description)
    return make


def code_parameter(learned: LearnedFunction, *, key: str, description: str = "") -> Parameter:
    """The source of a function as a parameter that refuses what cannot stand in for it."""
    return Parameter(
        learned.source.text,
        key,
        description or f"The function {learned.name}.",
        f"Python source with one function `{learned.spec.header}`; helpers may stand beside it.",
        "code",
        check=learned.check,
    )


class _Binder:
    """Finds the argument names of a call; the signature is read once."""

    def __init__(self, function: Callable[..., Any], *, skip_first: bool) -> None:
        try:
            signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None
        parameters = list(signature.parameters.values()) if signature is not None else []
        self._parameters = parameters[1:] if skip_first else parameters
        self._signature = signature.replace(parameters=self._parameters) if signature is not None else None
        plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._simple = all(p.kind in plain for p in self._parameters) and signature is not None
        self._names = tuple(p.name for p in self._parameters)

    def sources(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], tuple[Node, ...]]:
        if self._simple and not kwargs and len(args) == len(self._names):
            return self._names, tuple(_source(value) for value in args)
        names, values = self._bind(args, kwargs)
        return names, tuple(_source(value) for value in values)

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[str, ...], list[Any]]:
        if self._signature is None:
            positional = {f"argument_{number}": value for number, value in enumerate(args)}
            return tuple({**positional, **kwargs}), [*args, *kwargs.values()]
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            # the call itself will raise the function's own error, as a recorded failure
            return tuple([f"argument_{n}" for n in range(len(args))] + list(kwargs)), [
                *args,
                *kwargs.values(),
            ]
        bound.apply_defaults()
        pairs: list[tuple[str, Any]] = []
        for parameter in self._parameters:
            value = bound.arguments[parameter.name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                pairs += [(f"{parameter.name}_{number}", item) for number, item in enumerate(value)]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                pairs += list(value.items())
            else:
                pairs.append((parameter.name, value))
        return tuple(name for name, _ in pairs), [value for _, value in pairs]


def _source(value: Any) -> Node:
    if isinstance(value, Parameter):
        return value.read()
    if isinstance(value, Node):
        return value
    operation = _CONTAINERS.get(type(value))
    if operation is None or not _holds_nodes(value):
        return Node(value)
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    names = tuple(str(key) if isinstance(value, dict) else f"item_{key}" for key, _ in items)
    return Node(_plain(value), None, "", operation, names, tuple(_source(item) for _, item in items))


def _holds_nodes(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return any(isinstance(item, Node) or (type(item) in _CONTAINERS and _holds_nodes(item)) for item in items)


def _plain(value: Any) -> Any:
    if isinstance(value, Node):
        return unwrap(value)
    if type(value) in _CONTAINERS and _holds_nodes(value):
        if isinstance(value, dict):
            return {key: _plain(item) for key, item in value.items()}
        return type(value)(_plain(item) for item in value)
    return value


def _with_reads(
    names: tuple[str, ...], sources: tuple[Node, ...], reads: Mapping[Node, None]
) -> tuple[tuple[str, ...], tuple[Node, ...]]:
    """Closed-over nodes that the call read are inputs too."""
    if not reads:
        return names, sources
    known = set(sources)
    extra = [node for node in reads if node not in known]
    taken = set(names)
    for node in extra:
        name, number = node.name, 1
        while name in taken:
            number += 1
            name = f"{node.name}_{number}"
        taken.add(name)
        names = (*names, name)
    return names, (*sources, *extra)


async def _wrap_later(result: Any) -> Node:
    return Node(unwrap(await result))
