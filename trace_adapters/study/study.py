"""A named series of trials in a store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import select, update

from trace_adapters.lm.ledger import CallRecord
from trace_adapters.lm.replies import Usage
from trace_adapters.study import candidates, evaluations, ledger, proposals, schema, trials
from trace_adapters.study.database import Database
from trace_adapters.study.differences import differences
from trace_adapters.study.export import export_candidate
from trace_adapters.study.lease import Lease
from trace_adapters.study.records import (
    EvaluationRecord,
    EventRecord,
    ParameterSpec,
    ProposalRecord,
    RoleTotals,
    StepRecord,
    TrialRecord,
    TrialState,
)
from trace_adapters.study.story import lineage_of, tell_story
from trace_adapters.study.values import dumps


@dataclass(frozen=True)
class StudyFacts:
    """What a study was created with; it never changes.

    Attributes:
        created: Seconds since the epoch.
        versions: Of this library, of Python and of SQLAlchemy.
    """

    name: str
    created: float
    seed: int
    config: Mapping[str, Any]
    space: tuple[ParameterSpec, ...]
    versions: Mapping[str, str]
    base_key: str


class Study:
    """A named series of trials. Everything is written when it happens, in one transaction each.

    Threads may share a study. A run resumes by replay: it starts anew, asks `find_evaluation` and `find_step`
    before every effect, and uses the record where there is one. What the `record_…` methods return is what
    `find_…` will return after a restart: a loop that goes on with that value resumes exactly.

    Made by `Store.create_study` and `Store.load_study`.
    """

    def __init__(self, database: Database, study_id: int, facts: StudyFacts) -> None:
        self._database, self._id, self._facts = database, study_id, facts
        self._lease: Lease | None = None

    @property
    def facts(self) -> StudyFacts:
        """What the study was created with."""
        return self._facts

    @property
    def name(self) -> str:
        """The name, unique in the store."""
        return self._facts.name

    @property
    def address(self) -> str:
        """The URL of its store."""
        return self._database.where

    @property
    def base_key(self) -> str:
        """The key of the candidate the search started from."""
        return self._facts.base_key

    # Candidates

    def add_candidate(self, values: Mapping[str, Any]) -> str:
        """Keep a candidate, once; returns its key, a sha256 of its content."""
        with self._database.write() as connection:
            return candidates.write_candidate(connection, self._id, values)

    def candidate(self, key: str) -> dict[str, Any]:
        """Parameter key -> value, in the order of the declared parameters.

        Raises:
            StoreError: If the study has no candidate of that key.
        """
        with self._database.read() as connection:
            row_id = candidates.candidate_id(connection, self._id, key)
            values = candidates.read_values(connection, row_id)
        declared = [spec.key for spec in self._facts.space if spec.key in values]
        return {name: values[name] for name in [*declared, *(name for name in values if name not in declared)]}

    def diff(self, old_key: str, new_key: str) -> dict[str, str]:
        """Parameter key -> unified diff between two candidates, of the parameters that differ."""
        return differences(self.candidate(old_key), self.candidate(new_key), old_key[:8], new_key[:8])

    # Evaluations

    def record_evaluation(
        self,
        candidate_key: str,
        split: str,
        example_id: str,
        rep: int = 0,
        *,
        score: float | None,
        feedback: str = "",
        output: Any = None,
        error: str | None = None,
        trace_json: str | None = None,
        latency_s: float | None = None,
        usage: Usage | None = None,
    ) -> EvaluationRecord:
        """Keep how a candidate did on an example; returns the record that stands.

        If two threads evaluate the same thing, the first one stands and both get it. `split` is "train", or
        "validation", …: an example id may occur in two of them. Of an `output` that JSON cannot hold, the
        `repr` is kept.
        """
        kept, form = evaluations.prepare_output(output)
        new = EvaluationRecord(
            candidate_key=candidate_key,
            split=split,
            example_id=example_id,
            rep=rep,
            score=None if score is None else float(score),
            feedback=feedback,
            output=kept,
            output_form=form,
            error=error,
            trace_json=trace_json,
            latency_s=latency_s,
            usage=usage,
            created=time.time(),
        )
        with self._database.write() as connection:
            return evaluations.write_evaluation(connection, self._id, new)

    def find_evaluation(self, candidate_key: str, split: str, example_id: str, rep: int = 0) -> EvaluationRecord | None:
        """The evaluation, or None if there was none yet."""
        found = self.evaluations(candidate_key, split, example_id, rep)
        return found[0] if found else None

    def evaluations(
        self,
        candidate_key: str | None = None,
        split: str | None = None,
        example_id: str | None = None,
        rep: int | None = None,
    ) -> list[EvaluationRecord]:
        """The evaluations that agree with what is given, by candidate, split, example and repetition."""
        with self._database.read() as connection:
            return evaluations.read_evaluations(
                connection, self._id, candidate_key=candidate_key, split=split, example_id=example_id, rep=rep
            )

    # Steps and trials

    def record_step(
        self,
        step: int,
        made: Sequence[ProposalRecord],
        *,
        usage: Usage | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> StepRecord:
        """Keep all proposals of a step, in one transaction. The same again changes nothing.

        If `made` is empty, the study knows that the optimizer was asked and had none.

        Raises:
            StoreError: If the step was recorded with other proposals.
        """
        record = StepRecord(step, tuple(made), usage, dict(meta or {}))
        with self._database.write() as connection:
            return proposals.write_step(connection, self._id, record)

    def find_step(self, step: int) -> StepRecord | None:
        """The proposals of a step, or None if nothing was proposed in it yet."""
        with self._database.read() as connection:
            found = proposals.read_steps(connection, self._id, step)
        return found[0] if found else None

    def steps(self) -> list[StepRecord]:
        """All steps in order."""
        with self._database.read() as connection:
            return proposals.read_steps(connection, self._id)

    def record_trial(
        self,
        number: int,
        candidate_key: str,
        *,
        origin: str,
        state: TrialState = "done",
        score: float | None = None,
        accepted: bool | None = None,
        parents: Sequence[str] = (),
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> TrialRecord:
        """Keep a trial, made from the candidates of the keys `parents`. The same again changes nothing.

        Raises:
            StoreError: If another trial has that number: the run is not the one it resumes.
        """
        trial = TrialRecord(
            number=number,
            candidate_key=candidate_key,
            origin=origin,
            state=state,
            score=None if score is None else float(score),
            accepted=accepted,
            parents=tuple(parents),
            step=step,
            metrics=dict(metrics or {}),
            error=error,
            created=time.time(),
        )
        with self._database.write() as connection:
            return trials.write_trial(connection, self._id, trial)

    def trials(self) -> list[TrialRecord]:
        """All trials by number."""
        with self._database.read() as connection:
            return trials.read_trials(connection, self._id)

    @property
    def best(self) -> TrialRecord | None:
        """The accepted trial of the highest finite score, of equals the latest; None if there is none."""
        return trials.best_of(self.trials())

    # Calls and events

    def record_call(self, call: CallRecord, *, keep_text: bool = True) -> None:
        """Keep a model call, a failed one too. A sink for `trace_adapters.lm.record_calls`."""
        with self._database.write() as connection:
            ledger.write_call(connection, self._id, call, keep_text=keep_text)

    def totals(self) -> list[RoleTotals]:
        """Calls, tokens and cost of each role."""
        with self._database.read() as connection:
            return ledger.read_totals(connection, self._id)

    def record_event(self, kind: str, payload: Mapping[str, Any] | None = None) -> None:
        """Keep that something happened."""
        with self._database.write() as connection:
            ledger.write_event(connection, self._id, kind, payload or {})

    def events(self, kind: str | None = None) -> list[EventRecord]:
        """What happened, in order."""
        with self._database.read() as connection:
            return ledger.read_events(connection, self._id, kind)

    # The whole

    def fingerprint(self) -> str:
        """Trials, steps and evaluations as JSON text without times: equal texts are equal runs."""
        with self._database.read() as connection:
            facts = {
                "trials": [trials.trial_facts(trial) for trial in trials.read_trials(connection, self._id)],
                "steps": [proposals.step_facts(step) for step in proposals.read_steps(connection, self._id)],
                "evaluations": [
                    evaluations.evaluation_facts(record)
                    for record in evaluations.read_evaluations(connection, self._id)
                ],
            }
        return dumps(facts)

    def export(self, directory: str | PathLike[str], key: str | None = None) -> Path:
        """Write a candidate as readable files: one for each parameter, `candidate.json`, `README.md`.

        Without a `key` it is the best one, or the base if none was accepted.

        Raises:
            StoreError: If `directory` holds anything but an earlier export, or cannot be written.
        """
        best = self.best
        key = key or (best.candidate_key if best else self.base_key)
        line = lineage_of(self.trials(), key)
        facts = {"study": self.name, "key": key, "score": line[-1].score if line else None}
        story = tell_story(self.name, key, line, self.diff(self.base_key, key))
        kinds = {spec.key: spec.kind for spec in self._facts.space}
        return export_candidate(directory, self.candidate(key), kinds, facts, story)

    def lock(self, owner: str) -> Lease:
        """Take the study for this process until `close`, or until the lease is released.

        Raises:
            StoreError: If a live process has it.
        """
        self._lease = Lease(self._database, self._id, self.name, owner)
        return self._lease

    def finish(self, reason: str) -> None:
        """Note that the run came to its end. The next `lock` opens the study again."""
        with self._database.write() as connection:
            row = update(schema.study).where(schema.study.c.id == self._id)
            connection.execute(row.values(state="finished", finish_reason=reason))

    @property
    def finish_reason(self) -> str | None:
        """Why the run ended; None if it has not."""
        study = schema.study.c
        with self._database.read() as connection:
            state, reason = connection.execute(
                select(study.state, study.finish_reason).where(study.id == self._id)
            ).one()
        return str(reason) if state == "finished" else None

    def close(self) -> None:
        """Release the lease, if there is one."""
        if self._lease is not None:
            self._lease.release()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"the study {self.name!r} is open in a database and cannot be pickled, nor what holds it; of a result keep "
            "result.program or result.best, and open the study again by ta.Store.open(...).load_study(name)"
        )

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
