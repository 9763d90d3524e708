"""How an optimization ended: for the person who started it, and as a file for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trace_adapters.cli.held_out import interval, mean
from trace_adapters.cli.jobs import Job
from trace_adapters.cli.printing import Page, number
from trace_adapters.cli.studies import show_totals
from trace_adapters.errors import DataError
from trace_adapters.optimization import Result
from trace_adapters.saving import write_text


def show_outcome(
    page: Page, result: Result, job: Job, store: str, scores: tuple[Sequence[float], Sequence[float]] | None
) -> None:
    """Print what there was to learn, what was learned and what it cost."""
    kept = result.study
    page.heading(f"Study {kept.name!r} in {store}")
    for name, fact in job.facts.items():
        page.line(f"{name}: {number(fact) if isinstance(fact, float) else fact}")
    page.line(f"parameters: {', '.join(result.best.candidate)}")
    page.line(f"stopped: {result.stopped}")
    page.line(f"validation score: before {number(result.base_score)}, best {number(result.best.score)}")
    if scores is not None:
        before, after = scores
        page.line(f"held out ({len(before)} examples): before {_share(before)}, after {_share(after)}")
    page.heading("What changed")
    changes = kept.diff(kept.base_key, kept.add_candidate(result.best.candidate))
    for key, change in changes.items():
        page.line(key, "bold")
        page.diff(change)
    if not changes:
        page.line("nothing")
    page.heading("Model calls")
    show_totals(page, kept.totals())


def require_result_place(path: Path) -> None:
    """Refuse a place where no file can be written.

    Raises:
        DataError: If it is a directory.
    """
    if path.is_dir():
        raise DataError(f"{path} is a directory; name a file in it with --result.")


def write_outcome(
    path: Path,
    result: Result,
    job: Job,
    *,
    scores: tuple[Sequence[float], Sequence[float]] | None,
    store: str,
    model: str | None,
    optimizer_model: str | None,
    export: Path | None,
    wall_s: float,
) -> None:
    """Write the outcome as JSON; the file is replaced as a whole.

    Raises:
        DataError: If it cannot be written.
    """
    before, after = scores if scores is not None else ((), ())
    totals = result.study.totals()
    outcome: dict[str, Any] = {
        **dict(job.facts),
        "model": model,
        "optimizer_model": optimizer_model or model,
        "before": mean(before) if before else None,
        "after": mean(after) if after else None,
        "n_test": len(before),
        "before_interval": interval(before),
        "after_interval": interval(after),
        "validation_before": result.base_score,
        "validation_after": result.best.score,
        "calls": {t.role: t.calls for t in totals},
        "calls_cached": {t.role: t.cached for t in totals},
        "tokens": {t.role: {"in": t.tokens_in, "out": t.tokens_out} for t in totals},
        "usd": {t.role: t.cost_usd for t in totals},
        "metric_calls": result.metric_calls,
        "wall_s": round(wall_s, 1),
        "stopped": result.stopped,
        "parameters": list(result.best.candidate),
        "study": result.study.name,
        "store": store,
        "learned": str(export) if export is not None else None,
    }
    write_text(path, json.dumps(outcome, indent=2, ensure_ascii=False, default=str) + "\n")


def _share(scores: Sequence[float]) -> str:
    found = interval(scores)
    return number(mean(scores)) + (f" (95 % interval {found[0]:.2f} to {found[1]:.2f})" if found else "")
