"""The base and the best candidate of a run on the examples that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_adapters.cli.jobs import Job
from trace_adapters.evaluation import Evaluator, threads
from trace_adapters.lm import record_calls
from trace_adapters.optimization import Result
from trace_adapters.progress import Progress
from trace_adapters.search.budget import Budget, Meter
from trace_adapters.targets import wrap

TEST = "test"


def judge_held_out(job: Job, result: Result, *, workers: int, progress: bool) -> tuple[float, float]:
    """The mean scores on the test examples before and after; recorded in the study, so never run twice."""
    kept = result.study
    base = kept.candidate(kept.base_key)
    meter = Meter(Budget(metric_calls=2 * len(job.testset)))
    with Progress(f"{kept.name}, held out", meter, enabled=progress) as shown, threads(workers) as pool:
        judge = Evaluator(wrap(job.program), {TEST: job.testset}, job.metric, kept, meter, pool, shown.tell)
        with record_calls(kept.record_call):
            before = _mean(judge, base, len(job.testset))
            same = kept.add_candidate(result.best.candidate) == kept.base_key
            return before, before if same else _mean(judge, result.best.candidate, len(job.testset))


def _mean(judge: Evaluator, values: Mapping[str, Any], size: int) -> float:
    judgements = judge([(values, TEST, position) for position in range(size)])
    return sum(judgement.score for judgement in judgements) / size
