"""A function with a record of its calls."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import update_wrapper
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NoReturn

from trace_adapters import saving
from trace_adapters.arguments import ATOMS, Binder, gather, holds_nodes, own, snapshot, take, unique
from trace_adapters.code import error_place
from trace_adapters.context import READS, TRACING, Surroundings
from trace_adapters.errors import CodeError, ExecutionError, SettingError, explain_nodes
from trace_adapters.history import NestedCall
from trace_adapters.learned import LearnedFunction, failing_line, find_named, name_of
from trace_adapters.nodes import Constant, FailedCall, Node, Operation, Parameter, check_values, keyed
from trace_adapters.streams import Stream

CODE_ARGUMENT = "__code"
PARAMETERS = "_trace_adapters_parameters"  # attribute of an instance: name of its trainable method -> parameter
_LATER = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
_running: ContextVar[frozenset[int]] = ContextVar("trace_adapters_running", default=frozenset())

_new: Any = object.__new__
_is_tracing = TRACING.get
Names = tuple[str, ...]
Sources = tuple[Node, ...]
Reads = dict[Node, None]


class Bundle:
    """A function that takes nodes or plain values and returns a node that remembers the call.

    Made by `bundle`. A trainable method has a source of its own for every instance.

    Attributes:
        operation: Name and description shown in traces.
        parameter: The function's source as a `Parameter` if trainable, else None.
        catch_execution_error: Whether a failed call is recorded and raised as `ExecutionError`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        operation: Operation,
        learned: LearnedFunction | None,
        parameter: Parameter | None,
        catch_execution_error: bool,
        *,
        passes: str = "values",
        binds: str = "instance",
        closed: bool = False,
        plain_recursion: bool = False,
    ) -> None:
        self.function = function
        self.operation = operation
        self.learned = learned
        self.parameter = parameter
        self.catch_execution_error = catch_execution_error
        self._passes = passes  # to the function: "values", "copies" (nodes without history) or "nodes"
        self._binds = binds if hasattr(type(function), "__get__") else "nothing"  # partials and builtins do not bind
        self._closed = closed
        self._plain_recursion = plain_recursion
        self._bound_to: Any = None
        self._is_bound = False
        self._is_method = False  # stands in a class, so that its first argument is the object
        self._place_in_class = getattr(function, "__qualname__", operation.name)
        self._binder = Binder(function)
        self._direct = parameter is None and passes == "values" and not plain_recursion
        with contextlib.suppress(AttributeError, TypeError):
            update_wrapper(self, function)

    def parameters(self) -> list[Parameter]:
        """The source of the function, if trainable."""
        return [self.parameter] if self.parameter is not None else []

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the source as JSON, as `Module.save` does."""
        saving.write_values(Path(path), {p.key: p.data for p in self.parameters()})

    def load(self, path: str | os.PathLike[str], *, allow_code: bool = False) -> None:
        """Read what `save` wrote; a source that differs needs `allow_code=True`, see `Module.load`.

        Raises:
            ParameterError: If the file is of another function, or the source cannot stand in for this one.
        """
        values = saving.read_values(Path(path))
        known = keyed(self.parameters())
        saving.refuse_code(Path(path), values, known, allow_code=allow_code)
        check_values(known, values)
        for key, value in values.items():
            known[key].data = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _is_tracing():
            if not self._direct or kwargs:
                return self._untraced(args, kwargs)
            try:
                if len(args) == 1:
                    only = args[0]
                    if type(only) is Node and only._newer is None:
                        only = only._data if type(only._data) in ATOMS else own(only)
                    elif type(only) not in ATOMS:
                        only = own(only)
                    result = self.function(only)
                else:
                    result = self.function(*[a if type(a) in ATOMS else own(a) for a in args])
            except Exception as error:
                self._raise(error, (), (), {})
            if type(result) not in ATOMS:
                return self._unrecorded(result)
            made = _new(Constant)  # this path is to cost next to nothing
            made._data, made._newer = result, None
            return made
        if self._plain_recursion and id(self.function) in _running.get():
            return self._plainly(args, kwargs)
        reads: Reads = {}
        token = READS.set(reads)
        names: Names = ()
        sources: Sources = ()
        try:
            if not kwargs and self._binder.fits(len(args)):
                names, taken = self._binder.names, [take(value) for value in args]
                sources, values = tuple([source for source, _ in taken]), [value for _, value in taken]
                keywords: Any = kwargs
            else:
                names, sources, values, keywords = self._bound_arguments(args, kwargs)
            if self._direct:
                result = self.function(*values, **keywords)
            else:
                names, sources, text = self._with_code(names, sources)
                if self._passes != "values":
                    values, keywords = self._passed(names, sources, args, kwargs)
                result = self._call(text, values, keywords)
        except Exception as error:
            self._raise(error, names, sources, reads)
        finally:
            READS.reset(token)
        if type(result) in _LATER:
            return self._later(result, names, sources, reads)
        return self._done(result, names, sources, reads)

    def _bound_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Names, Sources, Any, Any]:
        bound = self._binder.bind(args, kwargs)
        taken = {id(value): take(value) for value in [*args, *kwargs.values()]}
        sources = tuple(taken[id(v)][0] if id(v) in taken else take(v)[0] for v in bound.values())
        values, keywords = [taken[id(a)][1] for a in args], {k: taken[id(v)][1] for k, v in kwargs.items()}
        return tuple(bound), sources, values, keywords

    def _with_code(self, names: Names, sources: Sources) -> tuple[Names, Sources, str | None]:
        if self.parameter is None:
            return names, sources, None
        value = self.parameter.read()
        return (*names, CODE_ARGUMENT), (*sources, value), value._data

    def _passed(self, names: Names, sources: Sources, args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
        if self._passes == "nodes":
            return list(args), dict(kwargs)
        copies = [
            Node(snapshot(s._data), None if n == CODE_ARGUMENT else n) for n, s in zip(names, sources, strict=True)
        ]
        given = dict(zip(names, copies, strict=True))
        return copies[: len(args)], {name: given.get(name, value) for name, value in kwargs.items()}

    def _call(self, text: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._is_bound:
            args = [self._bound_to, *args]
        token = _running.set(_running.get() | {id(self.function)}) if self._plain_recursion else None
        try:
            if text is None or self.learned is None:
                return self.function(*args, **kwargs)
            return self.learned.call(text, args, kwargs, bound=self._is_bound or (self._is_method and len(args) > 0))
        finally:
            if token is not None:
                _running.reset(token)

    def _untraced(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self._plain_recursion and id(self.function) in _running.get():
            return self._plainly(args, kwargs)
        text = self.parameter.read()._data if self.parameter is not None else None
        try:
            if self._passes == "values":
                result = self._call(text, [own(a) for a in args], {k: own(v) for k, v in kwargs.items()})
            else:
                result = self._call(text, args, kwargs)
        except Exception as error:
            self._raise(error, (), (), {})
        return self._unrecorded(result)

    def _plainly(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return own(self._call(None, [own(a) for a in args], {k: own(v) for k, v in kwargs.items()}))

    def _unrecorded(self, result: Any) -> Any:
        return self._later(result, (), (), {}) if type(result) in _LATER else Constant(own(result))

    def _raise(self, error: Exception, names: Names, sources: Sources, reads: Reads) -> NoReturn:
        if not self.catch_execution_error:
            raise error
        raise self._failed(error, names, sources, reads) from _origin(error)

    def _later(self, result: Any, names: Names, sources: Sources, reads: Reads) -> Any:
        recorded = TRACING.get()
        if isinstance(result, CoroutineType):
            return self._record_coroutine(result, names, sources, reads, recorded, Surroundings(reads))
        return Stream(
            result,
            self.operation if recorded else None,
            reads=reads,
            finish=lambda found: self._with_reads(names, sources, found) if recorded else ((), ()),
            fail=lambda e, found: self._failed(e, names, sources, found) if self.catch_execution_error else e,
        )

    async def _record_coroutine(
        self, coroutine: Any, names: Names, sources: Sources, reads: Reads, recorded: bool, surroundings: Surroundings
    ) -> Any:
        try:
            with surroundings.restored():
                result = await coroutine
        except Exception as error:
            self._raise(error, names, sources, reads)
        return self._done(result, names, sources, reads) if recorded else Constant(own(result))

    def _done(self, result: Any, names: Names, sources: Sources, reads: Reads) -> Node:
        if not reads and type(result) in ATOMS:
            return Node(result, None, "", self.operation, names, sources)
        inner = None
        if isinstance(result, Node):
            inner = result.read()
            result = inner._data
        elif type(result) not in ATOMS and holds_nodes(result):
            inner = gather(result)
            result = snapshot(inner._data)
        if inner is not None and inner._led:
            names, sources = (*names, "returned"), (*sources, inner)
        names, sources = self._with_reads(names, sources, reads)
        if inner is not None and self._passes == "copies":
            return NestedCall.around(inner, result, None, "", self.operation, names, sources)
        return Node(result, None, "", self.operation, names, sources)

    def _with_reads(self, names: Names, sources: Sources, reads: Reads) -> tuple[Names, Sources]:
        """Closed-over nodes that the call read are inputs too."""
        known = set(sources)
        extra = [node for node in reads if node not in known]
        if not extra:
            return names, sources
        if self._closed:
            raise SettingError(
                f"{self.operation.name} read {', '.join(repr(node.name) for node in extra)}, which it was not given. "
                "Make them arguments, or leave out allow_external_dependencies=False."
            )
        return unique([*names, *(node.name for node in extra)]), (*sources, *extra)

    def _failed(self, error: Exception, names: Names, sources: Sources, reads: Reads) -> ExecutionError:
        explain_nodes(error)
        place, text = self._failing_place(error, names, sources)
        if isinstance(error, ExecutionError) and error.node is not None:
            names, sources = (*names, "raised"), (*sources, error.node)
            error = error.node._data
        names, sources = self._with_reads(names, sources, reads) if not self._closed else (names, sources)
        failed = FailedCall(error, None, "", self.operation, names, sources, place=place, source_text=text)
        return failed.as_error()

    def _failing_place(
        self, error: Exception, names: Names, sources: Sources
    ) -> tuple[tuple[int, str] | None, str | None]:
        """The line that failed, and the source it stands in: the one that ran."""
        if self.learned is None:
            return failing_line(self.function, error)
        source = self.learned.source
        text = sources[names.index(CODE_ARGUMENT)]._data if CODE_ARGUMENT in names else source.text
        return error_place(error, source if text == source.text else text), text

    def __set_name__(self, owner: type, name: str) -> None:
        self._place_in_class = f"{owner.__qualname__}.{name}"
        self._is_method = self._binds != "nothing"
        self.__dict__.pop("_state_of_methods", None)

    def __get__(self, instance: Any, owner: type | None = None) -> Bundle:
        if self._is_bound:
            return self
        is_object = instance is not None and not isinstance(instance, type)
        parameter = self.parameter
        if parameter is not None and is_object:
            parameter = self._parameter_of(instance)
        if self._binds == "class":
            return self._bound(owner if owner is not None else type(instance), parameter)
        if self._binds == "nothing":
            return self if parameter is self.parameter else self._holding(parameter)
        return self if instance is None else self._bound(instance, parameter)

    def _holding(self, parameter: Parameter | None) -> Bundle:
        """The same function with a source of its own, for the static method of one object."""
        held: Bundle = object.__new__(Bundle)
        held.__dict__.update(self.__dict__)
        held.parameter = parameter
        return held

    def _bound(self, instance: Any, parameter: Parameter | None) -> Bundle:
        state = self.__dict__.get("_state_of_methods")
        if state is None:
            state = {**self.__dict__, "_is_bound": True, "_direct": False}
            binder = state["_binder"] = Binder(self.function, skip_first=True)
            state["__signature__"] = binder.signature  # for inspect.signature(), which else finds that of the function
            self.__dict__["_state_of_methods"] = state
        bound: Bundle = object.__new__(Bundle)
        bound.__dict__ = state.copy()
        bound.parameter, bound._bound_to = parameter, instance
        return bound

    def _parameter_of(self, instance: Any) -> Parameter:
        attributes = getattr(instance, "__dict__", None)
        if attributes is None:
            raise CodeError(
                f"{type(instance).__name__} has __slots__ and no __dict__, where the source of its trainable method "
                f"{self.operation.name!r} could be kept; add '__dict__' to its slots."
            )
        own_parameters = attributes.setdefault(PARAMETERS, {})
        found: Parameter | None = own_parameters.get(self._place_in_class)
        return found or own_parameters.setdefault(self._place_in_class, copy.deepcopy(self.parameter))

    def __repr__(self) -> str:
        kind = "trainable bundle" if self.parameter is not None else "bundle"
        return f"<{kind} {self.operation.name}({', '.join(self._binder.names)})>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bundle) or not self._is_bound or not other._is_bound:
            return self is other
        return self.function is other.function and self._bound_to is other._bound_to

    def __hash__(self) -> int:
        return hash((id(self.function), id(self._bound_to)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Bundle:
        copied: Bundle = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(self.__dict__)
        copied.__dict__.pop("_state_of_methods", None)
        copied.parameter = copy.deepcopy(self.parameter, memo)
        copied._bound_to = copy.deepcopy(self._bound_to, memo) if self._binds == "instance" else self._bound_to
        return copied

    def __reduce__(self) -> Any:
        if self._is_bound:
            return getattr, (self._bound_to, self._place_in_class.rpartition(".")[2])
        if isinstance(getattr(name_of(self), "find", lambda: None)(), Bundle):
            return find_named, (name_of(self),)
        left_out = ("function", "_binder", "_state_of_methods", "__wrapped__")
        return _restore, (name_of(self.function), {k: v for k, v in self.__dict__.items() if k not in left_out})


def _restore(function: Any, state: dict[str, Any]) -> Bundle:
    restored: Bundle = object.__new__(Bundle)
    function = find_named(function)
    function = function.function if isinstance(function, Bundle) else function
    restored.__dict__.update({**state, "function": function, "_binder": Binder(function), "__wrapped__": function})
    return restored


def _origin(error: BaseException) -> BaseException:
    return error.node._data if isinstance(error, ExecutionError) and error.node is not None else error
