"""Several optimizers in turns, by what has paid."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from trace_adapters.errors import SettingError
from trace_adapters.optimizers.base import Optimizer

_CURIOSITY = 0.5  # weight of the bonus for what was tried rarely
_DECAY = 0.9  # of older gains, for each later reward of the same optimizer


class Turns:
    """Picks the optimizer of the next step: a bandit (UCB1 on discounted gains).

    Each optimizer has one turn first, in order. Gains count in shares of the largest gain so far.

    Args:
        optimizers: At least one.

    Raises:
        SettingError: If there is none.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        if not optimizers:
            raise SettingError("Turns needs at least one optimizer, got none.")
        self.optimizers = list(optimizers)
        self._gains: list[list[float]] = [[] for _ in self.optimizers]

    def next(self, step: int, seed: int = 0) -> Optimizer:
        """The optimizer for a step; the same after the same rewards, whatever was asked before.

        Args:
            step: Number of the step, from 0.
            seed: Breaks ties together with the step.
        """
        untried = [number for number, gains in enumerate(self._gains) if not gains]
        if untried:
            return self.optimizers[untried[0]]
        total = sum(len(gains) for gains in self._gains)
        scores = [self._worth(gains) + _CURIOSITY * math.sqrt(math.log(total) / len(gains)) for gains in self._gains]
        best = max(scores)
        tied = [number for number, score in enumerate(scores) if score >= best - 1e-9]
        return self.optimizers[random.Random(f"{seed}:{step}").choice(tied)]

    def reward(self, optimizer: Optimizer, gain: float) -> None:
        """Note what a step of an optimizer gained; 0 if nothing, losses count as 0.

        Raises:
            SettingError: If the optimizer is none of these.
        """
        for number, known in enumerate(self.optimizers):
            if known is optimizer:
                self._gains[number].append(max(gain, 0.0))
                return
        raise SettingError(f"{optimizer!r} is none of the optimizers that take turns here.")

    def _worth(self, gains: Sequence[float]) -> float:
        largest = max((gain for all_gains in self._gains for gain in all_gains), default=0.0)
        if largest == 0.0:
            return 0.0
        weights = [_DECAY**age for age in range(len(gains) - 1, -1, -1)]
        return sum(w * gain / largest for w, gain in zip(weights, gains, strict=True)) / sum(weights)
