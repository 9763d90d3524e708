"""What a person sees of a long run."""

from __future__ import annotations

import io

import pytest

from trace_adapters.progress import QUIET_S, Progress
from trace_adapters.search.budget import Budget, Meter


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(("pace_s", "lines"), [(QUIET_S / 4, 5), (QUIET_S * 2, 20), (QUIET_S / 100, 0)])
def test_a_file_hears_of_running_examples_about_once_a_minute(pace_s: float, lines: int) -> None:
    """Where lines stay, runs that end are told after a minute's silence, neither at each nor never."""
    clock, stream = Clock(), io.StringIO()
    with Progress("held out", Meter(Budget(metric_calls=20)), stream=stream, clock=clock) as progress:
        for _ in range(20):
            clock.seconds += pace_s
            progress.tell("judged", {"split": "test", "score": 1.0, "error": None})
    told = stream.getvalue().splitlines()
    assert len(told) == lines
    assert all("held out: running test examples" in line for line in told)


def test_news_of_a_trial_also_counts_as_said() -> None:
    """A line about a trial starts the minute anew."""
    clock, stream = Clock(), io.StringIO()
    with Progress("demo", Meter(Budget(metric_calls=20)), stream=stream, clock=clock) as progress:
        clock.seconds = QUIET_S - 1
        progress.tell("trial", {"number": 0, "origin": "base", "accepted": True, "score": 0.5, "metrics": {}})
        clock.seconds = QUIET_S + 1
        progress.tell("judged", {"split": "test", "score": 1.0, "error": None})
    assert [line.split("] ")[1] for line in stream.getvalue().splitlines()] == ["trial 0 (base): best score 0.500"]
