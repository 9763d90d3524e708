"""Parameters, which are declared values that may be trained."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from trace_adapters.context import (
    OVERRIDES,
    READS,
    is_tracing as is_tracing,
    no_trace as no_trace,
    using as using,
)
from trace_adapters.errors import ParameterError
from trace_adapters.history import (
    Constant as Constant,
    FailedCall as FailedCall,
    NestedCall as NestedCall,
    Node as Node,
    Operation as Operation,
    unwrap as unwrap,
)

Candidate = Mapping[str, Any]
"""Parameter key -> value; never changed."""

KINDS = ("text", "code", "number", "choice", "json", "demos")


class Value(Node):
    """A parameter's value as one call read it."""

    __slots__ = ("parameter",)

    def __init__(self, data: Any, parameter: Parameter) -> None:
        super().__init__(data, parameter._name, parameter._description)
        self.parameter = parameter
        self._led = True

    @property
    def declared(self) -> Node:
        return self.parameter


class Parameter(Node):
    """A declared value that may be trained.

    Args:
        value: The value to start from.
        key: Stable across processes; also the name in traces.
        description: What the value is for, shown to optimizers.
        constraint: What new values must satisfy, in words: told to the model, not enforced; `check` enforces.
        kind: One of `KINDS`; guessed from the value if None.
        choices: The allowed values of a parameter of kind "choice".
        check: Called with a proposed value; raises `ParameterError` with the reason to reject it.
        trainable: Whether optimizers may change it.

    Raises:
        ParameterError: If the key is empty, the kind unknown, or the first value does not pass `check`.
    """

    __slots__ = ("_feedback", "_value", "check", "choices", "constraint", "key", "kind", "named", "trainable")

    asked_whole = False  # a small model is asked for all of a text that says this, not for sentences to put into it

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
        if not isinstance(choices, Iterable):
            raise ParameterError(f"The choices of the parameter {key!r} must be several values, got {choices!r}.")
        if check is not None and not callable(check):
            raise ParameterError(f"The check of the parameter {key!r} must be a function of a value, got {check!r}.")
        super().__init__(value, key, description or "")
        self._led = True
        self.key = key
        self.constraint = constraint or ""
        self.kind = kind or ("choice" if choices else _kind_of(value))
        self.choices = tuple(choices)
        self.check = check
        self.trainable = trainable
        self.named = True
        self._feedback: list[Any] = []
        if self.kind not in KINDS:
            raise ParameterError(f"The parameter {key!r} has kind {kind!r}; kinds are {', '.join(KINDS)}.")
        if check is not None:
            check(value)
        self._value = Value(value, self)

    @property
    def data(self) -> Any:
        """The value in force here: of the innermost `using`, else the parameter's own."""
        value = self.read()
        reads = READS.get()
        if reads is not None:
            reads[value] = None
        return value._data

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
        overrides = OVERRIDES.get()
        if overrides is None:
            return self._value
        found: Value | None = overrides.find(self)
        return self._value if found is None else found

    def holding(self, value: Any) -> Value:
        """A value of this parameter as one call may read it; the parameter is not changed."""
        return Value(value, self)

    def rename(self, key: str) -> None:
        """Give another key, also shown as the name."""
        self.key = self._name = key
        self.named = True
        self._value = Value(self._data, self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """A parameter of its own, with this one's value and no feedback."""
        value, *about = self._parts()
        return _restore_parameter(copy.deepcopy(value, memo), *about)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_parameter, self._parts()

    def _parts(self) -> tuple[Any, ...]:
        about = (self._data, self.key, self._name, self._description, self.constraint, self.kind)
        return (*about, self.choices, self.check, self.trainable, self.named)

    def receive(self, graph: Any) -> None:
        """Keep a trace graph as feedback."""
        self._feedback.append(graph)

    def zero_feedback(self) -> None:
        """Forget the feedback received so far."""
        self._feedback.clear()


def node(
    data: Any,
    name: str | None = None,
    trainable: bool = False,
    description: str | None = "",
    constraint: str | None = "",
    *,
    kind: str | None = None,
    choices: tuple[Any, ...] = (),
) -> Node:
    """Wrap a value, so that what is computed from it is traced.

    The `node` of Trace (arXiv 2406.16218 sec. 2).

    Args:
        data: Any Python value. A node that is not to be trained is returned as it is.
        name: Shown in traces; for a trainable node also its key. Default the value's type; a `Module` gives
            an unnamed parameter the path at which it finds it.
        trainable: Whether optimizers may change it; then a `Parameter` is returned.
        description: What the value is for.
        constraint: What new values must satisfy, in words: told to the model, not enforced.
        kind: See `Parameter`.
        choices: See `Parameter`.

    Returns:
        A `Node`, or a `Parameter` if `trainable`.
    """
    if not trainable:
        return data if isinstance(data, Node) else Node(data, name, description or "")
    if isinstance(data, Node):
        name, data = name or data._name, unwrap(data)
    made = Parameter(data, name or type(data).__name__, description or "", constraint or "", kind, choices=choices)
    made.named = name is not None
    return made


def keyed(parameters: Iterable[Any]) -> dict[str, Parameter]:
    """Parameters by key; the same one twice counts once. Those without a name of their own are numbered.

    Raises:
        ParameterError: If two different parameters were given one name.
    """
    found: dict[str, Parameter] = {}
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise ParameterError(f"Expected a Parameter (node(..., trainable=True)), got {parameter!r}.")
        if not parameter.named and found.get(parameter.key, parameter) is not parameter:
            stem, number = parameter.key, 2
            while f"{stem}_{number}" in found:
                number += 1
            parameter.rename(f"{stem}_{number}")
        if found.setdefault(parameter.key, parameter) is not parameter:
            raise ParameterError(
                f"Two parameters have the key {parameter.key!r}; give each a name of its own: node(value, name=...)."
            )
    return found


def check_values(parameters: Mapping[str, Parameter], candidate: Mapping[str, Any]) -> None:
    """Refuse a candidate with unknown keys or values that do not fit.

    Raises:
        ParameterError: Naming the key.
    """
    if not isinstance(candidate, Mapping):
        raise ParameterError(f"A candidate is a mapping from parameter key to value, got {candidate!r}.")
    unknown = [key for key in candidate if key not in parameters]
    if unknown:
        raise ParameterError(f"There is no parameter {', '.join(map(str, unknown))}; there are {sorted(parameters)}.")
    for key, value in candidate.items():
        check = parameters[key].check
        if check is not None:
            check(value)


def _restore_parameter(
    value: Any, key: str, name: str, description: str, constraint: str, kind: str, *rest: Any
) -> Parameter:
    choices, check, trainable, named = rest
    parameter = Parameter(value, key, description, constraint, kind, choices=choices, trainable=trainable)
    parameter.check, parameter.named, parameter._name = check, named, name
    parameter._value = Value(value, parameter)
    return parameter


def _kind_of(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return "json"
