"""What a search is to do, checked before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from trace_adapters.errors import SettingError


@dataclass(frozen=True)
class SearchSettings:
    """What one search is to do.

    Attributes:
        train_size: Number of training examples.
        validation_size: Number of validation examples.
        seed: Minibatches, samples and ties are a function of it.
        proposals: Candidates asked of an optimizer each step; None for each optimizer's own default.
        max_steps: Steps that brought proposals, at most; None for as many as the budget pays.
        patience: Stop after this many steps in a row that brought no candidate worth judging.
        full_score: The score that cannot be improved.

    Raises:
        SettingError: If one is of a wrong kind or too small.
    """

    train_size: int
    validation_size: int
    seed: int
    proposals: int | None
    max_steps: int | None
    patience: int
    full_score: float

    def __post_init__(self) -> None:
        require_whole("seed", self.seed)
        if self.proposals is not None:
            require_whole("proposals", self.proposals, 1)
        if self.max_steps is not None:
            require_whole("max_steps", self.max_steps, 0)
        require_whole("patience", self.patience, 1)
        score = self.full_score
        if not isinstance(score, int | float) or isinstance(score, bool) or math.isnan(score):
            raise SettingError(f"full_score must be a number, got {score!r}.")


def require_whole(name: str, value: Any, least: int | None = None) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        SettingError: Naming it.
    """
    if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
        wanted = "a whole number" if least is None else f"a whole number of at least {least}"
        raise SettingError(f"{name} must be {wanted}, got {value!r}.")
