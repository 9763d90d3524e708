"""How a candidate came to be, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from trace_adapters.study.records import TrialRecord


def lineage_of(trials: Sequence[TrialRecord], key: str) -> list[TrialRecord]:
    """The trials that lead to a candidate by first parents, the oldest first; its own trial is the last."""
    first: dict[str, TrialRecord] = {}
    for trial in trials:
        first.setdefault(trial.candidate_key, trial)
    line: list[TrialRecord] = []
    seen: set[str] = set()
    current: str | None = key
    while current in first and current not in seen:
        seen.add(current)
        line.append(first[current])
        current = first[current].parents[0] if first[current].parents else None
    return line[::-1]


def tell_story(study: str, key: str, line: Sequence[TrialRecord], changes: Mapping[str, str]) -> str:
    """The text of an export's README: score, lineage (of `lineage_of`), diffs from the base by key."""
    score = line[-1].score if line else None
    head = f"# Candidate {key[:12]} of study {_code(study)}\n\n"
    measured = f"Score on the validation set: **{score:g}**" if score is not None else "Never measured"
    sections = [measured, "## Lineage", _lineage(line), "## Changes since the base", _changes(changes)]
    return head + "\n\n".join(sections)


def _lineage(line: Sequence[TrialRecord]) -> str:
    rows = [f"| {t.number} | `{t.candidate_key[:12]}` | {_code(t.origin)} | {_score(t)} |" for t in line]
    return "\n".join(["| trial | candidate | made by | score |", "|---|---|---|---|", *rows])


def _changes(changes: Mapping[str, str]) -> str:
    if not changes:
        return "None: this is the base."
    return "\n\n".join(f"### {_code(key)}\n\n{_fenced(diff)}" for key, diff in changes.items())


def _score(trial: TrialRecord) -> str:
    return "" if trial.score is None else f"{trial.score:g}"


def _code(text: str) -> str:
    plain = re.sub(r"[`|\s]+", " ", text)
    return f"`{plain}`"


def _fenced(diff: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", diff)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}diff\n{diff}\n{fence}"
