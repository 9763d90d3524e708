"""What went wrong in the sandbox, as exceptions of the host."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Mapping
from typing import Any

from trace_adapters.errors import SandboxError, SandboxTimeout
from trace_adapters.sandbox.plain import from_plain

# In the host these would steer generators and tasks instead of telling what happened.
_NEVER_RAISED = (StopIteration, StopAsyncIteration)


def read_failure(described: Mapping[str, Any], host_error: BaseException | None, timeout_s: float) -> BaseException:
    """Make the exception that a worker describes: of the same type if it is a builtin one.

    What the host itself raised in a callback stays the object it was. Types that are not builtin become a
    `SandboxError` of their name, which is also their nearest builtin type. The place in the source is
    `.trace_adapters_place` (line, text), the end of what was printed `.trace_adapters_stdout`.
    """
    place = described.get("place")
    stdout = str(described.get("stdout", ""))
    error: BaseException
    if host_error is not None:
        error = host_error
    elif described.get("is_time_up"):
        where = f" It was in line {place[0]}: {str(place[1]).strip()}" if place else ""
        error = SandboxTimeout(f"The code ran longer than {timeout_s:g} s and was stopped.{where}")
    else:
        error = _make(described)
    return with_place(error, (int(place[0]), str(place[1])) if place else None, stdout)


def with_place(error: BaseException, place: tuple[int, str] | None, stdout: str) -> BaseException:
    """Note on an exception where in the source it was raised."""
    error.trace_adapters_place = place  # type: ignore[attr-defined]
    error.trace_adapters_stdout = stdout  # type: ignore[attr-defined]
    if place is not None:
        error.add_note(f"In the sandbox, line {place[0]}: {place[1].strip()}")
    return error


def _make(described: Mapping[str, Any]) -> BaseException:
    name, message = str(described["type"]), str(described.get("message", ""))
    kind = getattr(builtins, name, None) if described.get("is_builtin") else None
    if not _may_be_raised(kind):
        bases = [base for base in map(_builtin, described.get("bases", ())) if _may_be_raised(base)]
        return _error_type(name, bases[0] if bases else Exception)(f"{name}: {message}" if message else name)
    assert isinstance(kind, type)
    try:
        args = from_plain(described["args"]) if described.get("args") is not None else [message]
        error: BaseException = kind(*args)
    except Exception:  # the type wants other arguments
        return _error_type(name, Exception)(f"{name}: {message}")
    return error


def _may_be_raised(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _NEVER_RAISED)


def _builtin(name: Any) -> Any:
    return getattr(builtins, str(name), None)


@functools.lru_cache(maxsize=256)
def _error_type(name: str, base: type[Exception]) -> type[SandboxError]:
    """A `SandboxError` called `name` that `except base` catches too."""
    namespace = {"__doc__": f"{name} of code in the sandbox.", "__module__": __name__, "__init__": _plain_init}
    try:
        return type(name, (SandboxError, base), namespace)
    except TypeError:  # layouts that cannot be joined, or a base of SandboxError
        return type(name, (SandboxError,), namespace)


def _plain_init(self: SandboxError, message: str) -> None:
    Exception.__init__(self, message)
