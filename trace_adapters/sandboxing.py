"""Which sandbox learned code runs in here, with what held when it ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from trace_adapters.errors import SettingError

AUTO, STRICT, BWRAP, MONTY = SANDBOXES = ("auto", "strict", "bwrap", "monty")
IN_PROCESS = "in-process"

Note = Callable[[str, str], None]

_chosen: ContextVar[str] = ContextVar("trace_adapters_sandbox", default=AUTO)
_notes: ContextVar[tuple[Note, ...]] = ContextVar("trace_adapters_sandbox_notes", default=())


def require_sandbox(name: str | None) -> None:
    """Refuse a sandbox that does not exist.

    Raises:
        SettingError: Naming those that do.
    """
    if name is not None and name not in SANDBOXES:
        raise SettingError(f"sandbox is {', '.join(map(repr, SANDBOXES))} or None, got {name!r}.")


@contextmanager
def choosing_sandbox(name: str | None) -> Iterator[None]:
    """Run learned functions that choose no sandbox themselves in this one; None changes nothing.

    Holds in this thread or task only.
    """
    require_sandbox(name)
    token = _chosen.set(name or _chosen.get())
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen_sandbox() -> str:
    """The sandbox of functions that choose none."""
    return _chosen.get()


@contextmanager
def noting_levels(note: Note) -> Iterator[None]:
    """Tell `note` (function, level) at each call of a learned source: "in-process", or what confined it."""
    token = _notes.set((*_notes.get(), note))
    try:
        yield
    finally:
        _notes.reset(token)


def note_level(function: str, level: str | None) -> None:
    """Say at what level a learned source ran; None if it did not."""
    if level is not None:
        for note in _notes.get():
            note(function, level)
