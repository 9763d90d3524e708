"""How good a program is on held-out examples, and how many runs that and its making took."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy

from examples.accuracy import Accuracy
from examples.bbh_dspy.metric import is_exact
from examples.bbh_dspy.program import QA


class RunsSpent(RuntimeError):
    """A program was run more often than allowed."""


class RunCounter:
    """Counts program runs, from any thread, up to a limit.

    Attributes:
        runs: How many began.
        crashes: How many of them raised.
        last_crash: What the last one of these raised; None if none did.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.runs = 0
        self.crashes = 0
        self.last_crash: str | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Count one run.

        Raises:
            RunsSpent: If that is one too many.
        """
        with self._lock:
            if self.limit is not None and self.runs >= self.limit:
                raise RunsSpent(f"The limit of {self.limit} program runs is reached.")
            self.runs += 1

    def crashed(self, error: Exception) -> None:
        """Count one run as failed."""
        with self._lock:
            self.crashes += 1
            self.last_crash = f"{type(error).__name__}: {error}"

    def __deepcopy__(self, memo: dict[int, Any]) -> RunCounter:
        return self  # the copies that an optimizer makes of a program count together


class CountedQA(QA):
    """`QA` whose runs, and those of its copies, are counted; a crash is an empty answer.

    DSPy's optimizers stop after some crashes, and this program crashes at first on most questions.
    """

    def __init__(self, counter: RunCounter, reasons: bool = True) -> None:
        super().__init__(reasons)
        self.counter = counter

    def forward(self, question: str) -> dspy.Prediction:
        self.counter.begin()
        try:
            return super().forward(question)
        except Exception as error:  # the program's functions, and the model's replies in a form that DSPy cannot read
            self.counter.crashed(error)
            return dspy.Prediction(answer="", response="")


def measure(program: CountedQA, examples: Sequence[dspy.Example], threads: int = 1) -> Accuracy:
    """Run a program once on each example."""
    crashes, lm = program.counter.crashes, dspy.settings.lm

    def judge(example: dspy.Example) -> bool:
        with dspy.context(lm=lm):  # the settings around us do not reach a thread
            return is_exact(example, program(**example.inputs()))

    with ThreadPoolExecutor(threads) as pool:
        right = sum(pool.map(judge, examples))
    return Accuracy(right, len(examples), program.counter.crashes - crashes)
