"""Which examples a step looks at, and which candidates it keeps."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trace_adapters.traces import Feedback, TraceGraph

_FINALISTS = 2  # children that improved alike and go to the validation set


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


@dataclass(frozen=True, order=True)
class Improvement:
    """What a child gained over its parent; compared by score, then by crashes.

    Attributes:
        score: Sum over the minibatch.
        crashes: How many runs fail no longer, negative if more do.
    """

    score: float
    crashes: int

    @property
    def worth(self) -> float:
        """One number; a crash less counts as a tenth of a right answer."""
        return max(0.0, self.score + self.crashes / 10)


class Policy(Protocol):
    """The choices of a search."""

    def minibatch(self, step: int, scores: Mapping[int, float], *, avoid: Sequence[int] = ()) -> list[int]:
        """Positions in the training set to look at, given the incumbent's known scores there."""
        ...

    def improvement(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> Improvement:
        """What a child gained, from the same minibatch under both."""
        ...

    def finalists(self, improvements: Sequence[Improvement]) -> list[int]:
        """Which children of a step are worth the validation set; none if none is better than its parent."""
        ...

    def accepts(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> bool:
        """Whether the best finalist replaces its parent, from the validation set under both."""
        ...


class Greedy:
    """Keep one incumbent; a child must be better on the minibatch its proposer saw, and not worse on validation.

    The gate on the minibatch that the reflection saw follows GEPA (arXiv 2507.19457). Better is a higher sum of
    scores, or the same with fewer crashes: a program that runs can be judged, one that crashes cannot. Children that
    improved alike are told apart on the validation set. A tie with the parent there is settled by the minibatch,
    because small validation sets (five in the article's protocol) tie often.

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

    def improvement(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> Improvement:
        return Improvement(total(child) - total(parent), crashes(parent) - crashes(child))

    def finalists(self, improvements: Sequence[Improvement]) -> list[int]:
        best = max(improvements)
        if best <= Improvement(0.0, 0):
            return []
        return [number for number, found in enumerate(improvements) if found == best][:_FINALISTS]

    def accepts(self, child: Sequence[Judgement], parent: Sequence[Judgement]) -> bool:
        return mean(child) >= mean(parent)


def total(judgements: Sequence[Judgement]) -> float:
    """The sum of the scores."""
    return sum(judgement.score for judgement in judgements)


def crashes(judgements: Sequence[Judgement]) -> int:
    """How many runs raised."""
    return sum(judgement.error is not None for judgement in judgements)


def mean(judgements: Sequence[Judgement]) -> float:
    """The mean score; 0 for none."""
    return total(judgements) / len(judgements) if judgements else 0.0
