"""What budgets and the greedy policy promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

import trace_adapters as ta
from trace_adapters.errors import BudgetExceeded, SettingError
from trace_adapters.lm.replies import Usage
from trace_adapters.search.budget import Budget, Meter
from trace_adapters.search.policy import Greedy, Judgement


def judged(*scores):
    return [Judgement("k", "train", n, str(n), s, ta.Feedback(s)) for n, s in enumerate(scores)]


def test_metric_calls_are_taken_all_or_none():
    """A list of jobs that cannot be paid whole is not begun."""
    meter = Meter(Budget(metric_calls=5))
    meter.reserve(3)
    with pytest.raises(BudgetExceeded):
        meter.reserve(3)
    meter.reserve(2)
    assert meter.left() == {"metric_calls": 0}


def test_tokens_and_dollars_stop_the_next_call():
    """What is spent counts; a call of unknown price costs nothing known."""
    meter = Meter(Budget(tokens=100, usd=1.0))
    meter.spend(Usage(60, 39, cost_usd=None))
    meter.check()
    meter.spend(Usage(1, 0, cost_usd=0.5))
    with pytest.raises(BudgetExceeded, match="tokens"):
        meter.check()
    assert meter.usd == 0.5


@pytest.mark.parametrize("limits", [{}, {"metric_calls": 0}, {"usd": -1.0}, {"tokens": "many"}])
def test_a_budget_that_limits_nothing_is_refused(limits):
    """No limit, zero and negative numbers are mistakes."""
    with pytest.raises(SettingError):
        Budget(**limits)


def test_minibatches_prefer_failing_examples_and_are_reproducible():
    """Three quarters fail where so many do; seed and step decide; examples to avoid are avoided."""
    scores = {n: float(n >= 10) for n in range(20)}
    policy = Greedy(20, size=4, seed=3)
    batch = policy.minibatch(1, scores)
    assert batch == Greedy(20, size=4, seed=3).minibatch(1, scores)
    assert sum(p < 10 for p in batch) == 3
    assert not set(policy.minibatch(1, scores, avoid=range(10))) & set(range(10))
    assert len({tuple(policy.minibatch(step, scores)) for step in range(10)}) > 1


def failed(*scores):
    return [replace(judgement, error="IndexError") for judgement in judged(*scores)]


def test_a_child_must_be_better_on_the_minibatch_and_not_worse_on_validation():
    """A tie on the minibatch is no improvement; a tie on validation is accepted."""
    policy = Greedy(4, size=4, seed=0)
    better = policy.improvement(judged(1, 0), judged(0, 0))
    same = policy.improvement(judged(1, 0), judged(0, 1))
    assert policy.finalists([same, better, same]) == [1]
    assert policy.finalists([same, same]) == []
    assert policy.accepts(judged(1, 0), judged(0, 1))
    assert not policy.accepts(judged(0, 0), judged(0, 1))


def test_fewer_crashes_are_better_where_scores_tie():
    """A program that runs on can be judged; but a right answer is worth more than any crash."""
    policy = Greedy(4, size=4, seed=0)
    runs = policy.improvement(judged(0, 0), failed(0, 0))
    right = policy.improvement([*judged(1), *failed(0)], failed(0, 0))
    assert policy.finalists([runs]) == [0]
    assert policy.finalists([runs, right]) == [1]
    assert policy.finalists([policy.improvement(failed(0, 0), judged(0, 0))]) == []


def test_children_that_improved_alike_go_to_the_validation_set_together():
    """At most two of them."""
    policy = Greedy(4, size=4, seed=0)
    alike = policy.improvement(judged(1), judged(0))
    assert policy.finalists([alike] * 5) == [0, 1]
