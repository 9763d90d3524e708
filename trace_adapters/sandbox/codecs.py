"""Rules that take a host's own objects into the sandbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trace_adapters.errors import SandboxError
from trace_adapters.sandbox.plain import UnsupportedValue, from_plain, to_plain

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


def write_value(value: Any) -> Any:
    """Write an argument as JSON.

    Raises:
        SandboxError: If its type is not supported.
    """
    try:
        return to_plain(value, _convert if _codecs else None)
    except UnsupportedValue as error:
        raise SandboxError(
            f"Expected values that can travel into the sandbox (text, numbers, bytes, dates, lists, tuples, sets, "
            f"dicts), got {error}. Pass plain data, or give the type a rule with register_codec(), or run your own "
            f'code with trust="in-process".'
        ) from error


def read_value(value: Any) -> Any:
    """Read a value that came from the sandbox.

    Raises:
        SandboxError: If it is no value of the protocol, or a codec refuses it.
    """
    try:
        return from_plain(value, _revive)
    except ValueError as error:
        raise SandboxError(f"The sandbox returned a value that cannot be read: {error}.") from error


def _convert(value: Any) -> tuple[str, Any] | None:
    for kind in type(value).__mro__:
        codec = _codecs.get(kind)
        if codec is not None:
            return codec[0], codec[1](value)
    return None


def _revive(name: str, value: Any) -> Any:
    for codec_name, _, revive in _codecs.values():
        if codec_name == name:
            return revive(value)
    raise ValueError(f"there is no codec {name!r}")
