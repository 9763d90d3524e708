"""Model calls and events as rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, case, func, insert, select

from trace_adapters.lm.ledger import CallRecord
from trace_adapters.study import schema
from trace_adapters.study.candidates import write_blobs
from trace_adapters.study.records import EventRecord, RoleTotals
from trace_adapters.study.values import dumps, require_name


def write_call(connection: Connection, study_id: int, call: CallRecord, *, keep_text: bool) -> None:
    """Keep one model call; with its messages and replies if `keep_text`."""
    texts = (dumps(call.messages), dumps(call.replies)) if keep_text else (None, None)
    request_sha, response_sha = write_blobs(connection, texts)
    row = {
        "study_id": study_id,
        "role": require_name("a role", call.role, 32),
        "model": call.model[:255],
        "request_sha": request_sha,
        "response_sha": response_sha,
        "sample_index": call.sample_index,
        "tokens_in": call.usage.prompt_tokens,
        "tokens_out": call.usage.completion_tokens,
        "tokens_cached": call.usage.cached_tokens,
        "cost_usd": call.usage.cost_usd,
        "cached": call.cached,
        "latency_s": call.latency_s,
        "status": call.status,
        "error": call.error,
        "created": call.created,
    }
    connection.execute(insert(schema.llm_call), row)


def read_totals(connection: Connection, study_id: int) -> list[RoleTotals]:
    """Calls, tokens and cost of each role, by role."""
    call = schema.llm_call.c

    def known(column: Any) -> Any:
        return func.coalesce(func.sum(column), 0)

    def count(condition: Any) -> Any:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    query = (
        select(
            call.role,
            func.count(),
            count(call.status != "ok"),
            count(call.cached),
            known(call.tokens_in),
            known(call.tokens_out),
            known(call.tokens_cached),
            func.sum(call.cost_usd),
            count(call.cost_usd.is_(None)),
            known(call.latency_s),
        )
        .where(call.study_id == study_id)
        .group_by(call.role)
        .order_by(call.role)
    )
    return [RoleTotals(*row) for row in connection.execute(query)]


def write_event(connection: Connection, study_id: int, kind: str, payload: Mapping[str, Any]) -> None:
    """Keep one event."""
    kind = require_name("the kind of an event", kind, 32)
    row = {"study_id": study_id, "created": time.time(), "kind": kind, "payload": dict(payload)}
    connection.execute(insert(schema.event), row)


def read_events(connection: Connection, study_id: int, kind: str | None) -> list[EventRecord]:
    """The events of a study in order, or those of one kind."""
    event = schema.event.c
    query = select(event.created, event.kind, event.payload).where(event.study_id == study_id).order_by(event.id)
    rows = connection.execute(query if kind is None else query.where(event.kind == kind))
    return [EventRecord(*row) for row in rows]
