"""The place where studies are kept."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, func, insert, inspect, select

from trace_adapters.errors import StoreError, StoreTooNew, StudyExists, StudyNotFound
from trace_adapters.study import schema
from trace_adapters.study.candidates import write_candidate
from trace_adapters.study.database import Database, insert_row
from trace_adapters.study.lease import is_alive
from trace_adapters.study.records import ParameterSpec, StudyInfo, StudyState
from trace_adapters.study.study import Study, StudyFacts
from trace_adapters.study.values import candidate_key, require_name
from trace_adapters.study.versions import library_version, versions


class Store:
    """Studies in one SQLite database. Threads and processes may share it.

    Use `Store.open`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, address: str | os.PathLike[str], *, create: bool = True) -> Store:
        """Open the store at `address`: a URL such as `sqlite:///study.db`, a path, or `:memory:`.

        If there is none, it is made where `create` allows it. Without `create`, one on a read-only file system can be
        looked at.

        Raises:
            StoreTooNew: If a newer version of this library wrote it.
            StoreError: If it cannot be opened, or is not there and `create` is false.
        """
        database = Database.at(address, look=not create)
        if not create and database.path is not None and not database.path.exists():
            raise StoreError(
                f"expected a store, found none at {database.where}; name one, or make it by an optimization"
            )
        try:
            _require_schema(database, create)
        except StoreError:
            database.close()
            raise
        return cls(database)

    @property
    def address(self) -> str:
        """The URL of the store."""
        return self._database.where

    def create_study(
        self,
        name: str,
        *,
        base: Mapping[str, Any],
        space: Sequence[ParameterSpec | Mapping[str, str]] = (),
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> Study:
        """Make a study whose search starts from the candidate `base`.

        `space` declares the parameters (mappings have `key`, `kind`, `description`, `constraint`), `config`
        says what the run was asked to do and is kept as JSON.

        Raises:
            StudyExists: If the store has a study of that name.
            ParameterError: If a value of `base` is not JSON.
        """
        require_name("the name of a study", name, schema.NAME_LENGTH)
        if not isinstance(config or {}, Mapping):
            raise StoreError(f"expected the config of a study as a mapping, got {config!r}")
        specs = [spec if isinstance(spec, ParameterSpec) else ParameterSpec(**spec) for spec in space]
        row = {
            "name": name,
            "created": time.time(),
            "state": "open",
            "seed": seed,
            "config": dict(config or {}),
            "space": [asdict(spec) for spec in specs],
            "versions": versions(),
            "base_key": candidate_key(base),
        }
        with self._database.write() as connection:
            if _find(connection, name) is not None:
                raise StudyExists(
                    f"the store {self.address} has a study {name!r} already; "
                    "go on with it by resume=True (--resume), or give another name"
                )
            study_id = insert_row(connection, schema.study, row)
            write_candidate(connection, study_id, base)
        return self.load_study(name)

    def load_study(self, name: str) -> Study:
        """The study of that name.

        Raises:
            StudyNotFound: If there is none; the message lists those there are.
        """
        with self._database.read() as connection:
            row = _find(connection, require_name("the name of a study", name, schema.NAME_LENGTH))
            if row is None:
                names = connection.execute(select(schema.study.c.name).order_by(schema.study.c.id)).scalars().all()
                there = f"it has {', '.join(map(repr, names))}" if names else "it has none"
                raise StudyNotFound(f"the store {self.address} has no study {name!r}; {there}")
            facts = StudyFacts(
                name=row.name,
                created=row.created,
                seed=row.seed,
                config=dict(row.config),
                space=tuple(ParameterSpec(**spec) for spec in row.space),
                versions=dict(row.versions),
                base_key=row.base_key,
            )
        return Study(self._database, row.id, facts)

    def studies(self) -> list[StudyInfo]:
        """All studies, the oldest first."""
        study, trial = schema.study.c, schema.trial.c
        accepted = trial.accepted.is_(True)
        query = (
            select(
                schema.study,
                func.count(trial.id).label("trials"),
                func.max(trial.score).filter(accepted).label("best"),
            )
            .outerjoin(schema.trial)
            .group_by(study.id)
            .order_by(study.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            return [StudyInfo(row.name, row.created, _state(row), row.trials, row.best) for row in rows]

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _require_schema(database: Database, create: bool) -> None:
    with database.read() as connection:
        version = _version(connection)
    if version is None:
        if not create:
            raise StoreError(
                f"expected a store of trace-adapters, got another database at {database.where}; name another"
            )
        with database.write() as connection:
            version = _version(connection) or _create(connection)
    if version > schema.SCHEMA_VERSION:
        raise StoreTooNew(
            f"the store {database.where} has version {version}, this trace-adapters reads up to "
            f"{schema.SCHEMA_VERSION}; upgrade trace-adapters, or name another store"
        )


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(schema.schema.name):
        return None
    version: int | None = connection.execute(select(schema.schema.c.version)).scalar_one_or_none()
    return None if version is None else int(version)


def _create(connection: Connection) -> int:
    schema.metadata.create_all(connection)
    row = {"version": schema.SCHEMA_VERSION, "written_by": library_version()}
    connection.execute(insert(schema.schema), row)
    return schema.SCHEMA_VERSION


def _find(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(schema.study).where(schema.study.c.name == name)).one_or_none()


def _state(row: Row[Any]) -> StudyState:
    if row.state == "finished":
        return "finished"
    if is_alive(row.owner, row.heartbeat):
        return "running"
    return "interrupted" if row.trials else "new"
