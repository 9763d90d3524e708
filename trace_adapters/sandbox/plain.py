"""Python values as JSON that keeps more than JSON does: both ends of the sandbox read it."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any

TAG = "$"  # a JSON object with this key stands for something that JSON lacks
HEADER = struct.Struct(">I")  # the length of the JSON that follows, in bytes

_LONG_INT_BITS = 4096  # decimal text of longer integers is refused by Python
_encode = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode

HANDLE = "handle"
ToPlain = Callable[[Any], "tuple[str, Any] | Handle | None"]
FromPlain = Callable[[str, Any], Any]


class UnsupportedValue(TypeError):
    """A value that no rule turns into JSON."""


class Record(dict[str, Any]):
    """An object of the host as the sandbox sees it: its plain fields, as items and as attributes."""

    _codec = ""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in self:  # a field called `items` comes before the method
            return self[name]
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        fields = ", ".join(map(repr, self)) or "none"
        raise AttributeError(f"no field {name!r}; its fields are {fields}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value


class Handle:
    """An object of the host that stays there: the sandbox may pass it to functions of the host, or return it.

    Args:
        number: Its place in the list of what this call has lent out.
        kind: The name of its class.
    """

    def __init__(self, number: int, kind: str) -> None:
        self._number = number
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"a {self._kind} stays in the program: pass it to a function that uses= declares, or return it", name=name
        )

    def __repr__(self) -> str:
        return f"<{self._kind} of the program>"


def pack(message: dict[str, Any]) -> bytes:
    """One message with its length before it."""
    data = _encode(message).encode("ascii")
    return HEADER.pack(len(data)) + data


def unpack(data: bytes | bytearray) -> dict[str, Any]:
    """Read one message without its length.

    Raises:
        ValueError: If it is no JSON object.
    """
    try:
        message = _decode(data.decode("ascii"))
    except RecursionError as error:
        raise ValueError("a message is nested too deeply") from error
    if not isinstance(message, dict):
        raise ValueError(f"a message must be a JSON object, got {type(message).__name__}")
    return message


def to_plain(value: Any, convert: ToPlain | None = None) -> Any:
    """Write a value as JSON.

    Args:
        value: None, bool, numbers, text, bytes, dates, patterns, and lists, tuples, sets and dicts of them.
        convert: Gives (codec name, simpler value) for objects it knows, a handle for those that stay, else None.

    Raises:
        UnsupportedValue: If a value is of another type, cyclic or nested too deeply.
    """
    try:
        return _to_plain(value, convert)
    except RecursionError as error:
        raise UnsupportedValue("a value that is cyclic or nested too deeply") from error


def from_plain(value: Any, revive: FromPlain | None = None) -> Any:
    """Read what `to_plain` wrote.

    Args:
        value: The JSON.
        revive: Makes an object of a codec's name and simpler value, or of `HANDLE` and a number. Without it, a
            `Record` or the simpler value, or a `Handle`.

    Raises:
        ValueError: If it is not what `to_plain` writes.
    """
    try:
        return _from_plain(value, revive)
    except (RecursionError, TypeError, KeyError, ArithmeticError) as error:
        raise ValueError(f"not a value of the sandbox protocol: {error!r}") from error


def _to_plain(value: Any, convert: ToPlain | None) -> Any:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return value if value.bit_length() < _LONG_INT_BITS else {TAG: "int", "v": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}
    if kind is list:
        return [_to_plain(item, convert) for item in value]
    if kind is dict:
        return _dict_to_plain(value, convert)
    return _other_to_plain(value, convert)


def _dict_to_plain(value: dict[Any, Any], convert: ToPlain | None) -> Any:
    if all(type(key) is str for key in value) and TAG not in value:
        return {key: _to_plain(item, convert) for key, item in value.items()}
    return {TAG: "dict", "v": [[_to_plain(k, convert), _to_plain(v, convert)] for k, v in value.items()]}


def _other_to_plain(value: Any, convert: ToPlain | None) -> Any:
    if isinstance(value, Record):
        return {TAG: "object", "codec": value._codec, "v": _dict_to_plain(dict(value), convert)}
    converted = value if isinstance(value, Handle) else convert(value) if convert is not None else None
    if isinstance(converted, Handle):
        return {TAG: HANDLE, "v": converted._number, "kind": converted._kind}
    if converted is not None:
        return {TAG: "object", "codec": converted[0], "v": _to_plain(converted[1], convert)}
    for base, write in _WRITERS:
        if isinstance(value, base):
            return write(value, convert)
    raise UnsupportedValue(f"a value of type {type(value).__module__}.{type(value).__qualname__}")


def _many(name: str) -> Callable[[Any, ToPlain | None], Any]:
    return lambda value, convert: {TAG: name, "v": [_to_plain(item, convert) for item in value]}


def _text(name: str, write: Callable[[Any], str]) -> Callable[[Any, ToPlain | None], Any]:
    return lambda value, _convert: {TAG: name, "v": write(value)}


# Subclasses travel as their base: an IntEnum as int, a Counter as dict, a named tuple as tuple.
_WRITERS: tuple[tuple[type, Callable[[Any, ToPlain | None], Any]], ...] = (
    (tuple, _many("tuple")),
    (frozenset, _many("frozenset")),
    (set, _many("set")),
    (bytes, _text("bytes", bytes.hex)),
    (bytearray, _text("bytearray", bytearray.hex)),
    (datetime.datetime, _text("datetime", datetime.datetime.isoformat)),
    (datetime.date, _text("date", datetime.date.isoformat)),
    (datetime.time, _text("time", datetime.time.isoformat)),
    (datetime.timedelta, lambda v, _: {TAG: "timedelta", "v": [v.days, v.seconds, v.microseconds]}),
    (decimal.Decimal, _text("decimal", str)),
    (complex, lambda v, _: {TAG: "complex", "v": [repr(v.real), repr(v.imag)]}),
    (re.Pattern, lambda v, convert: {TAG: "pattern", "v": _to_plain(v.pattern, convert), "flags": v.flags}),
    (str, lambda v, _: str.__str__(v)),
    (int, lambda v, convert: _to_plain(int(v), convert)),
    (float, lambda v, convert: _to_plain(float(v), convert)),
    (list, lambda v, convert: [_to_plain(item, convert) for item in v]),
    (dict, lambda v, convert: _dict_to_plain(dict(v), convert)),
)


TRAVELS = tuple(base for base, _ in _WRITERS)


def _from_plain(value: Any, revive: FromPlain | None) -> Any:
    kind = type(value)
    if kind is list:
        return [_from_plain(item, revive) for item in value]
    if kind is not dict:
        return value
    if TAG not in value:
        return {key: _from_plain(item, revive) for key, item in value.items()}
    content = value["v"]
    name = value[TAG]
    if name == "object":
        return _object_from_plain(value["codec"], _from_plain(content, revive), revive)
    if name == HANDLE:
        return revive(HANDLE, content) if revive is not None else Handle(content, value["kind"])
    if name == "dict":
        return {_from_plain(k, revive): _from_plain(v, revive) for k, v in content}
    if name in _COLLECTIONS:
        return _COLLECTIONS[name](_from_plain(item, revive) for item in content)
    if name == "pattern" and revive is None:  # the host compiles no pattern that comes from a sandbox
        return re.compile(_from_plain(content, revive), value["flags"])
    return _READERS[name](content)


def _object_from_plain(codec: str, content: Any, revive: FromPlain | None) -> Any:
    if revive is not None:
        return revive(codec, content)
    if type(content) is not dict:
        return content
    record = Record(content)
    record._codec = codec
    return record


_COLLECTIONS: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda v: int(v, 16),
    "float": float,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda v: datetime.timedelta(*v),
    "decimal": decimal.Decimal,
    "complex": lambda v: complex(float(v[0]), float(v[1])),
}
