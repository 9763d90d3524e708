"""Candidates run on examples: side by side, within a budget, nothing twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any

from trace_adapters.lm.ledger import CallRecord, record_calls
from trace_adapters.lm.replies import Usage
from trace_adapters.search.budget import Meter
from trace_adapters.search.policy import Judgement
from trace_adapters.study.records import EvaluationRecord
from trace_adapters.study.study import Study
from trace_adapters.study.values import candidate_key
from trace_adapters.targets import Run, Target
from trace_adapters.traces import Feedback, TraceGraph, propagate

Job = tuple[Mapping[str, Any], str, int]


class Evaluator:
    """Judges candidates on the examples of named splits; a `Judge` for the search.

    Every judgement is written to the study as it arrives, and read from there if it stands there already.

    Args:
        target: The program.
        splits: Name -> examples.
        metric: The user's metric.
        study: Where judgements are kept.
        meter: Metric calls are reserved for a whole list of jobs before the first of them runs.
        executor: Runs jobs in this process (threads); the caller's tracing context goes with each.
        listener: Called with "judged" after each.
    """

    def __init__(
        self,
        target: Target,
        splits: Mapping[str, Sequence[Any]],
        metric: Callable[..., Any],
        study: Study,
        meter: Meter,
        executor: Executor,
        listener: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._target = target
        self._splits = splits
        self._metric = metric
        self._study = study
        self._meter = meter
        self._executor = executor
        self._listener = listener
        self._parameters = target.parameters()
        self._recorded = {(r.candidate_key, r.split, r.example_id): r for r in study.evaluations(rep=0)}
        self._changed = threading.Condition()
        self._in_flight = 0
        self._is_stopping = False

    def __call__(self, jobs: Sequence[Job]) -> list[Judgement]:
        """Judge all jobs; the judgements come back in the jobs' order.

        Raises:
            BudgetExceeded: Before anything runs, if not all jobs can be paid.
            MetricError: If the metric fails; what was judged before stays recorded.
            ModelError: If a model cannot be reached.
        """
        if not jobs:
            return []
        self._meter.reserve(len(jobs))
        futures = [self._executor.submit(_in_context, copy_context(), self._judge, job) for job in jobs]
        return _gather(futures)

    def finish(self) -> None:
        """After Ctrl-C: begin nothing more, and wait for the runs in flight.

        What they give is kept. What fails in them is not: Ctrl-C may have ended a process of the program's.
        """
        with self._changed:
            self._is_stopping = True
            in_flight = self._in_flight
        if in_flight:
            self._listener("waiting", {"runs": in_flight})
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight)

    @contextmanager
    def _flying(self) -> Iterator[None]:
        with self._changed:
            if self._is_stopping:
                raise CancelledError
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def _judge(self, candidate: Mapping[str, Any], split: str, position: int) -> Judgement:
        example = self._splits[split][position]
        name = self._target.example_id(example, position)
        key = candidate_key(candidate)
        recorded = self._recorded.get((key, split, name))
        if recorded is None:
            self._meter.check()
            with self._flying():
                recorded = self._run(candidate, key, split, name, example)
            self._recorded[key, split, name] = recorded
        self._listener("judged", {"split": split, "score": recorded.score, "error": recorded.error})
        return self._judgement(recorded, position)

    def _run(self, candidate: Mapping[str, Any], key: str, split: str, name: str, example: Any) -> EvaluationRecord:
        usages: list[Usage] = []

        def note(call: CallRecord) -> None:
            if not call.cached:
                usages.append(call.usage)

        started = time.monotonic()
        with record_calls(note):
            run = self._target.run(candidate, example)
            feedback = self._target.judge(self._metric, example, run)
        if run.error is not None and self._is_stopping:
            raise CancelledError
        info: dict[str, Any] = {"example_id": name, "split": split}
        if run.demonstrations is not None:
            info["demonstrations"] = {k: [list(d) for d in calls] for k, calls in run.demonstrations.items()}
        graph = propagate(run.node, feedback, info=info)
        return self._study.record_evaluation(
            self._study.add_candidate(candidate),
            split,
            name,
            score=feedback.score,
            feedback=feedback.text,
            output=run.output,
            error=_error_text(run),
            trace_json=graph.to_json(),
            latency_s=time.monotonic() - started,
            usage=sum(usages[1:], usages[0]) if usages else None,
        )

    def _judgement(self, record: EvaluationRecord, position: int) -> Judgement:
        # Also a fresh graph goes through JSON: a resumed run must see exactly what this one sees.
        graph = None
        if record.trace_json is not None:
            graph = TraceGraph.from_json(record.trace_json, self._parameters.values())
        score = record.score if record.score is not None else 0.0
        return Judgement(
            record.candidate_key,
            record.split,
            position,
            record.example_id,
            score,
            Feedback(score, record.feedback),
            graph,
            record.error,
        )


def _in_context(context: Context, judge: Callable[..., Judgement], job: Job) -> Judgement:
    return context.run(judge, *job)


def _gather(futures: Sequence[Future[Judgement]]) -> list[Judgement]:
    """Wait for all, in order; the first failure cancels what has not begun."""
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _error_text(run: Run) -> str | None:
    return None if run.error is None else f"{type(run.error).__name__}: {run.error}"
