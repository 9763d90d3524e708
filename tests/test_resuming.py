"""A run that is cut anywhere, several times, and goes on, ends as the run that nobody cut."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import trace_adapters as ta

QUESTIONS = [{"q": number} for number in range(9)]


def digest(*things: Any) -> int:
    return int(hashlib.md5(repr(things).encode(), usedforsecurity=False).hexdigest(), 16)


class Guess(ta.Module):
    """Right, wrong or failing, as a digest of its values and the question says."""

    def __init__(self) -> None:
        self.text = ta.node("Say {q}", name="text", trainable=True)
        self.number = ta.node(1, name="number", trainable=True)
        self.shown = ta.Parameter([], "shown", kind="demos")

    @ta.bundle
    def ask(self, text: str, number: int, shown: list[Any], q: int) -> str:
        """Ask."""
        found = digest(text, number, len(shown), q)
        if found % 7 == 0:
            raise ValueError("no answer")
        return str(found % 3)

    def forward(self, q: int) -> Any:
        return self.ask(self.text, self.number, self.shown, q)


def metric(example: Any, output: str) -> ta.Feedback:
    return ta.Feedback(float(output == "1"), f"expected '1', got {output!r}")


def reply(messages: Any, sample_index: int) -> str:
    found = digest(messages, sample_index)
    kinds = [f'number">{found % 50}', f'text">Say {found % 9} {{q}}', 'text">lost its field', 'none">?']
    return f'<value name="{kinds[found % 4]}</value>'


class CutError(Exception):
    """What ends a run."""


def run(
    folder: Path, cut_at: int | None = None, how: type[BaseException] = CutError, **options: Any
) -> tuple[Any, int]:
    """One session of the study in a folder, cut after some events; the result, and how many events there were."""
    events = 0

    def count(kind: str, facts: Mapping[str, Any]) -> None:
        nonlocal events
        events += 1
        if events == cut_at:
            raise how

    result = ta.optimize(
        Guess(), QUESTIONS[:6], metric, valset=QUESTIONS[6:], lm=ta.ScriptedLM(reply), store=folder / "study.db",
        study="s", resume=True, listener=count, progress=False, **options,
    )  # fmt: skip
    return result, events


@pytest.mark.parametrize(
    ("optimizer", "workers"),
    [("optoprime", 1), ("textgrad", 3), (["optoprime", "demos"], 3), (["textgrad", "optoprime", "demos"], 1)],
)
def test_a_run_that_is_cut_anywhere_ends_as_the_one_that_was_not(tmp_path: Path, optimizer: Any, workers: int) -> None:
    """Trials, steps, judgements, the best, why it ended and what it counts are the same."""
    chance = random.Random(str(optimizer))
    for number in range(2):
        whole, cut = tmp_path / f"whole{number}", tmp_path / f"cut{number}"
        whole.mkdir()
        cut.mkdir()
        options = {
            "optimizer": optimizer, "workers": workers, "seed": number, "max_steps": 4, "minibatch_size": 3,
            "budget": chance.choice([40, 200]), "proposals": chance.choice([None, 2]),
        }  # fmt: skip
        expected, events = run(whole, **options)
        for how in (CutError, KeyboardInterrupt, CutError):
            try:
                run(cut, chance.randint(1, events), how, **options)
            except (CutError, KeyboardInterrupt):
                continue
        found, _ = run(cut, **options)
        assert found.study.fingerprint() == expected.study.fingerprint()
        assert (found.best, found.stopped) == (expected.best, expected.stopped)
        assert found.metric_calls == expected.metric_calls
