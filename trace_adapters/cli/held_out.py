"""The base and the best candidate of a run on the examples that nothing was chosen by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trace_adapters.cli.jobs import Job
from trace_adapters.confining import confining
from trace_adapters.evaluation import Evaluator
from trace_adapters.lm import record_calls
from trace_adapters.optimization import Result
from trace_adapters.progress import Progress
from trace_adapters.search.budget import Budget, Meter
from trace_adapters.targets import wrap
from trace_adapters.threads import threads

TEST = "test"
_Z = 1.959964  # of a 95 % interval


def judge_held_out(
    job: Job, result: Result, *, workers: int, sandbox: str | None, progress: bool
) -> tuple[list[float], list[float]]:
    """The scores on the test examples before and after; recorded in the study, so never run twice."""
    kept, target = result.study, wrap(job.program)
    base = kept.candidate(kept.base_key)
    meter = Meter(Budget(metric_calls=2 * len(job.testset)))
    with (
        Progress(f"{kept.name}, held out", meter, enabled=progress) as shown,
        record_calls(kept.record_call),
        confining(kept, sandbox, target.parameters().values(), workers),
        threads(workers) as pool,
    ):
        judge = Evaluator(target, {TEST: job.testset}, job.metric, kept, meter, pool, shown.tell, workers)
        before = _scores(judge, base, len(job.testset))
        same = kept.add_candidate(result.best.candidate) == kept.base_key
        return before, before if same else _scores(judge, result.best.candidate, len(job.testset))


def mean(scores: Sequence[float]) -> float:
    """The mean; 0 for none."""
    return sum(scores) / len(scores) if scores else 0.0


def interval(scores: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of Wilson (1927) of a share of right answers; None for scores that are not 0 or 1."""
    n = len(scores)
    if not n or any(score not in (0.0, 1.0) for score in scores):
        return None
    share = mean(scores)
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _scores(judge: Evaluator, values: Mapping[str, Any], size: int) -> list[float]:
    return [judgement.score for judgement in judge([(values, TEST, position) for position in range(size)])]
