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


def test_a_search_that_finds_nothing_new_ends(tmp_path: Any) -> None:
    """After `patience` steps in a row, whether values were tried before or no reply could be read."""
    for made in (Proposal({"n": 0}, "listed"), Proposal(None, "listed", rejected="no value")):
        optimizer = Listed(made)
        study = run(tmp_path, optimizer, patience=3, max_steps=None)
        assert (study.finish_reason, len(optimizer.seeds)) == ("stalled: 3 steps without a new candidate", 3)


def test_a_step_that_brings_no_proposal_is_not_counted(tmp_path: Any) -> None:
    """`max_steps` are steps with proposals: demonstrations may have to wait for the first right run."""
    optimizer = Listed()
    study = run(tmp_path, optimizer, patience=4, max_steps=1)
    assert (study.finish_reason, len(optimizer.seeds)) == ("stalled: 4 steps without a new candidate", 4)


class Climbing(Listed):
    """Goes on from where it is, by a step of its own."""

    def __init__(self, name: str, by: int) -> None:
        super().__init__()
        self.name, self.by = name, by

    def suggest(self, traces: Any, *, n: int = 1, base: Any = None, seed: int = 0) -> list[Proposal]:
        return [Proposal({"n": base["n"] + self.by * (1 + seed % 1000)}, self.name)]


def test_what_pays_has_more_turns(tmp_path: Any) -> None:
    """The loop tells `Turns` what each step has gained."""

    def higher(example: Any, output: int) -> float:
        return float(output)

    optimizers: Any = [Climbing("down", -1), Climbing("up", 1)]
    settings = {"budget": 500, "max_steps": 16, "minibatch_size": 3, "full_score": 1e9, "progress": False}
    result = ta.optimize(Adder(), EXAMPLES, higher, optimizer=optimizers, store=tmp_path / "s.db", **settings)
    origins = [trial.origin for trial in result.study.trials()][1:]
    assert origins.count("up") >= 2 * origins.count("down") > 0
