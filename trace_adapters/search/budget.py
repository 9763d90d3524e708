"""What a run may spend, and what it has spent."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, fields
from typing import Any

from trace_adapters.errors import BudgetExceeded, SettingError
from trace_adapters.lm.replies import Usage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """Hard limits; None is no limit. At least one must be given.

    All but `wall_s` are of the study: a resumed run begins with what its earlier sessions have spent.

    Attributes:
        metric_calls: Runs of the program that are judged, also if a cache answers the model calls in them.
        usd: Dollars for model calls of known price; calls of unknown price count as nothing, and are reported.
        tokens: Prompt and completion tokens of all roles; what a cache answers costs none.
        wall_s: Seconds of this call of `optimize`: a resumed run has all of them again. A run of the program that has
            begun is waited for.
    """

    metric_calls: int | None = None
    usd: float | None = None
    tokens: int | None = None
    wall_s: float | None = None

    def __post_init__(self) -> None:
        limits = {f.name: getattr(self, f.name) for f in fields(self)}
        if all(limit is None for limit in limits.values()):
            raise SettingError("A budget needs a limit, e.g. Budget(metric_calls=300).")
        for name, limit in limits.items():
            if limit is not None and (not isinstance(limit, (int, float)) or isinstance(limit, bool) or not limit > 0):
                raise SettingError(f"Budget {name} must be a number above 0, got {limit!r}.")

    @classmethod
    def default(cls, validation_size: int) -> Budget:
        """What is spent where nothing is said: 50 metric calls for every validation example, at least 200."""
        return cls(metric_calls=max(200, 50 * validation_size))

    @classmethod
    def of(cls, value: Any) -> Budget:
        """A budget as it is, or a number of metric calls."""
        if isinstance(value, Budget):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return cls(metric_calls=value)
        raise SettingError(f"budget is a Budget or a number of metric calls, got {value!r}.")


class Meter:
    """Counts against a budget; safe to use from several threads.

    Args:
        budget: The limits.
        tokens, usd: Spent by earlier sessions of the same study.
    """

    def __init__(self, budget: Budget, *, tokens: int = 0, usd: float = 0.0) -> None:
        self.budget = budget
        self.metric_calls = 0
        self.tokens = tokens
        self.usd = usd
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._unpriced: set[str] = set()

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._started

    def reserve(self, metric_calls: int) -> None:
        """Take this many metric calls, all or none.

        Raises:
            BudgetExceeded: If that is more than is left, or another limit is reached.
        """
        with self._lock:
            self._check()
            limit = self.budget.metric_calls
            if limit is not None and self.metric_calls + metric_calls > limit:
                raise BudgetExceeded(f"{metric_calls} more metric calls would pass {limit} ({self.metric_calls} made).")
            self.metric_calls += metric_calls

    def check(self) -> None:
        """Raise `BudgetExceeded` if tokens, dollars or time are spent."""
        with self._lock:
            self._check()

    def spend(self, usage: Usage | None, model: str = "") -> None:
        """Count a model call; one of unknown price is warned of once, if dollars are limited."""
        if usage is None:
            return
        with self._lock:
            if usage.cost_usd is None and self.budget.usd is not None and model not in self._unpriced:
                self._unpriced.add(model)
                logger.warning(
                    "the price of %s is unknown: calls do not count against usd; give price= or tokens=", model
                )
            self.tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
            self.usd += usage.cost_usd or 0.0

    def left(self) -> dict[str, float]:
        """Limit name -> what is left of it."""
        spent = {
            "metric_calls": self.metric_calls,
            "usd": self.usd,
            "tokens": self.tokens,
            "wall_s": self.wall_s,
        }
        limits = {name: getattr(self.budget, name) for name in spent}
        return {name: limit - spent[name] for name, limit in limits.items() if limit is not None}

    def _check(self) -> None:
        for name in ("tokens", "usd", "wall_s"):
            limit, spent = getattr(self.budget, name), getattr(self, name)
            if limit is not None and spent >= limit:
                raise BudgetExceeded(f"The budget of {limit} {name} is spent ({spent:.4g}).")
