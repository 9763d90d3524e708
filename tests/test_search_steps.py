"""What a step of the search promises, whatever optimizer proposes."""

from __future__ import annotations

import gc
from typing import Any

import trace_adapters as ta
from trace_adapters.extend import EvaluationRecord
from trace_adapters.optimizers.base import Outcome, Proposal

EXAMPLES = [{"id": f"e{n}", "q": n} for n in range(6)]


class Adder(ta.Module):
    def __init__(self) -> None:
        self.n = ta.node(0, name="n", trainable=True)

    def forward(self, q: int) -> Any:
        return self.n + q


class Listed:
    """An optimizer that makes the proposals of a list, all in each step."""

    name = "listed"
    wants_evidence = 0

    def __init__(self, *made: Proposal) -> None:
        self.made, self.seeds = made, list[int]()
        self.told: list[Outcome] = []

    def suggest(self, traces: Any, *, n: int = 1, base: Any = None, seed: int = 0) -> list[Proposal]:
        self.seeds.append(seed)
        return list(self.made)

    def observe(self, traces: Any) -> None:
        """Learns nothing from runs."""

    def tell(self, outcome: Outcome) -> None:
        self.told.append(outcome)


def larger(example: Any, output: int) -> float:
    return min(1.0, (output - example["q"]) / 10)


def run(tmp_path: Any, optimizer: Listed, **options: Any) -> ta.Study:
    settings = {"budget": 200, "max_steps": 1, "minibatch_size": 3, "progress": False, **options}
    result = ta.optimize(Adder(), EXAMPLES, larger, optimizer=optimizer, store=tmp_path / "s.db", **settings)
    return result.study


def test_equal_proposals_of_one_step_are_judged_once(tmp_path: Any) -> None:
    """The second is told so, and is no trial."""
    optimizer = Listed(Proposal({"n": 5}, "listed"), Proposal({"n": 5}, "listed"))
    study = run(tmp_path, optimizer)
    assert [trial.origin for trial in study.trials()] == ["base", "listed"]
    assert sorted(outcome.feedback[:18] for outcome in optimizer.told) == ["Kept: 0.50 on 3 tr", "These values were "]


def test_a_proposal_is_not_compared_on_examples_that_it_quotes(tmp_path: Any) -> None:
    """It could answer those by heart."""
    optimizer = Listed(Proposal({"n": 5}, "listed", examples=("e0", "e1", "e2")))
    optimizer.wants_evidence = len(EXAMPLES)
    study = run(tmp_path, optimizer, valset=[{"id": "v", "q": 9}])
    child = study.trials()[1].candidate_key
    assert {record.example_id for record in study.evaluations(child, "train")} == {"e3", "e4", "e5"}


def test_steps_and_seeds_ask_for_other_samples(tmp_path: Any) -> None:
    """Else every step, and every seed, would get the samples of the first."""
    asked = []
    for seed in (0, 1):
        optimizer = Listed(Proposal(None, "listed", rejected="no value"))
        run(tmp_path, optimizer, seed=seed, max_steps=3)
        asked += optimizer.seeds
    assert len(set(asked)) == 6


def test_what_was_judged_is_kept_in_the_store_and_not_in_memory(tmp_path: Any) -> None:
    """Traces are long, and a study has thousands of them."""
    alive: list[int] = []

    def count(kind: str, facts: Any) -> None:
        if kind == "trial":
            gc.collect()
            alive.append(sum(type(thing) is EvaluationRecord for thing in gc.get_objects()))

    study = run(tmp_path, Listed(Proposal({"n": 5}, "listed")), listener=count)
    assert len(study.evaluations()) > len(EXAMPLES)
    assert max(alive) == 0
