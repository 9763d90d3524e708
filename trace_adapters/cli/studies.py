"""The commands that look at studies: `studies`, `show`, `best`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from trace_adapters.cli.printing import Page, number, one_line
from trace_adapters.cli.stores import StoreOption, store_address
from trace_adapters.confining import levels
from trace_adapters.errors import SettingError, StudyNotFound
from trace_adapters.study import RoleTotals, Store, Study, TrialRecord

StudyArgument = Annotated[
    str | None,
    typer.Argument(metavar="STUDY", help="Its name; may be left out if there is one.", show_default=False),
]


def studies(
    address: Annotated[
        str | None, typer.Argument(metavar="STORE", help="The same as --store.", show_default=False)
    ] = None,
    store: StoreOption = None,
) -> None:
    """List the studies of a store."""
    if address and store:
        raise SettingError(f"expected one store, got {address!r} and --store {store!r}")
    with Store.open(store_address(address or store), create=False) as opened:
        found = opened.studies()
    page = Page()
    if not found:
        page.line("no studies yet")
        return
    rows = [[info.name, info.state, str(info.trials), number(info.best_score), _when(info.created)] for info in found]
    page.table(["study", "state", "trials", "best", "created"], rows, right={"trials", "best"})


def show(
    study: StudyArgument = None,
    store: StoreOption = None,
    all_diffs: Annotated[
        bool, typer.Option("--all", help="Show what changed in every trial, not only in accepted ones.")
    ] = False,
) -> None:
    """Show a study: trials, what changed between parents and children, rejected proposals, model calls."""
    with _opened(store, study) as kept:
        page, trials = Page(), kept.trials()
        _head(page, kept)
        page.heading("Trials")
        _show_trials(page, trials)
        shown = [trial for trial in trials if trial.parents and (all_diffs or trial.accepted)]
        page.heading("Changes" if all_diffs else "Changes of accepted trials (--all shows the others)")
        _show_changes(page, kept, trials, shown)
        page.heading("Rejected proposals")
        _show_rejected(page, kept)
        page.heading("Model calls")
        show_totals(page, kept.totals())


def best(
    study: StudyArgument = None,
    store: StoreOption = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the candidate as files into DIR.", show_default=False),
    ] = None,
) -> None:
    """Print the best candidate of a study, or write it as readable files."""
    with _opened(store, study) as kept:
        page, found = Page(), kept.best
        if export is not None:
            page.line(f"wrote {kept.export(export)}")
            return
        key = found.candidate_key if found else kept.base_key
        score = f"trial {found.number}, score {number(found.score)}" if found else "nothing was accepted yet: the base"
        page.line(f"{kept.name}: {score}, candidate {key[:12]}")
        for name, value in kept.candidate(key).items():
            page.heading(name)
            page.line(value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))


def show_totals(page: Page, totals: Sequence[RoleTotals]) -> None:
    """Print calls, tokens and cost of each role; an unknown cost is "?", not 0."""
    if not totals:
        page.line("none")
        return
    columns = ["role", "calls", "failed", "cached", "tokens in", "tokens out", "usd", "seconds"]
    rows = [
        [t.role, *map(str, (t.calls, t.failed, t.cached, t.tokens_in, t.tokens_out)), _cost(t), f"{t.latency_s:.1f}"]
        for t in totals
    ]
    page.table(columns, rows, right=columns[1:])


@contextmanager
def _opened(store: str | None, study: str | None) -> Iterator[Study]:
    with Store.open(store_address(store), create=False) as opened:
        yield opened.load_study(study or _only(opened))


def _only(store: Store) -> str:
    names = [info.name for info in store.studies()]
    if len(names) != 1:
        there = f"it has {', '.join(map(repr, names))}" if names else "it has none"
        raise StudyNotFound(f"expected the name of a study of {store.address}, got none; {there}")
    return names[0]


def _head(page: Page, kept: Study) -> None:
    facts, found = kept.facts, kept.best
    ended = kept.finish_reason or "not finished"
    page.line(f"study {facts.name} · created {_when(facts.created)} · seed {facts.seed} · {one_line(ended)}", "bold")
    base = f"base {facts.base_key[:12]}"
    page.line(
        f"best: trial {found.number}, score {number(found.score)} · {base}" if found else f"best: none yet · {base}"
    )
    held = levels(kept)
    if held:
        page.line(f"learned code ran in: {', '.join(held)}")


def _show_trials(page: Page, trials: Sequence[TrialRecord]) -> None:
    if not trials:
        page.line("none")
        return
    first = _first_trials(trials)
    columns = ["trial", "score", "minibatch", "accepted", "origin", "step", "from", "candidate", "error"]
    rows = [
        [
            str(trial.number),
            number(trial.score),
            _minibatch(trial),
            _accepted(trial),
            trial.origin,
            _text(trial.step),
            ", ".join(_text(first.get(key)) for key in trial.parents) or "-",
            trial.candidate_key[:12],
            one_line(trial.error or "", 60),
        ]
        for trial in trials
    ]
    page.table(columns, rows, right={"trial", "score", "minibatch", "step", "from"})


def _show_changes(page: Page, kept: Study, trials: Sequence[TrialRecord], shown: Sequence[TrialRecord]) -> None:
    if not shown:
        page.line("none")
    first = _first_trials(trials)
    for trial in shown:
        parent = trial.parents[0]
        for key, diff in kept.diff(parent, trial.candidate_key).items():
            came = f"{trial.origin}, from trial {_text(first.get(parent))}"
            page.line(f"trial {trial.number} ({came}): {key}", "bold")
            page.diff(diff)


def _show_rejected(page: Page, kept: Study) -> None:
    rows = [
        [str(step.step), proposal.origin, proposal.rejected]
        for step in kept.steps()
        for proposal in step.proposals
        if proposal.rejected is not None
    ]
    if rows:
        page.table(["step", "origin", "reason"], rows, right={"step"})
    else:
        page.line("none")


def _first_trials(trials: Sequence[TrialRecord]) -> dict[str, int]:
    return {trial.candidate_key: trial.number for trial in reversed(trials)}


def _minibatch(trial: TrialRecord) -> str:
    """The score on the training examples of its step, and its parent's there."""
    score, parent = trial.metrics.get("minibatch"), trial.metrics.get("minibatch_parent")
    return "-" if score is None else f"{score:.2f} ({number(parent, 2)})"


def _accepted(trial: TrialRecord) -> str:
    if trial.state != "done":
        return trial.state
    return {True: "yes", False: "no", None: "-"}[trial.accepted]


def _cost(totals: RoleTotals) -> str:
    if totals.cost_usd is None:
        return "?"
    return f"{totals.cost_usd:.4f}" + (" + ?" if totals.unpriced else "")


def _text(value: Any) -> str:
    return "-" if value is None else str(value)


def _when(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M UTC")
