"""The parameters of an object: found, copied, saved and loaded."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trace_adapters import saving
from trace_adapters.bundles import Bundle
from trace_adapters.errors import explain_nodes
from trace_adapters.nodes import Parameter, check_values

C = TypeVar("C", bound=type)
S = TypeVar("S", bound="Module")


class Module:
    """An object whose attributes, their containers and its bundled methods are searched for parameters.

    Subclasses define `forward(...)`; calling the object calls it.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forward = getattr(self, "forward", None)
        if forward is None:
            raise TypeError(f"{type(self).__name__} has no forward(); define it to call the module.")
        try:
            return forward(*args, **kwargs)
        except Exception as error:
            explain_nodes(error)
            raise

    def parameters(self) -> list[Parameter]:
        """The parameters, each once, in the order of the attributes."""
        return list(self.parameters_dict().values())

    def parameters_dict(self) -> dict[str, Parameter]:
        """Key -> parameter.

        Parameters that were given no name, and those that share one, get their paths in this object as keys.
        """
        found = list(_walk(self))
        shared = Counter(parameter.key for _, parameter in found)
        for path, parameter in found:
            if not parameter.named or shared[parameter.key] > 1:
                parameter.rename(path)
        return {parameter.key: parameter for _, parameter in found}

    def values(self) -> dict[str, Any]:
        """The candidate that this object holds now: key -> value."""
        return {key: parameter.data for key, parameter in self.parameters_dict().items()}

    def set_values(self, candidate: Mapping[str, Any]) -> None:
        """Set values by key, all or none.

        Raises:
            ParameterError: If a key is unknown or a value does not fit; then nothing is changed.
        """
        known = self.parameters_dict()
        check_values(known, candidate)
        for key, value in candidate.items():
            known[key].data = value

    def copy(self: S) -> S:
        """A copy with parameters of its own."""
        return copy.deepcopy(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the values as JSON; sources as text, never pickles. The file is replaced as a whole.

        Raises:
            DataError: If a value is no JSON, or the file cannot be written.
        """
        saving.write_values(Path(path), self.values())

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the program as a readable Python file with the values that it has now.

        The file holds this class with what it needs of its module: learned functions stand in place of the
        original ones, texts and numbers in place of those that `node(...)` was given. Parameters that no
        literal of the class made are set at its end. The file runs learned code in the process that imports
        it; read it first.

        Raises:
            DataError: If the class is not at the top level of a module whose source can be read, or the file
                cannot be written.
        """
        from trace_adapters.exporting import export_module  # reads and parses sources, which few programs need

        export_module(type(self), self.parameters_dict(), Path(path))

    def load(self, path: str | os.PathLike[str], *, allow_code: bool = False) -> None:
        """Read what `save` wrote.

        Args:
            path: The file.
            allow_code: Accept sources that differ from this object's own functions. Read them first.

        Raises:
            DataError: If the file is none of ours.
            UntrustedCode: If it holds other sources and `allow_code` is False; nothing is changed.
        """
        values = saving.read_values(Path(path))
        known = self.parameters_dict()
        saving.refuse_code(Path(path), values, known, allow_code=allow_code)
        self.set_values(values)


def model(cls: C) -> C:
    """Make a class a `Module` and keep its name and methods.

    The `@model` of Trace.
    """
    if not isinstance(cls, type):
        raise TypeError(f"model() decorates a class, got {cls!r}.")
    if issubclass(cls, Module):
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    # a subclass, so that super() works in the methods of cls
    return type(cls.__name__, (cls, Module), names)  # type: ignore[return-value]


def _walk(root: Any) -> Iterator[tuple[str, Parameter]]:
    """(path, parameter) of everything an object holds, each parameter once."""
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        path, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Parameter):
            yield path, value
        elif isinstance(value, Bundle):
            stack += [(path, parameter) for parameter in value.parameters()]
        else:
            stack += reversed([(f"{path}.{name}".lstrip("."), child) for name, child in _children(value)])


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Module):
        own = [(n, v) for n, v in vars(value).items() if not n.startswith("_trace_adapters")]
        names = dict.fromkeys(n for c in reversed(type(value).__mro__) for n, v in vars(c).items() if _is_method(v))
        return own + [(name, getattr(value, name)) for name in names if name not in vars(value)]
    if isinstance(value, dict):
        return [(str(key), child) for key, child in value.items()]
    if isinstance(value, (list, tuple)):
        return [(str(number), child) for number, child in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    return []


def _is_method(value: Any) -> bool:
    return isinstance(value, Bundle)
