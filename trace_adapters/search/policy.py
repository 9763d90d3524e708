"""Which examples a step looks at, and which candidates it keeps."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trace_adapters.traces import Feedback, TraceGraph


@dataclass(frozen=True)
class Judgement:
    """How one candidate did on one example.

    Attributes:
        score: Higher is better.
        graph: The trace with the feedback on it; None where runs were not traced.
        error: What the program raised, as text.
    """

    candidate_key: str
    split: str
    position: int
    example_id: str
    score: float
    feedback: Feedback
    graph: TraceGraph | None = None
    error: str | None = None


class Judge(Protocol):
    """Runs candidates on examples: (candidate, split, position) each, judgements in the same order."""

    def __call__(self, jobs: Sequence[tuple[Mapping[str, Any], str, int]]) -> list[Judgement]: ...


class Policy(Protocol):
    """The choices of a search."""

    def minibatch(self, step: int, scores: Mapping[int, float], *, avoid: Sequence[int] = ()) -> list[int]:
        """Positions in the training set to look at, given the incumbent's known scores there."""
        ...

    def improves(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> bool:
        """Whether a child is worth the validation set, from the same minibatch under both."""
        ...

    def accepts(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> bool:
        """Whether a child that `improves` replaces its parent, from the validation set under both."""
        ...


class Greedy:
    """Keep one incumbent; a child must be better on the minibatch its proposer saw, and not worse on validation.

    The gate on the minibatch that the reflection saw follows GEPA (arXiv 2507.19457); a tie on the validation set
    is settled by the minibatch, because small validation sets (five in the article's protocol) tie often.

    Args:
        train_size: Number of training examples.
        size: Examples a minibatch, of which at most a quarter already score full marks.
        seed: Minibatches are a function of seed and step.
        full_score: The score that cannot be improved.
    """

    def __init__(self, train_size: int, *, size: int, seed: int, full_score: float = 1.0) -> None:
        self._train_size = train_size
        self._size = min(size, train_size)
        self._seed = seed
        self._full_score = full_score

    def minibatch(self, step: int, scores: Mapping[int, float], *, avoid: Sequence[int] = ()) -> list[int]:
        rng = random.Random(f"{self._seed}/minibatch/{step}")
        order = rng.sample(range(self._train_size), self._train_size)
        order = [p for p in order if p not in set(avoid)] or order
        solved = [p for p in order if scores.get(p, 0.0) >= self._full_score]
        failing = [p for p in order if p not in set(solved)]
        wanted = max(1, self._size - self._size // 4)
        chosen = failing[:wanted]
        chosen += solved[: self._size - len(chosen)]
        chosen += failing[wanted : wanted + self._size - len(chosen)]
        return sorted(chosen)

    def improves(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> bool:
        return total(child) > total(parent)

    def accepts(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> bool:
        return mean(child) >= mean(parent)


def total(judgements: Sequence[Judgement]) -> float:
    """The sum of the scores."""
    return sum(judgement.score for judgement in judgements)


def mean(judgements: Sequence[Judgement]) -> float:
    """The mean score; 0 for none."""
    return total(judgements) / len(judgements) if judgements else 0.0
