"""Connections, transactions and their errors, said in words."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import QueuePool, StaticPool

from trace_adapters.errors import StoreError, TraceAdaptersError

DAMAGED = "the database is damaged, or was changed by something else; restore a copy, or name another file"
_BUSY_S = 30
_WRITES = "trace_adapters_writes"


class Database:
    """A pool of connections to one SQLite database; threads share it.

    Args:
        url: Of the database.
        look: Only look at it, if its place cannot be written.

    Attributes:
        where: The address, for messages.
    """

    def __init__(self, url: URL, *, look: bool = False) -> None:
        self.where = url.render_as_string(hide_password=True)
        self.path = None if _in_memory(url) else Path(str(url.database).removeprefix("file:"))
        looks = look and self.path is not None and self.path.is_file() and not _is_writable(self.path)
        self._engine = _looking_engine(self.path) if looks and self.path is not None else _engine(url)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        weakref.finalize(self, self._engine.dispose)  # also at exit: no -wal file stays behind
        self._write_lock = threading.Lock()
        self._read_lock = self._write_lock if self.path is None else None

    @classmethod
    def at(cls, address: str | os.PathLike[str], *, look: bool = False) -> Database:
        """The database at `address`: a URL such as `sqlite:///study.db`, or a path. Nothing is opened yet."""
        return cls(_read_address(address), look=look)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and waits for no writer.

        What the block raises over the content of rows is a `StoreError`: they were whole when they were written.
        """
        with _held(self._read_lock), self._explained():
            try:
                with self._engine.begin() as connection:
                    yield connection
            except (TraceAdaptersError, SQLAlchemyError):
                raise
            except (ValueError, TypeError, LookupError, AttributeError, zlib.error) as error:
                raise StoreError(f"{DAMAGED} (store {self.where})") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is the only writer: all of it is kept, or nothing."""
        with self._write_lock, self._explained(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise StoreError(f"{self._diagnosis(error)} (store {self.where})") from error
        except SQLAlchemyError as error:
            raise StoreError(f"the database failed: {_first_line(error)} (store {self.where})") from error

    def _diagnosis(self, error: DBAPIError) -> str:
        said = str(error.orig)
        for words, diagnosis in _DIAGNOSES.items():
            if words in said:
                return diagnosis
        if "unable to open" in said and self.path is not None:
            return _why_unopenable(self.path)
        return f"the database failed: {said}"


_DIAGNOSES = {
    "not a database": "expected a SQLite database, got a file of another kind; name another file",
    "disk is full": "no space is left on the disk; free some, then resume: what was written before is safe",
    "disk I/O error": "the disk could not be read or written; check it and the space on it, then resume",
    "readonly": "expected a store that may be written, got a read-only one; "
    "change the permissions of the file and its directory, or name another file",
    "locked": f"another program has kept the database locked for {_BUSY_S} s; end it, then resume",
    "malformed": DAMAGED,
}


def insert_row(connection: Connection, table: Table, row: dict[str, Any]) -> int:
    """Insert one row; returns its id."""
    key = connection.execute(insert(table), row).inserted_primary_key
    if key is None:
        raise StoreError(f"the database gave no id for a row of {table.name}")
    return int(key[0])


def insert_missing(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows whose key is not there yet."""
    if rows:
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)


def _read_address(address: str | os.PathLike[str]) -> URL:
    if not isinstance(address, str | bytes | os.PathLike):
        raise StoreError(f"expected the address of a store, such as 'sqlite:///study.db' or a path, got {address!r}")
    text = os.fsdecode(address)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise StoreError(f"expected a store such as 'sqlite:///study.db' or a path, got {text!r}; name a file in UTF-8")
    if not text:
        raise StoreError("expected the address of a store, got an empty one; give e.g. 'sqlite:///study.db'")
    if not re.match(r"\w{2,}(\+\w+)?:/", text):
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"expected a store such as 'sqlite:///study.db' or a path, got {text!r}") from error
    if url.get_backend_name() == "sqlite" and url.host:
        raise StoreError(f"expected three slashes, as in 'sqlite:///study.db', got {text!r}; add one")
    if url.get_backend_name() == "sqlite" and url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise StoreError(f"expected 'sqlite:///study.db' without another driver, got {text!r}; leave the driver out")
    if url.get_backend_name() != "sqlite":
        raise StoreError(
            f"expected a SQLite store such as 'sqlite:///study.db', got one of {url.get_backend_name()!r}; "
            "this version keeps studies in SQLite files only"
        )
    return url


def _in_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _engine(url: URL) -> Engine:
    options: dict[str, Any] = {"poolclass": StaticPool} if _in_memory(url) else {"max_overflow": -1}
    engine = create_engine(url, connect_args={"timeout": _BUSY_S, "check_same_thread": False}, **options)
    _watched(engine)
    event.listen(engine, "connect", _set_up)
    return engine


def _looking_engine(path: Path) -> Engine:
    """Of a database that nobody can write here: SQLite may not make its `-wal` and `-shm` files beside it."""
    log = path.with_name(path.name + "-wal")
    unmerged = log.exists() and log.stat().st_size > 0
    uri = path.absolute().as_uri() + ("?mode=ro" if unmerged else "?mode=ro&immutable=1")

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, check_same_thread=False)

    return _watched(create_engine("sqlite://", creator=connect, poolclass=QueuePool, max_overflow=-1))


def _watched(engine: Engine) -> Engine:
    event.listen(engine, "connect", _own)
    event.listen(engine, "checkout", _refuse_forked)
    event.listen(engine, "begin", _begin)
    return engine


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)


def _own(connection: Any, record: Any) -> None:
    # The driver's own BEGIN comes late: a SELECT before it would see another state. `_begin` does it.
    connection.isolation_level = None
    record.info["pid"] = os.getpid()


def _set_up(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _refuse_forked(_: Any, record: Any, proxy: Any) -> None:
    # A SQLite connection that crosses a fork damages the file.
    if record.info["pid"] != os.getpid():
        record.dbapi_connection = proxy.dbapi_connection = None
        raise DisconnectionError("this connection belongs to the parent process")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _held(lock: threading.Lock | None) -> Iterator[None]:
    if lock is None:
        yield
    else:
        with lock:
            yield


def _why_unopenable(path: Path) -> str:
    parent = path.absolute().parent
    if not parent.is_dir():
        return f"expected a store in an existing directory, got {str(path)!r}; create {str(parent)!r} first"
    if path.is_dir():
        return f"expected the path of a file, got the directory {str(path)!r}; name a file in it"
    return (
        f"the file {str(path)!r} may not be opened; change its permissions and those of its directory, or, if this "
        "process has too many files open, raise the limit (ulimit -n)"
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
