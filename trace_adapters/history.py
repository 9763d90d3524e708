"""Values with their history."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trace_adapters.context import READS
from trace_adapters.errors import ExecutionError
from trace_adapters.lines import annotate
from trace_adapters.showing import repr_of, str_of


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """What was called: shared by all calls of one bundle.

    Attributes:
        name: Words joined by dots or underscores, shown in traces.
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

    __slots__ = (
        "__weakref__", "_argument_names", "_data", "_description", "_led", "_name", "_newer", "_operation", "_sources",
    )  # fmt: skip

    failed = False
    __array_ufunc__ = None  # arrays leave `array + node` to the node

    if TYPE_CHECKING:  # what `operators` gives every node
        backward: Callable[..., Any]
        clone: Callable[[], Node]
        call: Callable[..., Node]
        contains: Callable[[Any], Node]
        eq: Callable[[Any], Node]
        getattr: Callable[[Any], Node]
        len: Callable[[], Node]
        neq: Callable[[Any], Node]

        def __getattr__(self, name: str) -> Any: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Node: ...
        def __iter__(self) -> Iterator[Any]: ...
        def __getitem__(self, key: Any) -> Node: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def __delitem__(self, key: Any) -> None: ...
        def __contains__(self, item: Any) -> bool: ...
        def __len__(self) -> int: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __index__(self) -> int: ...
        def __neg__(self) -> Node: ...
        def __pos__(self) -> Node: ...
        def __invert__(self) -> Node: ...
        def __abs__(self) -> Node: ...
        def __round__(self, digits: Any = None) -> Node: ...
        def __add__(self, other: Any) -> Node: ...

        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __add__
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __matmul__ = __rmatmul__ = __add__
        __pow__ = __rpow__ = __divmod__ = __rdivmod__ = __and__ = __rand__ = __or__ = __ror__ = __add__
        __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __add__
        __lt__ = __le__ = __gt__ = __ge__ = __add__

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
        self._newer: Node | None = None  # the node as a later change in place left it
        self._led = False  # whether a parameter's value went in, near or far
        for source in sources:
            if source._led:
                self._led = True
                break

    @property
    def data(self) -> Any:
        """The plain value. Reading it inside a bundle makes this node an input of that call."""
        node = self if self._newer is None else self.read()
        reads = READS.get()
        if reads is not None:
            reads[node] = None
        return node._data

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
        return [source.declared for source in self._sources]

    @property
    def inputs(self) -> dict[str, Node]:
        """Argument name -> node."""
        return {name: s.declared for name, s in zip(self._argument_names, self._sources, strict=True)}

    @property
    def recorded_inputs(self) -> dict[str, Node]:
        """Argument name -> node that holds the value as it was then, also for parameters."""
        return {name: _as_it_was(s) for name, s in zip(self._argument_names, self._sources, strict=True)}

    @property
    def sources(self) -> tuple[Node, ...]:
        """The nodes that went in, parameters as the `Value` that was read."""
        return self._sources

    @property
    def declared(self) -> Node:
        """The node that the program knows: the parameter of a parameter's value, else this one."""
        return self

    @property
    def inside(self) -> Node | None:
        """What a call of a bundle with `traceable_code=True` returned, with the graph of what it did."""
        return None

    @property
    def is_root(self) -> bool:
        """Whether nothing went in."""
        return not self._sources

    def read(self) -> Node:
        """The node that holds the value in force here: this one, unless it was changed in place."""
        node = self
        while node._newer is not None:
            node = node._newer
        return node

    def detach(self) -> Node:
        """The value as a new node without history."""
        return Node(copy.deepcopy(unwrap(self)), self.name, self._description)

    def __repr__(self) -> str:
        shown = "Node" if type(self) is Constant else type(self).__name__
        return f"<{shown} {self.name}={_short(self.read()._data)}>"

    def __format__(self, spec: str) -> str:
        raise TypeError(
            f"The node {self.name!r} was put into a string; the text would show the node, and the trace would be cut. "
            "Use `ta.format(template, name=node)` to keep the trace, `.data` for the value alone, or build the text "
            "inside a bundle."
        )

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return self is other or _equal(self.data, other.data if isinstance(other, Node) else other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self.data)


class Constant(Node):
    """A value with neither name nor history: a plain argument, or what a call gave that was not recorded."""

    __slots__ = ()

    # On the class, so that making one is as cheap as can be.
    _name = None
    _description = ""
    _operation = None
    _argument_names = ()
    _sources = ()
    _led = False

    def __init__(self, data: Any) -> None:
        self._data = data
        self._newer = None


class FailedCall(Node):
    """A call that raised; its value is the exception.

    Attributes:
        place: (line number, line) in the failing function's source, or None.
        source_text: The failing function's source, if it could be read.
    """

    __slots__ = ("place", "source_text")

    failed = True

    def __init__(
        self,
        data: BaseException,
        *args: Any,
        place: tuple[int, str] | None = None,
        source_text: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data, *args, **kwargs)
        self.place = place
        self.source_text = source_text

    def as_error(self) -> ExecutionError:
        """The error to be raised from the recorded exception."""
        where = f", line {self.place[0]}: {self.place[1].strip()}" if self.place else ""
        return ExecutionError(f"{self.name} failed: {_error_text(self._data)}{where}", node=self)

    def create_feedback(self, style: str = "simple") -> str:
        """The failure as feedback: "simple" is the error, "full" the source with the error beside its line."""
        if style not in ("simple", "full"):
            raise ValueError(f"style is 'simple' or 'full', got {style!r}.")
        message = _error_text(self._data)
        if style == "simple" or self.place is None or self.source_text is None:
            return message
        source = annotate(self.source_text.removesuffix("\n"), self.place, message)
        return f"{source}\n{message}"


class NestedCall(Node):
    """A call whose inside was recorded too."""

    __slots__ = ("_inside",)

    _inside: Node | None

    @property
    def inside(self) -> Node | None:
        return self._inside

    @classmethod
    def around(cls, inside: Node, *args: Any) -> NestedCall:
        made = cls(*args)
        made._inside = inside
        return made


def unwrap(value: Any) -> Any:
    """The plain value of a node; anything else as it is. Counts as no read."""
    return value.read()._data if isinstance(value, Node) else value


def _as_it_was(source: Node) -> Node:
    if source._newer is None:
        return source
    about = (source._data, source._name, source._description)
    return Node(*about, source._operation, source._argument_names, source._sources)


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ValueError:  # arrays compare by element, or cannot be compared
        if getattr(one, "shape", None) != getattr(other, "shape", None):
            return False
    return bool((one == other).all())


def _error_text(error: BaseException) -> str:
    name = getattr(error, "type_name", type(error).__name__)
    message = str_of(error)
    return f"{name}: {message}" if message else name


def _short(value: Any, limit: int = 80) -> str:
    text = repr_of(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
