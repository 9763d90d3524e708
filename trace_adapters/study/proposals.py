"""Steps and their proposals as rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

from trace_adapters.errors import StoreError
from trace_adapters.lm.replies import Usage
from trace_adapters.study import schema
from trace_adapters.study.candidates import candidate_id, keys_of, read_blobs, write_blobs
from trace_adapters.study.records import ProposalRecord, StepRecord
from trace_adapters.study.values import dumps, require_name


def write_step(connection: Connection, study_id: int, step: StepRecord) -> StepRecord:
    """Keep all proposals of a step at once. The same step again changes nothing.

    Raises:
        StoreError: If the step is there with other proposals.
    """
    found = read_steps(connection, study_id, step.step)
    if found:
        return _require_equal(found[0], step)
    row = {"study_id": study_id, "step": step.step, "meta": dict(step.meta), "created": time.time()}
    connection.execute(insert(schema.step), {**row, "usage": step.usage and asdict(step.usage)})
    rows = [_row(connection, study_id, step.step, pos, proposal) for pos, proposal in enumerate(step.proposals)]
    if rows:
        connection.execute(insert(schema.proposal), rows)
    return step


def read_steps(connection: Connection, study_id: int, step: int | None = None) -> list[StepRecord]:
    """The steps of a study in order, or the one of that number."""
    table = schema.step.c
    query = select(schema.step).where(table.study_id == study_id).order_by(table.step)
    steps = connection.execute(query if step is None else query.where(table.step == step)).mappings().all()
    proposals = _read_proposals(connection, study_id, step) if steps else {}
    return [
        StepRecord(
            row["step"],
            tuple(proposals.get(row["step"], ())),
            row["usage"] and Usage(**row["usage"]),
            row["meta"],
        )
        for row in steps
    ]


def step_facts(step: StepRecord) -> dict[str, Any]:
    """What a repeated run must repeat of a step."""
    return {"step": step.step, "proposals": [asdict(proposal) for proposal in step.proposals]}


def _require_equal(found: StepRecord, step: StepRecord) -> StepRecord:
    if dumps(step_facts(found)) != dumps(step_facts(step)):
        raise StoreError(
            f"step {step.step} is recorded already with other proposals; a resumed run asks `find_step` "
            "first and uses what it returns: do that, or start a study of another name"
        )
    return found


def _row(connection: Connection, study_id: int, step: int, pos: int, proposal: ProposalRecord) -> dict[str, Any]:
    key = proposal.candidate_key
    reasoning_sha, reply_sha = write_blobs(connection, (proposal.reasoning, proposal.reply))
    return {
        "study_id": study_id,
        "step": step,
        "pos": pos,
        "base_id": candidate_id(connection, study_id, proposal.base_key),
        "candidate_id": None if key is None else candidate_id(connection, study_id, key),
        "origin": require_name("an origin", proposal.origin, 64),
        "rejected": proposal.rejected,
        "reasoning_sha": reasoning_sha,
        "reply_sha": reply_sha,
    }


def _read_proposals(connection: Connection, study_id: int, step: int | None) -> dict[int, list[ProposalRecord]]:
    table = schema.proposal.c
    query = select(schema.proposal).where(table.study_id == study_id).order_by(table.step, table.pos)
    rows: Sequence[RowMapping] = (
        connection.execute(query if step is None else query.where(table.step == step)).mappings().all()
    )
    keys = keys_of(connection, study_id)
    texts = read_blobs(connection, (row[name] for row in rows for name in ("reasoning_sha", "reply_sha")))
    proposals: dict[int, list[ProposalRecord]] = {}
    for row in rows:
        record = ProposalRecord(
            base_key=keys[row["base_id"]],
            candidate_key=None if row["candidate_id"] is None else keys[row["candidate_id"]],
            origin=row["origin"],
            reasoning=texts[row["reasoning_sha"]] or "",
            rejected=row["rejected"],
            reply=texts[row["reply_sha"]] or "",
        )
        proposals.setdefault(row["step"], []).append(record)
    return proposals
