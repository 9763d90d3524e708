"""The forms in which values travel into a store: JSON text, keys, packed blobs."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

from trace_adapters.errors import ParameterError, StoreError
from trace_adapters.showing import repr_of

_ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]+")
_ODD_FLOAT = "$float"
_ODD_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_PACK_FROM = 200
_LONGEST_INT_BITS = 4096  # Python refuses to write the digits of much longer ones
_REPR_LIMIT = 100_000


def candidate_key(values: Mapping[str, Any]) -> str:
    """Name a candidate by its content: sha256 of its canonical JSON.

    Raises:
        ParameterError: If a value is not JSON. It would not survive a restart.
    """
    if not isinstance(values, Mapping):
        raise ParameterError(f"expected a candidate, a mapping from parameter key to value, got {values!r}")
    for key, value in values.items():
        _require_json(key, value)
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return digest(text.encode("utf-8", "surrogatepass"))


def digest(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def is_json(value: Any) -> bool:
    """Whether JSON gives `value` back as it was, but for tuples, which become lists."""
    try:
        return _is_json(value)
    except RecursionError:
        return False


def dumps(value: Any) -> str:
    """Write anything as JSON text; what JSON has no word for becomes its `stable_repr`.

    NaN and the infinities are written as `{"$float": "nan"}`, because databases refuse them bare.
    """
    return json.dumps(_plain(value), sort_keys=False, separators=(",", ":"))


def loads(text: str) -> Any:
    """Read what `dumps` wrote."""
    return json.loads(text, object_hook=_read_odd_float)


def stable_repr(value: Any) -> str:
    """`repr` without memory addresses, cut at 100 000 characters; never raises."""
    return _ADDRESS.sub("0x…", repr_of(value)[:_REPR_LIMIT])


def pack(data: bytes) -> tuple[str, bytes]:
    """Compress `data` where that pays; returns the codec's name and the packed bytes."""
    if len(data) < _PACK_FROM:
        return "raw", data
    packed = zlib.compress(data, 1)
    return ("zlib", packed) if len(packed) < len(data) else ("raw", data)


def unpack(codec: str, data: bytes) -> bytes:
    """The inverse of `pack`."""
    return zlib.decompress(data) if codec == "zlib" else bytes(data)


def split_score(score: float | None) -> tuple[float | None, str | None]:
    """A score as a finite number or None, beside the name of what is not finite.

    Databases sort NaN and the infinities each in their own way, so they never see them.
    """
    if score is None:
        return None, None
    number = float(score)
    return (number, None) if math.isfinite(number) else (None, str(number))


def join_score(number: float | None, odd: str | None) -> float | None:
    """The inverse of `split_score`."""
    if odd is not None:
        return _ODD_FLOATS[odd]
    return None if number is None else float(number)


def require_name(what: str, text: str, limit: int) -> str:
    """Check a text that names a row: 1 to `limit` characters that every database can compare.

    Raises:
        StoreError: If it is not.
    """
    if not isinstance(text, str) or not 1 <= len(text) <= limit or not _is_encodable(text):
        raise StoreError(f"expected {what} of 1 to {limit} characters of text, got {stable_repr(text)[:300]}")
    return text


def _is_encodable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _require_json(key: str, value: Any) -> None:
    if not isinstance(key, str):
        raise ParameterError(f"expected parameter keys that are strings, got {key!r}; name the parameter")
    if not is_json(value) or not _is_finite(value):
        raise ParameterError(
            f"expected a JSON value for parameter {key!r} (text, finite number, true, false, null, list, "
            f"mapping with text keys), got {stable_repr(value)[:200]}; give a value that JSON can keep"
        )


def _is_json(value: Any) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= _LONGEST_INT_BITS
    if value is None or isinstance(value, str | float):
        return True
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return isinstance(value, dict) and all(isinstance(k, str) and _is_json(v) for k, v in value.items())


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, dict) or all(map(_is_finite, value.values()))


def _plain(value: Any, depth: int = 100) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_ODD_FLOAT: str(float(value))}
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT_BITS:
        return hex(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return _plain(float(value))
    if depth == 0:
        return stable_repr(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, Set):
        return sorted((_plain(item, depth - 1) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item, depth - 1) for item in value]
    return stable_repr(value)


def _read_odd_float(mapping: dict[str, Any]) -> Any:
    if len(mapping) == 1 and _ODD_FLOAT in mapping:
        return _ODD_FLOATS.get(mapping[_ODD_FLOAT], mapping)
    return mapping
