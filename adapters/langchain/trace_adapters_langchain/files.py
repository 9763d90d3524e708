"""Learned values as files: saved with what they were learned from, loaded with consent, compared."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trace_adapters import DataError, ParameterError
from trace_adapters.extend import differences, write_text

logger = logging.getLogger(__name__)

FORMAT = "trace-adapters chain"
VERSION = 1


def write_values(path: str | os.PathLike[str], values: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Write values, each with the hash of the one that the chain itself has.

    Raises:
        DataError: If the file cannot be written, or a value is no JSON.
    """
    entries = {key: {"value": value, "learned_from": fingerprint(own[key])} for key, value in values.items()}
    try:
        text = json.dumps({"format": FORMAT, "version": VERSION, "values": entries}, indent=2, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"A parameter's value is no JSON and cannot be saved: {error}") from error
    write_text(Path(path), text + "\n")


def read_values(path: str | os.PathLike[str], own: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `write_values` wrote; say what does not belong to the chain any more.

    A warning names the parameters that the chain does not have, those that the file does not have, and those whose own
    value is not the one from which the saved one was learned.

    Raises:
        DataError: If the file is none of ours.
        ParameterError: If no parameter of the chain is in it.
    """
    entries = _read_entries(path)
    values = {key: entry["value"] for key, entry in entries.items() if key in own}
    if entries and not values:
        raise ParameterError(
            f"{str(path)!r} has no parameter of this chain: it has {', '.join(entries)}; there are {', '.join(own)}."
        )
    changed = [key for key in values if entries[key].get("learned_from") != fingerprint(own[key])]
    said = {
        "unknown here, left out": [key for key in entries if key not in own],
        "not in the file, kept as they are": [key for key in own if key not in entries],
        "learned from another value than the chain has now": changed,
    }
    told = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in said.items() if keys)
    if told:
        logger.warning("Loaded %s; %s.", path, told)
    return values


def fingerprint(value: Any) -> str:
    """A hash of a value, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """A unified diff of each value that differs; "" if none does."""
    changed = differences(old, new, "before", "after")
    return "\n\n".join(f"{key}\n{text}" for key, text in changed.items())


def _read_entries(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"{str(path)!r} is no JSON file: {error}") from error
    entries = data.get("values") if isinstance(data, dict) and data.get("format") == FORMAT else None
    if not isinstance(entries, dict) or not all(isinstance(e, dict) and "value" in e for e in entries.values()):
        raise DataError(f"{str(path)!r} was not written by `traced.save`: expected the format {FORMAT!r}.")
    if data.get("version") != VERSION:
        raise DataError(f"{str(path)!r} has version {data.get('version')!r}; this version reads {VERSION}.")
    return entries
