"""Candidates run on examples: side by side, within a budget, nothing twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from contextvars import copy_context
from itertools import chain
from typing import Any, cast

from trace_adapters.errors import MetricError
from trace_adapters.lm.ledger import CallRecord, hearing
from trace_adapters.lm.replies import Usage
from trace_adapters.search.budget import Meter
from trace_adapters.search.policy import Judgement
from trace_adapters.showing import str_of
from trace_adapters.study.records import EvaluationRecord
from trace_adapters.study.study import Study
from trace_adapters.study.values import candidate_key
from trace_adapters.targets import BatchTarget, Run, Target
from trace_adapters.threads import threads
from trace_adapters.traces import Feedback, TraceGraph, propagate

UNREADABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What metrics raise about an output of another kind than they expect; a server that fails is none of these."""

Job = tuple[Mapping[str, Any], str, int]
"""A candidate, the name of a split, the position of an example there."""


class _Attempt:
    """One run and its judgement, as they are heard.

    Attributes:
        usages: Of its model calls, those of the metric included.
        context: Where they are heard.
        started: Seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.usages: list[Usage] = []
        self.context = hearing(self._note)
        self.started = time.monotonic()

    def _note(self, call: CallRecord) -> None:
        if not call.cached:
            self.usages.append(call.usage)

    @property
    def usage(self) -> Usage | None:
        """Their sum; None if there was none."""
        return sum(self.usages[1:], self.usages[0]) if self.usages else None


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
        workers: Examples of a candidate that run as one batch, if the target makes batches.
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
        workers: int = 1,
    ) -> None:
        self._target = target
        self._splits = splits
        self._metric = metric
        self._study = study
        self._meter = meter
        self._executor = executor
        self._listener = listener
        self._workers = workers
        self._parameters = target.parameters()
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
        if self._workers > 1 and getattr(self._target, "batches", False):
            return self._in_batches(jobs)
        return self._side_by_side(self._judge, jobs)

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
    def _flying(self, runs: int = 1) -> Iterator[None]:
        with self._changed:
            if self._is_stopping:
                raise CancelledError
            self._in_flight += runs
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= runs
                self._changed.notify_all()

    def _side_by_side(self, work: Callable[..., Any], tasks: Sequence[Any]) -> list[Any]:
        return _gather([self._executor.submit(copy_context().run, work, task) for task in tasks])

    def _in_batches(self, jobs: Sequence[Job]) -> list[Judgement]:
        """Judge all jobs, those of one candidate together, no more at a time than there are workers."""
        told: dict[int, Judgement] = {}
        for wave in _waves(self._unknown(jobs), self._workers):
            judged = self._side_by_side(self._judge_together, [[jobs[number] for number in chunk] for chunk in wave])
            told.update(zip(chain.from_iterable(wave), chain.from_iterable(judged), strict=True))
        return [told.get(number) or self._judge(job) for number, job in enumerate(jobs)]

    def _unknown(self, jobs: Sequence[Job]) -> list[list[int]]:
        """The numbers of the jobs that nobody has run yet, by candidate; of the same job, the first."""
        found: dict[str, dict[tuple[str, str], int]] = {}
        for number, (candidate, split, position) in enumerate(jobs):
            key, name = candidate_key(candidate), self._name(split, position)
            if self._study.find_evaluation(key, split, name) is None:
                found.setdefault(key, {}).setdefault((split, name), number)
        return [list(numbers.values()) for numbers in found.values()]

    def _judge_together(self, jobs: Sequence[Job]) -> list[Judgement]:
        """Run jobs of one candidate as one batch, and judge each."""
        self._meter.check()
        attempts = [_Attempt() for _ in jobs]
        examples = [self._splits[split][position] for _, split, position in jobs]
        target = cast(BatchTarget, self._target)
        with self._flying(len(jobs)):
            runs = target.run_batch(jobs[0][0], examples, [attempt.context for attempt in attempts])
            lost = [run for run in runs if isinstance(run, Exception)]
            with threads(len(jobs), "trace-adapters-judge") as pool:
                futures = [
                    pool.submit(copy_context().run, self._record, attempt, run, job)
                    for attempt, run, job in zip(attempts, runs, jobs, strict=True)
                    if isinstance(run, Run)
                ]
                judged = _gather(futures)
        if lost:  # what went well beside it stands in the study now
            raise lost[0]
        return [self._told(recorded, position) for recorded, (_, _, position) in zip(judged, jobs, strict=True)]

    def _judge(self, job: Job) -> Judgement:
        candidate, split, position = job
        recorded = self._study.find_evaluation(candidate_key(candidate), split, self._name(split, position))
        if recorded is None:
            self._meter.check()
            attempt = _Attempt()
            with self._flying():
                run = attempt.context.run(self._target.run, candidate, self._splits[split][position])
                recorded = self._record(attempt, run, job)
        return self._told(recorded, position)

    def _record(self, attempt: _Attempt, run: Run, job: Job) -> EvaluationRecord:
        """Judge a run and write it down."""
        candidate, split, position = job
        name = self._name(split, position)
        feedback, error = self._feedback(attempt, run, job)
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
            error=error,
            trace_json=graph.to_json(),
            latency_s=time.monotonic() - attempt.started,
            usage=attempt.usage,
        )

    def _feedback(self, attempt: _Attempt, run: Run, job: Job) -> tuple[Feedback, str | None]:
        """Ask the metric; also what failed, if anything did.

        An output that the metric cannot read is the fault of what was proposed, never of the base.
        """
        candidate, split, position = job
        try:
            judge = self._target.judge
            return attempt.context.run(judge, self._metric, self._splits[split][position], run), _error_text(run)
        except MetricError as error:
            is_base = candidate_key(candidate) == self._study.base_key
            if is_base or not isinstance(error.raised, UNREADABLE):
                raise
            return Feedback(0.0, f"The output could not be judged. {error}"), f"MetricError: {error}"

    def _name(self, split: str, position: int) -> str:
        return self._target.example_id(self._splits[split][position], position)

    def _told(self, record: EvaluationRecord, position: int) -> Judgement:
        """A judgement that the listener has heard of."""
        self._listener("judged", {"split": record.split, "score": record.score, "error": record.error})
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


def _waves(groups: Sequence[Sequence[int]], size: int) -> list[list[Sequence[int]]]:
    """Groups cut into chunks of at most `size`, and as many chunks a wave as have `size` members together."""
    waves: list[list[Sequence[int]]] = []
    left = 0
    for chunk in (group[start : start + size] for group in groups for start in range(0, len(group), size)):
        if len(chunk) > left:
            waves.append([])
            left = size
        waves[-1].append(chunk)
        left -= len(chunk)
    return waves


def _gather(futures: Sequence[Future[Any]]) -> list[Any]:
    """Wait for all, in order; the first failure cancels what has not begun."""
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _error_text(run: Run) -> str | None:
    return None if run.error is None else f"{type(run.error).__name__}: {str_of(run.error)}"
