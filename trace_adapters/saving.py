"""Values of parameters in JSON files; sources as text, never pickles."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trace_adapters.errors import DataError, UntrustedCode
from trace_adapters.nodes import Parameter

FORMAT = "trace-adapters module"
VERSION = 1


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write key -> value; the file is replaced as a whole.

    Raises:
        DataError: If a value is no JSON, or the file cannot be written.
    """
    data = {"format": FORMAT, "version": VERSION, "values": dict(values)}
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"A parameter's value is no JSON and cannot be saved: {error}") from error
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all; folders above it are made.

    Raises:
        DataError: Naming the path and the reason.
    """
    if not path.name:
        raise DataError(f"Expected a file to write, got {str(path)!r}, which has no file name.")
    writer = f"{os.getpid()}-{threading.get_ident()}"  # others may write the same file now
    partial = path.with_name(f"{path.name}.{writer}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except (OSError, ValueError) as error:  # ValueError: the text is no UTF-8, or the path no path
        raise DataError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            partial.unlink()  # only what was not finished is still there


def read_values(path: Path) -> dict[str, Any]:
    """Read what `write_values` wrote.

    Raises:
        DataError: If the file is none of ours.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is no JSON file: {error}.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("values"), dict):
        raise DataError(f"{path} was not written by Module.save.")
    if data.get("version") != VERSION:
        raise DataError(f"{path} has version {data.get('version')!r}; this trace-adapters reads {VERSION}.")
    return dict(data["values"])


def refuse_code(path: Path, values: Mapping[str, Any], known: Mapping[str, Parameter], *, allow_code: bool) -> None:
    """Refuse sources that differ from a program's own functions, unless somebody allowed them.

    Raises:
        UntrustedCode: Naming the keys.
    """
    changed = [k for k, v in values.items() if k in known and known[k].kind == "code" and known[k].data != v]
    if changed and not allow_code:
        raise UntrustedCode(
            f'{path} holds learned code for {", ".join(changed)}. Read it there under "values"; '
            "then load(path, allow_code=True)."
        )
