"""Trials and their lineage as rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

from trace_adapters.errors import StoreError
from trace_adapters.study import schema
from trace_adapters.study.candidates import candidate_id, keys_of
from trace_adapters.study.database import insert_row
from trace_adapters.study.records import TrialRecord
from trace_adapters.study.values import dumps, join_score, require_name, split_score


def write_trial(connection: Connection, study_id: int, trial: TrialRecord) -> TrialRecord:
    """Keep a trial and its parents. The same trial again changes nothing.

    Raises:
        StoreError: If another trial has its number.
    """
    found = read_trials(connection, study_id, trial.number)
    if found:
        return _require_equal(found[0], trial)
    row_id = insert_row(connection, schema.trial, _row(connection, study_id, trial))
    parents = [
        {
            "trial_id": row_id,
            "pos": pos,
            "parent_id": candidate_id(connection, study_id, key),
            "role": "parent",
        }
        for pos, key in enumerate(trial.parents)
    ]
    if parents:
        connection.execute(insert(schema.lineage), parents)
    return trial


def read_trials(connection: Connection, study_id: int, number: int | None = None) -> list[TrialRecord]:
    """The trials of a study by number, or the one of that number."""
    trial = schema.trial.c
    query = select(schema.trial).where(trial.study_id == study_id).order_by(trial.number)
    rows = connection.execute(query if number is None else query.where(trial.number == number)).mappings().all()
    if not rows:
        return []
    keys, parents = keys_of(connection, study_id), _parents(connection, [row["id"] for row in rows])
    return [_record(row, keys[row["candidate_id"]], [keys[p] for p in parents.get(row["id"], ())]) for row in rows]


def best_of(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The accepted trial of the highest finite score, of equals the latest; None if there is none."""
    accepted = [trial for trial in trials if trial.accepted and _rank(trial) > -math.inf]
    return max(accepted, key=lambda trial: (_rank(trial), trial.number), default=None)


def trial_facts(trial: TrialRecord) -> dict[str, Any]:
    """What a repeated run must repeat of a trial."""
    facts = asdict(trial)
    del facts["created"]
    return facts


def _rank(trial: TrialRecord) -> float:
    return trial.score if trial.score is not None and math.isfinite(trial.score) else -math.inf


def _require_equal(found: TrialRecord, trial: TrialRecord) -> TrialRecord:
    old, new = dumps(trial_facts(found)), dumps(trial_facts(trial))  # as text: NaN equals NaN
    if old != new:
        raise StoreError(
            f"trial {trial.number} is recorded already and differs: found {old}, got {new}; "
            "a resumed run needs the same program, data, metric, optimizer and seed: "
            "undo the change, or start a study of another name"
        )
    return found


def _row(connection: Connection, study_id: int, trial: TrialRecord) -> dict[str, Any]:
    score, score_odd = split_score(trial.score)
    return {
        "study_id": study_id,
        "number": trial.number,
        "candidate_id": candidate_id(connection, study_id, trial.candidate_key),
        "origin": require_name("an origin", trial.origin, 64),
        "step": trial.step,
        "state": trial.state,
        "accepted": trial.accepted,
        "score": score,
        "score_odd": score_odd,
        "metrics": dict(trial.metrics),
        "error": trial.error,
        "created": trial.created,
    }


def _parents(connection: Connection, trial_ids: Sequence[int]) -> dict[int, list[int]]:
    lineage = schema.lineage.c
    query = select(lineage.trial_id, lineage.parent_id).order_by(lineage.trial_id, lineage.pos)
    if len(trial_ids) == 1:
        query = query.where(lineage.trial_id == trial_ids[0])
    else:
        query = query.where(lineage.trial_id.between(min(trial_ids), max(trial_ids)))
    parents: dict[int, list[int]] = {}
    for trial_id, parent_id in connection.execute(query):
        parents.setdefault(trial_id, []).append(parent_id)
    return parents


def _record(row: RowMapping, key: str, parents: Sequence[str]) -> TrialRecord:
    return TrialRecord(
        number=row["number"],
        candidate_key=key,
        origin=row["origin"],
        state=row["state"],
        score=join_score(row["score"], row["score_odd"]),
        accepted=row["accepted"],
        parents=tuple(parents),
        step=row["step"],
        metrics=row["metrics"],
        error=row["error"],
        created=row["created"],
    )
