"""Rules that take a host's own objects into the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trace_adapters.errors import SandboxError
from trace_adapters.sandbox.plain import HANDLE, TRAVELS, Handle, UnsupportedValue, from_plain, to_plain

_Codec = tuple[str, Callable[[Any], Any], Callable[[Any], Any]]
_codecs: dict[type, _Codec] = {}


def register_codec(
    kind: type, to_plain: Callable[[Any], Any], from_plain: Callable[[Any], Any], *, name: str | None = None
) -> None:
    """Let objects of `kind` (or a subclass) travel into the sandbox and back.

    Code in the sandbox sees a dict that `to_plain` gives, with its keys as attributes too; other plain values as
    they are.

    Args:
        kind: The class. Registering it again replaces the rule.
        to_plain: Gives a plain value: text, numbers, lists, dicts…
        from_plain: Makes an object of what the sandbox returns. The value is not to be trusted: check it.
        name: How the protocol calls it; by default the class's qualified name.
    """
    _codecs[kind] = (name or f"{kind.__module__}.{kind.__qualname__}", to_plain, from_plain)


def write_value(value: Any, lent: list[Any]) -> Any:
    """Write an argument as JSON. Objects that cannot travel are put into `lent`, and travel as handles.

    Raises:
        SandboxError: If it is cyclic or nested too deeply.
    """

    def convert(item: Any) -> tuple[str, Any] | Handle | None:
        for kind in type(item).__mro__:
            codec = _codecs.get(kind)
            if codec is not None:
                return codec[0], codec[1](item)
        if isinstance(item, TRAVELS):
            return None
        lent.append(item)
        return Handle(len(lent) - 1, type(item).__name__)

    try:
        return to_plain(value, convert)
    except UnsupportedValue as error:
        raise SandboxError(f"Expected values that can travel into the sandbox, got {error}.") from error


def read_value(value: Any, lent: list[Any]) -> Any:
    """Read a value that came from the sandbox.

    Args:
        value: What `write_value` writes.
        lent: What handles stand for.

    Raises:
        SandboxError: If it is no value of the protocol, or a codec refuses it.
    """

    def revive(name: str, content: Any) -> Any:
        if name == HANDLE:
            if type(content) is int and 0 <= content < len(lent):
                return lent[content]
            raise ValueError("a handle stands for nothing in this call")
        for codec_name, _, make in _codecs.values():
            if codec_name == name:
                return make(content)
        raise ValueError(f"there is no codec {name!r}")

    try:
        return from_plain(value, revive)
    except ValueError as error:
        raise SandboxError(f"The sandbox returned a value that cannot be read: {error}.") from error
