"""LangChain runnables that learn from their traces: the face of the adapter."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trace_adapters_langchain.flows import is_control as is_control
    from trace_adapters_langchain.tapes import Tape as Tape, record as record
    from trace_adapters_langchain.traced import Traced as Traced, trace as trace

_HOMES = {
    "Tape": "trace_adapters_langchain.tapes",
    "Traced": "trace_adapters_langchain.traced",
    "is_control": "trace_adapters_langchain.flows",
    "record": "trace_adapters_langchain.tapes",
    "trace": "trace_adapters_langchain.traced",
}
__all__ = [*_HOMES]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:  # LangChain takes a second or so to load
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
