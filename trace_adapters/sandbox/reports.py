"""Exceptions as the two halves of the protocol tell them, on the worker's side."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from trace_adapters.sandbox.plain import pack, to_plain

_MESSAGE_CHARS = 4_000


def describe_error(error: BaseException, filename: str, lines: Sequence[str]) -> dict[str, Any]:
    """Say what was raised, and at which line of the source that was compiled as `filename`."""
    kind = type(error)
    return {
        "type": kind.__name__,
        "bases": [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"],
        "is_builtin": kind.__module__ == "builtins",
        "message": _message(error),
        "args": _plain_args(error),
        "place": _place(error, filename, lines),
        "host_error": getattr(error, "_host_error", None),
    }


def revive_host_error(described: Mapping[str, Any]) -> Exception:
    """Make an exception of the host's to be raised in the code; its number leads back to the host's own object."""
    kind = getattr(builtins, described["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    try:
        error = kind(described["message"])
    except TypeError:
        error = RuntimeError(described["message"])
    error._host_error = described["number"]  # type: ignore[attr-defined]
    return error


def _place(error: BaseException, filename: str, lines: Sequence[str]) -> list[Any] | None:
    line = None
    if isinstance(error, SyntaxError) and error.filename == filename:
        line = error.lineno
    current = error.__traceback__
    while current is not None:
        if current.tb_frame.f_code.co_filename == filename:
            line = current.tb_lineno
        current = current.tb_next
    if line is None or not 1 <= line <= len(lines):
        return None
    return [line, lines[line - 1]]


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as another:
        text = f"<its text cannot be made: {type(another).__name__}>"
    name = getattr(error, "name", None)
    if type(error) is NameError and isinstance(name, str):
        text += f"; the sandbox does not know {name!r}: define it in the source, or declare it with uses="
    if isinstance(error, ModuleNotFoundError):
        text += "; the sandbox has only the standard library"
    return text[:_MESSAGE_CHARS]


def _plain_args(error: BaseException) -> Any:
    if type(error) is NameError or isinstance(error, ModuleNotFoundError):
        return [_message(error)]
    try:
        args = to_plain(list(error.args))
        return args if len(pack({"args": args})) <= 4 * _MESSAGE_CHARS else None
    except BaseException:
        return None
