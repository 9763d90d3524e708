"""The tables of a store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql

from trace_adapters.errors import StoreError
from trace_adapters.study.database import DAMAGED
from trace_adapters.study.values import dumps, loads

SCHEMA_VERSION = 1

NAME_LENGTH = 190
"""The longest text that MySQL can still index in utf8mb4."""


class JsonText(TypeDecorator[Any]):
    """Any value as ASCII JSON text: NaN, NUL and lone surrogates pass through every database."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """MySQL's TEXT ends at 64 KB."""
        return dialect.type_descriptor(mysql.LONGTEXT() if dialect.name in ("mysql", "mariadb") else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Value to text; None is NULL."""
        return None if value is None else dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Text to value; NULL is None."""
        try:
            return None if value is None else loads(value)
        except (TypeError, ValueError) as error:
            raise StoreError(DAMAGED) from error


_ID = BigInteger().with_variant(Integer(), "sqlite")
_NAME = String(NAME_LENGTH)
_SHA = String(64)
_BYTES = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")

metadata = MetaData()

schema = Table(
    "ta_schema",
    metadata,
    Column("version", Integer, nullable=False),
    Column("written_by", String(64), nullable=False),
)

blob = Table(
    "ta_blob",
    metadata,
    Column("sha", _SHA, primary_key=True),
    Column("codec", String(8), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("data", _BYTES, nullable=False),
)


def _id() -> Column[Any]:
    return Column("id", _ID, primary_key=True, autoincrement=True)


def _of(table: str, name: str, **options: Any) -> Column[Any]:
    return Column(name, _ID, ForeignKey(f"{table}.id"), **options)


def _blob(name: str) -> Column[Any]:
    return Column(name, _SHA, ForeignKey("ta_blob.sha"))


study = Table(
    "ta_study",
    metadata,
    _id(),
    Column("name", _NAME, nullable=False, unique=True),
    Column("created", Double, nullable=False),
    Column("state", String(16), nullable=False),
    Column("finish_reason", JsonText),
    Column("seed", BigInteger, nullable=False),
    Column("config", JsonText, nullable=False),
    Column("space", JsonText, nullable=False),
    Column("versions", JsonText, nullable=False),
    Column("base_key", _SHA, nullable=False),
    Column("owner", JsonText),
    Column("lease", String(32)),
    Column("heartbeat", Double),
)

candidate = Table(
    "ta_candidate",
    metadata,
    _id(),
    _of("ta_study", "study_id", nullable=False),
    Column("key", _SHA, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("study_id", "key"),
)

cand_param = Table(
    "ta_cand_param",
    metadata,
    _of("ta_candidate", "candidate_id", primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("sha", _SHA, ForeignKey("ta_blob.sha"), nullable=False),
    Column("num", Double),
    Index("ta_cand_param_name_sha", "name", "sha"),
)

trial = Table(
    "ta_trial",
    metadata,
    _id(),
    _of("ta_study", "study_id", nullable=False),
    Column("number", Integer, nullable=False),
    _of("ta_candidate", "candidate_id", nullable=False),
    Column("origin", String(64), nullable=False),
    Column("step", Integer),
    Column("state", String(16), nullable=False),
    Column("accepted", Boolean),
    Column("score", Double),
    Column("score_odd", String(4)),
    Column("metrics", JsonText, nullable=False),
    Column("error", JsonText),
    Column("created", Double, nullable=False),
    UniqueConstraint("study_id", "number"),
    Index("ta_trial_study_score", "study_id", "score"),
)

lineage = Table(
    "ta_lineage",
    metadata,
    _of("ta_trial", "trial_id", primary_key=True),
    Column("pos", Integer, primary_key=True),
    _of("ta_candidate", "parent_id", nullable=False),
    Column("role", String(16), nullable=False),
)

step = Table(
    "ta_step",
    metadata,
    _of("ta_study", "study_id", primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("usage", JsonText),
    Column("meta", JsonText, nullable=False),
    Column("created", Double, nullable=False),
)

proposal = Table(
    "ta_proposal",
    metadata,
    _of("ta_study", "study_id", primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("pos", Integer, primary_key=True, autoincrement=False),
    _of("ta_candidate", "base_id", nullable=False),
    _of("ta_candidate", "candidate_id"),
    Column("origin", String(64), nullable=False),
    Column("rejected", JsonText),
    _blob("reasoning_sha"),
    _blob("reply_sha"),
)

evaluation = Table(
    "ta_evaluation",
    metadata,
    _of("ta_candidate", "candidate_id", primary_key=True),
    Column("split", String(32), primary_key=True),
    Column("example_id", _NAME, primary_key=True),
    Column("rep", Integer, primary_key=True, autoincrement=False),
    Column("score", Double),
    Column("score_odd", String(4)),
    Column("output_form", String(8), nullable=False),
    _blob("output_sha"),
    _blob("feedback_sha"),
    _blob("trace_sha"),
    Column("error", JsonText),
    Column("latency_s", Double),
    Column("usage", JsonText),
    Column("created", Double, nullable=False),
)

llm_call = Table(
    "ta_llm_call",
    metadata,
    _id(),
    _of("ta_study", "study_id", nullable=False),
    Column("role", String(32), nullable=False),
    Column("model", String(255), nullable=False),
    _blob("request_sha"),
    _blob("response_sha"),
    Column("sample_index", Integer, nullable=False),
    Column("tokens_in", BigInteger),
    Column("tokens_out", BigInteger),
    Column("tokens_cached", BigInteger),
    Column("cost_usd", Double),
    Column("cached", Boolean, nullable=False),
    Column("latency_s", Double),
    Column("status", String(32), nullable=False),
    Column("error", JsonText),
    Column("created", Double, nullable=False),
    Index("ta_llm_call_study_role", "study_id", "role"),
)

event = Table(
    "ta_event",
    metadata,
    _id(),
    _of("ta_study", "study_id", nullable=False),
    Column("created", Double, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("payload", JsonText, nullable=False),
    Index("ta_event_study_kind", "study_id", "kind"),
)
