"""A share of right answers, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers.

    Attributes:
        right: How many answers were right.
        n: Of how many.
        crashes: How many runs raised; they count as wrong.
    """

    right: int
    n: int
    crashes: int = 0

    @property
    def value(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of Wilson (1927)."""
        z, p, n = 1.96, self.value, self.n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] on {self.n} examples, {self.crashes} crashes"
