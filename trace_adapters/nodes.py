"""Values with their history, and the parameters among them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from trace_adapters.errors import ExecutionError, ParameterError

KINDS = ("text", "code", "number", "choice", "json", "demos")

_tracing: ContextVar[bool] = ContextVar("trace_adapters_tracing", default=True)
_overrides: ContextVar[Overrides | None] = ContextVar("trace_adapters_overrides", default=None)
_reads: ContextVar[dict[Node, None] | None] = ContextVar("trace_adapters_reads", default=None)


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """What was called: shared by all calls of one bundle.

    Attributes:
        name: A Python identifier, shown in traces.
        description: One or more sentences for the reader of a trace, often the docstring.
        language_model: Whether the call asks a language model.
    """

    name: str
    description: str = ""
    language_model: bool = False


class Node:
    """A value with its history: the operation that made it and the nodes that went in.

    Nodes hold their parents and nothing holds their children, so a graph dies with the last
    reference to its outputs. `==` and `bool()` act on the value; nodes hash by identity.
    """

    __slots__ = ("__weakref__", "_argument_names", "_data", "_description", "_name", "_operation", "_sources")

    failed = False

    def __init__(
        self,
        data: Any,
        name: str | None = None,
        description: str = "",
        operation: Operation | None = None,
        argument_names: tuple[str, ...] = (),
        sources: tuple[Node, ...] = (),
    ) -> None:
        self._data = data
        self._name = name
        self._description = description
        self._operation = operation
        self._argument_names = argument_names
        self._sources = sources

    @property
    def data(self) -> Any:
        """The plain value. Reading it inside a bundle makes this node an input of that call."""
        reads = _reads.get()
        if reads is not None:
            reads[self] = None
        return self._data

    @property
    def name(self) -> str:
        """The given name, or the operation's, or the value's type; unique only inside a trace."""
        if self._name is not None:
            return self._name
        return self._operation.name if self._operation is not None else type(self._data).__name__

    @property
    def description(self) -> str:
        if self._description or self._operation is None:
            return self._description
        return self._operation.description

    @property
    def operation(self) -> Operation | None:
        """What made this value; None for a value that was given."""
        return self._operation

    @property
    def parents(self) -> list[Node]:
        """The nodes that went in, in argument order."""
        return [_declared(source) for source in self._sources]

    @property
    def inputs(self) -> dict[str, Node]:
        """Argument name -> node."""
        return {
            name: _declared(source) for name, source in zip(self._argument_names, self._sources, strict=True)
        }

    @property
    def recorded_inputs(self) -> dict[str, Node]:
        """Argument name -> node that holds the value as it was then, also for parameters."""
        return dict(zip(self._argument_names, self._sources, strict=True))

    @property
    def sources(self) -> tuple[Node, ...]:
        """The nodes that went in, parameters as the `Value` that was read."""
        return self._sources

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}={_short(self._data)}>"

    def __format__(self, spec: str) -> str:
        raise TypeError(
            f"The node {self.name!r} was put into a string; the text would show the node, and the trace would be cut. "
            "Use `.data` for the value, or build the text inside a bundle."
        )

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        value = other._data if isinstance(other, Node) else other
        return self is other or bool(self._data == value)

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        return bool(self.data)


class FailedCall(Node):
    """A call that raised; its value is the exception.

    Attributes:
        place: (line number, line) in the failing function's source, or None.
    """

    __slots__ = ("place",)

    failed = True

    def __init__(
        self, data: BaseException, *args: Any, place: tuple[int, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data, *args, **kwargs)
        self.place = place

    def raise_error(self) -> None:
        """Raise `ExecutionError` from the recorded exception."""
        error = self._data
        where = f", line {self.place[0]}: {self.place[1].strip()}" if self.place else ""
        raise ExecutionError(
            f"{self.name} failed: {type(error).__name__}: {error}{where}", node=self
        ) from error


class Value(Node):
    """A parameter's value as one call read it."""

    __slots__ = ("parameter",)

    def __init__(self, data: Any, parameter: Parameter) -> None:
        super().__init__(data, parameter._name, parameter._description)
        self.parameter = parameter


