"""LangChain runnables that learn from their traces: the face of the adapter."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trace_adapters_langchain.agents import middleware as middleware
    from trace_adapters_langchain.estimating import estimate as estimate
    from trace_adapters_langchain.flows import is_control as is_control
    from trace_adapters_langchain.models import as_lm as as_lm, chat_model as chat_model
    from trace_adapters_langchain.optimizing import optimize as optimize
    from trace_adapters_langchain.tapes import Tape as Tape, record as record
    from trace_adapters_langchain.target import LangchainTarget as LangchainTarget, wrap as wrap
    from trace_adapters_langchain.traced import Traced as Traced, trace as trace
    from trace_adapters_langchain.trainables import Trainable as Trainable, trainable as trainable

_HOMES = {
    "LangchainTarget": "trace_adapters_langchain.target",
    "Tape": "trace_adapters_langchain.tapes",
    "Traced": "trace_adapters_langchain.traced",
    "Trainable": "trace_adapters_langchain.trainables",
    "as_lm": "trace_adapters_langchain.models",
    "chat_model": "trace_adapters_langchain.models",
    "estimate": "trace_adapters_langchain.estimating",
    "is_control": "trace_adapters_langchain.flows",
    "middleware": "trace_adapters_langchain.agents",
    "optimize": "trace_adapters_langchain.optimizing",
    "record": "trace_adapters_langchain.tapes",
    "trace": "trace_adapters_langchain.traced",
    "trainable": "trace_adapters_langchain.trainables",
    "wrap": "trace_adapters_langchain.target",
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
