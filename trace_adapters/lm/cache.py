"""Replies kept by question, so that no question is paid for twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from trace_adapters.errors import SettingError
from trace_adapters.lm.ledger import Question
from trace_adapters.lm.replies import NO_USAGE, Reply, Usage

logger = logging.getLogger(__name__)


class ReplyCache(Protocol):
    """Where replies are kept; called from many threads. `LM` keeps each sample under a key of its own."""

    def get(self, key: str) -> list[Reply] | None: ...

    def put(self, key: str, replies: Sequence[Reply]) -> None: ...


class MemoryCache:
    """Keeps replies as long as the process lives."""

    def __init__(self) -> None:
        self._replies: dict[str, list[Reply]] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> list[Reply] | None:
        with self._lock:
            found = self._replies.get(key)
        return None if found is None else list(found)

    def put(self, key: str, replies: Sequence[Reply]) -> None:
        with self._lock:
            self._replies[key] = list(replies)

    def __len__(self) -> int:
        return len(self._replies)


class SqliteCache:
    """Keeps replies in one SQLite file that many processes may share; `Reply.raw` is not kept.

    A file that is damaged or full costs calls, not the run: the model is asked, and a warning says why, once.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0
        self._has_warned = False
        with self._lock:
            self._open()

    def get(self, key: str) -> list[Reply] | None:
        try:
            with self._lock:
                row = self._open().execute("SELECT replies FROM reply WHERE key = ?", (key,)).fetchone()
            return None if row is None else [_read_reply(plain) for plain in json.loads(row[0])]
        except SettingError:  # the file cannot be opened
            raise
        except (sqlite3.Error, ValueError, TypeError, LookupError) as error:
            self._warn(error)
            return None

    def put(self, key: str, replies: Sequence[Reply]) -> None:
        text = json.dumps([_write_reply(reply) for reply in replies])  # ASCII: lone surrogates pass
        try:
            with self._lock:
                self._open().execute("INSERT OR REPLACE INTO reply VALUES (?, ?, ?)", (key, text, time.time()))
        except sqlite3.Error as error:
            self._warn(error)

    def close(self) -> None:
        """Close the file; the next `get` or `put` opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SqliteCache, (self.path,)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("cached replies at %s cannot be used: %s; models are asked instead", self.path, error)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._owner == os.getpid():
            return self._connection
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            with closing(connection.execute("PRAGMA journal_mode=WAL")):
                pass
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS reply (key TEXT PRIMARY KEY, replies TEXT, created REAL)")
        except (OSError, sqlite3.Error) as error:
            message = f"expected a file for cached replies at {str(self.path)!r}, got {error}"
            raise SettingError(f"{message}; give a path that can be written") from error
        self._connection, self._owner = connection, os.getpid()
        weakref.finalize(self, connection.close)
        return connection


def cache_key(question: Question, endpoint: str) -> str:
    """SHA-256 of everything that decides a reply.

    Args:
        question: `sample_index` is part of the key, or all samples would be one; `role` is not.
        endpoint: The server's address, or what identifies the model file of a local one.
    """
    request = {
        "endpoint": endpoint,
        "model": question.model,
        "messages": [dict(message) for message in question.messages],
        "options": dict(question.options),
        "sample_index": question.sample_index,
    }
    text = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def get_reply(cache: ReplyCache, key: str) -> Reply | None:
    """The reply kept under `key`, marked as cached and free of charge."""
    found = cache.get(key)
    if not found:
        return None
    reply = found[0]
    return Reply(reply.text, NO_USAGE, reply.model, reply.finish_reason, 0.0, cached=True, raw=reply.raw)


def _write_reply(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "text": reply.text,
        "usage": [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.cost_usd],
        "model": reply.model,
        "finish_reason": reply.finish_reason,
        "latency_s": reply.latency_s,
    }


def _read_reply(plain: Mapping[str, Any]) -> Reply:
    return Reply(plain["text"], Usage(*plain["usage"]), plain["model"], plain["finish_reason"], plain["latency_s"])