class Parameter(Node):
    """A declared value that may be trained.

    Args:
        value: The value to start from.
        key: Stable across processes; also the name in traces.
        description: What the value is for, shown to optimizers.
        constraint: What new values must satisfy, in words, shown to optimizers.
        kind: One of `KINDS`; guessed from the value if None.
        choices: The allowed values of a parameter of kind "choice".
        check: Called with a proposed value; raises `ParameterError` with the reason to reject it.
        trainable: Whether optimizers may change it.

    Raises:
        ParameterError: If the key is empty, the kind unknown, or the first value does not pass `check`.
    """

    __slots__ = ("_feedback", "_value", "check", "choices", "constraint", "key", "kind", "trainable")

    def __init__(
        self,
        value: Any,
        key: str,
        description: str = "",
        constraint: str = "",
        kind: str | None = None,
        *,
        choices: tuple[Any, ...] = (),
        check: Any = None,
        trainable: bool = True,
    ) -> None:
        if not isinstance(key, str) or not key:
            raise ParameterError(f"A parameter needs a key, a non-empty string; got {key!r}.")
        super().__init__(value, key, description or "")
        self.key = key
        self.constraint = constraint or ""
        self.kind = kind or ("choice" if choices else _kind_of(value))
        self.choices = tuple(choices)
        self.check = check
        self.trainable = trainable
        self._feedback: list[Any] = []
        if self.kind not in KINDS:
            raise ParameterError(f"The parameter {key!r} has kind {kind!r}; kinds are {', '.join(KINDS)}.")
        if check is not None:
            check(value)
        self._value = Value(value, self)

    @property
    def data(self) -> Any:
        """The value in force here: of the innermost `using`, else the parameter's own."""
        reads = _reads.get()
        if reads is not None:
            reads[self.read()] = None
        return self.read()._data

    @data.setter
    def data(self, value: Any) -> None:
        self._data = value
        self._value = Value(value, self)

    @property
    def feedback(self) -> list[Any]:
        """The trace graphs that `backward` brought here since the last `zero_feedback`."""
        return list(self._feedback)

    def read(self) -> Value:
        """The value in force here, as a node that later changes do not touch."""
        overrides = _overrides.get()
        found = overrides.find(self) if overrides is not None else None
        return self._value if found is None else found

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """A parameter of its own, with this one's value and no feedback."""
        copied = Parameter(
            copy.deepcopy(self._data, memo),
            self.key,
            self._description,
            self.constraint,
            self.kind,
            choices=self.choices,
            trainable=self.trainable,
        )
        copied.check = self.check
        memo[id(self)] = copied
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (
            self._data,
            self.key,
            self._description,
            self.constraint,
            self.kind,
            self.choices,
            self.check,
        )
        return _restore_parameter, (*parts, self.trainable)

    def receive(self, graph: Any) -> None:
        """Keep a trace graph as feedback."""
        self._feedback.append(graph)

    def zero_feedback(self) -> None:
        """Forget the feedback received so far."""
        self._feedback.clear()


class Overrides:
    """The values of one `using`, on top of those around it."""

    def __init__(self, candidate: Mapping[Any, Any], outer: Overrides | None) -> None:
        self._values: dict[Any, Any] = dict(outer._values) if outer is not None else {}
        self._values.update(candidate)
        self._nodes: dict[Parameter, Value] = {}

    def find(self, parameter: Parameter) -> Value | None:
        found = self._nodes.get(parameter)
        if found is not None:
            return found
        key: Any = parameter if parameter in self._values else parameter.key
        if key not in self._values:
            return None
        return self._nodes.setdefault(parameter, Value(self._values[key], parameter))


def node(
    data: Any,
    name: str | None = None,
    trainable: bool = False,
    description: str = "",
    constraint: str = "",
    *,
    kind: str | None = None,
    choices: tuple[Any, ...] = (),
) -> Node:
    """Wrap a value, so that what is computed from it is traced.

    The `node` of Trace (arXiv 2406.16218 sec. 2).

    Args:
        data: Any Python value. A node that is not to be trained is returned as it is.
        name: Shown in traces; for a trainable node also its key (default: the value's type).
        trainable: Whether optimizers may change it; then a `Parameter` is returned.
        description: What the value is for.
        constraint: What new values must satisfy, in words.
        kind: See `Parameter`.
        choices: See `Parameter`.

    Returns:
        A `Node`, or a `Parameter` if `trainable`.
    """
    if trainable:
        if isinstance(data, Node):
            data = data.data
        key = name or type(data).__name__
        return Parameter(data, key, description, constraint, kind, choices=choices)
    if isinstance(data, Node):
        return data
    return Node(data, name, description)


@contextmanager
def using(candidate: Mapping[Any, Any]) -> Iterator[None]:
    """Run with the values of a candidate.

    Args:
        candidate: Parameter key, or the `Parameter` itself, -> value. Never changed. Parameters that it does
            not name keep their values, or those of the `using` around this one.

    Holds in this thread or task only, so many candidates can run side by side.
    """
    if not isinstance(candidate, Mapping):
        raise TypeError(f"using() takes a mapping from parameter key to value, got {candidate!r}.")
    token = _overrides.set(Overrides(candidate, _overrides.get()))
    try:
        yield
    finally:
        _overrides.reset(token)


@contextmanager
def no_trace() -> Iterator[None]:
    """Switch recording off in this thread or task; nests."""
    token = _tracing.set(False)
    try:
        yield
    finally:
        _tracing.reset(token)


def is_tracing() -> bool:
    """Whether calls are being recorded here."""
    return _tracing.get()


@contextmanager
def collect_reads() -> Iterator[dict[Node, None]]:
    """Collect the nodes whose value is read in the block, in order."""
    reads: dict[Node, None] = {}
    token = _reads.set(reads)
    try:
        yield reads
    finally:
        _reads.reset(token)


def unwrap(value: Any) -> Any:
    """The plain value of a node; anything else as it is. Counts as no read."""
    if not isinstance(value, Node):
        return value
    return value.read()._data if isinstance(value, Parameter) else value._data


def keyed(parameters: Any) -> dict[str, Parameter]:
    """Parameters by key; the same one twice counts once.

    Raises:
        ParameterError: If two different parameters have one key.
    """
    found: dict[str, Parameter] = {}
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise ParameterError(f"Expected a Parameter (node(..., trainable=True)), got {parameter!r}.")
        if found.setdefault(parameter.key, parameter) is not parameter:
            raise ParameterError(
                f"Two parameters have the key {parameter.key!r}; give each a name of its own: node(value, name=...)."
            )
    return found


def _restore_parameter(
    value: Any,
    key: str,
    description: str,
    constraint: str,
    kind: str,
    choices: Any,
    check: Any,
    trainable: bool,
) -> Parameter:
    parameter = Parameter(value, key, description, constraint, kind, choices=choices, trainable=trainable)
    parameter.check = check
    return parameter


def _declared(source: Node) -> Node:
    return source.parameter if isinstance(source, Value) else source


def _kind_of(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return "json"


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
