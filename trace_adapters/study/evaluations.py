"""Evaluations as rows: one for each candidate, split, example and repetition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, Select, select

from trace_adapters.lm.replies import Usage
from trace_adapters.study import schema
from trace_adapters.study.candidates import candidate_id, read_blobs, write_blobs
from trace_adapters.study.database import insert_missing
from trace_adapters.study.records import EvaluationRecord
from trace_adapters.study.values import (
    dumps,
    is_json,
    join_score,
    loads,
    require_name,
    split_score,
    stable_repr,
)

_BLOBS = ("output_sha", "feedback_sha", "trace_sha")


def write_evaluation(connection: Connection, study_id: int, record: EvaluationRecord) -> EvaluationRecord:
    """Keep an evaluation; returns the one that stands: the first."""
    place = {name: getattr(record, name) for name in ("candidate_key", "split", "example_id", "rep")}
    found = read_evaluations(connection, study_id, **place)
    if found:
        return found[0]
    score, score_odd = split_score(record.score)
    output = json.dumps(record.output) if record.output_form == "repr" else dumps(record.output)
    output_sha, feedback_sha, trace_sha = write_blobs(connection, (output, record.feedback, record.trace_json))
    row = {
        "candidate_id": candidate_id(connection, study_id, record.candidate_key),
        "split": require_name("a split", record.split, 32),
        "example_id": require_name("an example id", record.example_id, schema.NAME_LENGTH),
        "rep": record.rep,
        "score": score,
        "score_odd": score_odd,
        "output_form": record.output_form,
        "output_sha": output_sha,
        "feedback_sha": feedback_sha,
        "trace_sha": trace_sha,
        "error": record.error,
        "latency_s": record.latency_s,
        "usage": record.usage and asdict(record.usage),
        "created": record.created,
    }
    insert_missing(connection, schema.evaluation, [row])
    return record


def read_evaluations(
    connection: Connection,
    study_id: int,
    *,
    candidate_key: str | None = None,
    split: str | None = None,
    example_id: str | None = None,
    rep: int | None = None,
) -> list[EvaluationRecord]:
    """The evaluations that agree with what is given, sorted by candidate, split, example and repetition."""
    evaluation, candidate = schema.evaluation.c, schema.candidate.c
    query = (
        select(schema.evaluation, candidate.key)
        .join(schema.candidate)
        .where(candidate.study_id == study_id)
        .order_by(candidate.key, evaluation.split, evaluation.example_id, evaluation.rep)
    )
    given = {
        candidate.key: candidate_key,
        evaluation.split: split,
        evaluation.example_id: example_id,
        evaluation.rep: rep,
    }
    for column, value in given.items():
        query = query if value is None else query.where(column == value)
    return _records(connection, query)


def prepare_output(output: Any) -> tuple[Any, Literal["json", "repr"]]:
    """An output as it will be read back, beside its form."""
    if is_json(output):
        return loads(dumps(output)), "json"
    return stable_repr(output), "repr"


def evaluation_facts(record: EvaluationRecord) -> list[Any]:
    """What a repeated run must repeat of an evaluation."""
    output = record.output if record.output_form == "json" else None  # a repr may differ in every process
    place = [record.candidate_key, record.split, record.example_id, record.rep]
    return [*place, record.score, record.feedback, output, record.error]


def _records(connection: Connection, query: Select[Any]) -> list[EvaluationRecord]:
    rows: Sequence[RowMapping] = connection.execute(query).mappings().all()
    texts = read_blobs(connection, (row[name] for row in rows for name in _BLOBS))
    return [_record(row, *(texts[row[name]] for name in _BLOBS)) for row in rows]


def _record(row: RowMapping, output: str | None, feedback: str | None, trace: str | None) -> EvaluationRecord:
    return EvaluationRecord(
        candidate_key=row["key"],
        split=row["split"],
        example_id=row["example_id"],
        rep=row["rep"],
        score=join_score(row["score"], row["score_odd"]),
        feedback=feedback or "",
        output=loads(output or "null"),
        output_form=row["output_form"],
        error=row["error"],
        trace_json=trace,
        latency_s=row["latency_s"],
        usage=row["usage"] and Usage(**row["usage"]),
        created=row["created"],
    )
