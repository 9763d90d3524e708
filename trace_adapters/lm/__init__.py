"""The model seam: one protocol for every language model, its client, its double, its ledger."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trace_adapters.lm.cache import (
        MemoryCache as MemoryCache,
        ReplyCache as ReplyCache,
        SqliteCache as SqliteCache,
    )
    from trace_adapters.lm.client import LM as LM
    from trace_adapters.lm.convert import as_lm as as_lm
    from trace_adapters.lm.ledger import CallRecord as CallRecord, record_calls as record_calls
    from trace_adapters.lm.messages import Messages as Messages, count_tokens as count_tokens
    from trace_adapters.lm.replies import (
        LanguageModel as LanguageModel,
        Price as Price,
        Reply as Reply,
        Usage as Usage,
    )
    from trace_adapters.lm.scripted import ScriptedLM as ScriptedLM

_HOMES = {
    "CallRecord": "ledger",
    "LM": "client",
    "LanguageModel": "replies",
    "MemoryCache": "cache",
    "Messages": "messages",
    "Price": "replies",
    "Reply": "replies",
    "ReplyCache": "cache",
    "ScriptedLM": "scripted",
    "SqliteCache": "cache",
    "Usage": "replies",
    "as_lm": "convert",
    "count_tokens": "messages",
    "record_calls": "ledger",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
