"""The study room: what is written comes back, once, in every thread, after every restart."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trace_adapters.errors import ParameterError, StoreError, StudyExists, StudyNotFound
from trace_adapters.lm.ledger import CallRecord
from trace_adapters.lm.replies import Usage
from trace_adapters.study import ProposalRecord, Store, Study, candidate_key

BASE = {
    "instructions": "Answer.\n{question}",
    "extract_answer": "def extract_answer(r):\n    return r\n",
    "k": 3,
}
SPACE = [
    {"key": "instructions", "kind": "text", "description": "the prompt"},
    {"key": "extract_answer", "kind": "code"},
    {"key": "k", "kind": "number", "constraint": "integer in [1, 9]"},
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.open(tmp_path / "study.db") as store:
        yield store


@pytest.fixture
def study(store: Store) -> Study:
    return store.create_study("bbh", base=BASE, space=SPACE, seed=7, config={"workers": 8})


def call(role: str = "forward", **changes: object) -> CallRecord:
    fields = {
        "role": role,
        "model": "m",
        "messages": [{"role": "user", "content": "2+2?"}],
        "replies": ("4",),
        "usage": Usage(10, 2, 4, 0.5),
        "latency_s": 0.25,
        "status": "ok",
        "error": None,
        "sample_index": 0,
        "cached": False,
        "created": 1.0,
    }
    return CallRecord(**{**fields, **changes})


def test_a_study_comes_back_as_it_was_made(store: Store, study: Study) -> None:
    again = store.load_study("bbh")
    assert again.facts == study.facts
    assert again.facts.seed == 7
    assert again.facts.config == {"workers": 8}
    assert again.facts.space[2].constraint == "integer in [1, 9]"
    assert again.candidate(again.base_key) == BASE
    assert list(again.candidate(again.base_key)) == list(BASE)


def test_a_name_is_taken_once_and_an_unknown_one_is_answered_with_those_there_are(store: Store, study: Study) -> None:
    with pytest.raises(StudyExists, match=r"resume=True"):
        store.create_study("bbh", base=BASE)
    with pytest.raises(StudyNotFound, match=r"no study 'bhb'; it has 'bbh'"):
        store.load_study("bhb")


def test_a_study_that_cannot_be_made_leaves_nothing(store: Store) -> None:
    with pytest.raises(ParameterError, match="'when'"):
        store.create_study("s", base={"when": object()})
    with pytest.raises(StoreError, match="parameter key"):
        store.create_study("s", base={"k" * 191: 1})
    assert store.studies() == []


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: "a"}, {"a": {2}}, b"x", [object()]])
def test_a_candidate_holds_only_what_json_gives_back(study: Study, value: object) -> None:
    with pytest.raises(ParameterError, match="'k'"):
        study.add_candidate({**BASE, "k": value})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a\x00b",
        "\ud800",
        "é😀\r\n\u2028",
        0.1,
        10**400,
        -0.0,
        True,
        None,
        [],
        {"a": [1, {"b": None}]},
        "x" * 300_000,
    ],
)
def test_every_json_value_comes_back_exactly(study: Study, value: object) -> None:
    key = study.add_candidate({**BASE, "k": value})
    kept = study.candidate(key)["k"]
    assert kept == value
    assert type(kept) is type(value)


def test_a_candidate_is_kept_once_and_named_by_its_content(study: Study) -> None:
    first = study.add_candidate({"b": 1, "a": "x"})
    assert study.add_candidate({"a": "x", "b": 1}) == first == candidate_key({"b": 1, "a": "x"})
    assert len({study.add_candidate({"a": value}) for value in (1, 1.0, True, "1", None)}) == 5
    with pytest.raises(StoreError, match="add the candidate first"):
        study.candidate("0" * 64)


def test_the_diff_shows_only_what_changed(study: Study) -> None:
    new = study.add_candidate({**BASE, "instructions": "Think.\n{question}", "k": 4})
    diffs = study.diff(study.base_key, new)
    assert list(diffs) == ["instructions", "k"]
    assert diffs["instructions"].splitlines()[2:] == ["@@ -1,2 +1,2 @@", "-Answer.", "+Think.", " {question}"]
    assert diffs["k"].splitlines()[-2:] == ["-3", "+4"]
    assert study.diff(new, new) == {}


def test_the_diff_tells_text_from_other_values(study: Study) -> None:
    old, new = study.add_candidate({"k": 30}), study.add_candidate({"k": "30"})
    assert study.diff(old, new)["k"].splitlines()[-2:] == ["-30", '+"30"']


@pytest.mark.parametrize("score", [0.5, 0.1 + 0.2, 1, None, math.inf, -math.inf, math.nan])
def test_an_evaluation_comes_back_as_it_was_returned(study: Study, score: float | None) -> None:
    assert study.find_evaluation(study.base_key, "val", "7") is None
    kept = study.record_evaluation(
        study.base_key,
        "val",
        "7",
        score=score,
        feedback="wrong: \ud800\x00",
        output=("4", {"p": math.nan}),
        error="ValueError: no",
        trace_json='{"nodes": []}',
        latency_s=0.5,
        usage=Usage(1, None, None, None),
    )
    found = study.find_evaluation(study.base_key, "val", "7")
    assert repr(found) == repr(kept)  # by repr: NaN is not equal to itself
    assert found.output[0] == "4"
    assert repr(found.score) == repr(None if score is None else float(score))


def test_evaluations_of_another_split_repetition_or_candidate_are_others(study: Study) -> None:
    other = study.add_candidate({**BASE, "k": 4})
    places = [
        (study.base_key, "train", "0", 0),
        (study.base_key, "val", "0", 0),
        (study.base_key, "val", "0", 1),
    ]
    for score, place in enumerate([*places, (other, "val", "0", 0)]):
        study.record_evaluation(*place, score=score)
    assert [study.find_evaluation(*place).score for place in places] == [0, 1, 2]
    assert len(study.evaluations(study.base_key)) == 3
    assert len(study.evaluations(split="val")) == 3


def test_of_two_evaluations_of_one_thing_the_first_stands(study: Study) -> None:
    first = study.record_evaluation(study.base_key, "val", "0", score=1.0)
    assert study.record_evaluation(study.base_key, "val", "0", score=0.0) == first
    assert len(study.evaluations()) == 1


def test_an_output_that_json_cannot_hold_is_kept_as_its_repr_without_addresses(study: Study) -> None:
    class Prediction:
        def __repr__(self) -> str:
            return super().__repr__()

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    kept = study.record_evaluation(study.base_key, "val", "0", score=1.0, output=Prediction())
    assert kept.output_form == "repr"
    assert kept.output.endswith("Prediction object at 0x…>")
    assert study.find_evaluation(study.base_key, "val", "0") == kept
    assert "Broken" in study.record_evaluation(study.base_key, "val", "1", score=1.0, output=Broken()).output
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert study.record_evaluation(study.base_key, "val", "2", score=1.0, output=deep).output_form == "repr"


def test_a_step_without_proposals_differs_from_none(study: Study) -> None:
    assert study.find_step(1) is None
    study.record_step(1, [])
    assert study.find_step(1).proposals == ()


def test_a_step_comes_back_with_its_rejected_proposals(study: Study) -> None:
    new = study.add_candidate({**BASE, "k": 4})
    made = [
        ProposalRecord(study.base_key, new, "optoprime", "k is small", None, "<value>4</value>"),
        ProposalRecord(study.base_key, None, "optoprime", "", "extract_answer: no def line", "sorry"),
    ]
    kept = study.record_step(1, made, usage=Usage(5, 6, None, None), meta={"paid": {"demos": math.nan}})
    assert repr(study.find_step(1)) == repr(kept)
    assert study.find_step(1).proposals == tuple(made)
    assert study.record_step(1, made).proposals == tuple(made)
    with pytest.raises(StoreError, match="step 1 is recorded already"):
        study.record_step(1, made[:1])


def test_a_step_is_kept_whole_or_not_at_all(study: Study) -> None:
    made = [ProposalRecord(study.base_key, None, "o"), ProposalRecord(study.base_key, "0" * 64, "o")]
    with pytest.raises(StoreError, match="add the candidate first"):
        study.record_step(1, made)
    assert study.find_step(1) is None


def test_a_trial_comes_back_and_may_be_repeated_but_not_changed(study: Study) -> None:
    new = study.add_candidate({**BASE, "k": 4})
    facts = {
        "origin": "optoprime",
        "score": math.nan,
        "accepted": False,
        "parents": [study.base_key],
        "step": 1,
    }
    kept = study.record_trial(1, new, **facts, metrics={"n": 5, "ci": [0.1, math.inf]})
    assert repr(study.trials()) == repr([kept])
    assert repr(study.record_trial(1, new, **facts, metrics={"n": 5, "ci": [0.1, math.inf]})) == repr(kept)
    with pytest.raises(StoreError, match="trial 1 is recorded already and differs"):
        study.record_trial(1, new, **{**facts, "score": 0.5})


def test_the_best_is_the_highest_accepted_finite_score_and_the_latest_of_equals(study: Study) -> None:
    assert study.best is None
    scores = [
        (0, 0.2, True),
        (1, 0.9, False),
        (2, math.nan, True),
        (3, math.inf, True),
        (4, 0.6, True),
        (5, 0.6, True),
    ]
    for number, score, accepted in scores:
        study.record_trial(number, study.base_key, origin="base", score=score, accepted=accepted)
    study.record_trial(6, study.base_key, origin="base", score=None, accepted=True)
    assert study.best.number == 5


def test_the_best_may_be_negative(study: Study) -> None:
    study.record_trial(0, study.base_key, origin="base", score=-3.0, accepted=True)
    assert study.best.score == -3.0


def test_calls_are_added_up_by_role_and_an_unknown_cost_is_not_zero(study: Study) -> None:
    study.record_call(call())
    study.record_call(call(usage=Usage(None, None), status="error", error="Timeout: \ud800", replies=()))
    study.record_call(call("optimizer", usage=Usage(100, 50, None, None)), keep_text=False)
    forward, optimizer = study.totals()
    assert (forward.role, forward.calls, forward.failed, forward.tokens_in, forward.tokens_out) == (
        "forward",
        2,
        1,
        10,
        2,
    )
    assert (forward.cost_usd, forward.unpriced, forward.tokens_cached) == (0.5, 1, 4)
    assert (optimizer.cost_usd, optimizer.unpriced, optimizer.tokens_in) == (None, 1, 100)


def test_events_come_back_in_order(study: Study) -> None:
    study.record_event("accepted", {"trial": 1, "path": Path("x")})
    study.record_event("stopped")
    assert [event.kind for event in study.events()] == ["accepted", "stopped"]
    assert study.events("accepted")[0].payload["trial"] == 1


def test_eight_threads_share_a_study(study: Study) -> None:
    def work(worker: int) -> None:
        for i in range(15):
            key = study.add_candidate({**BASE, "k": i})
            study.record_evaluation(key, "val", str(i), score=i, output=str(worker), usage=Usage(1, 1))
            assert study.find_evaluation(key, "val", str(i)).score == i
            study.record_call(call())

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, worker) for worker in range(8)]:
            future.result()
    assert len(study.evaluations()) == 15
    assert study.totals()[0].calls == 120


def test_the_list_of_studies_tells_their_state(store: Store, study: Study) -> None:
    def line() -> tuple[object, ...]:
        info = store.studies()[0]
        return info.name, info.state, info.trials, info.best_score

    assert line() == ("bbh", "new", 0, None)
    with study.lock("test"):
        study.record_trial(0, study.base_key, origin="base", score=0.5, accepted=True)
        study.record_trial(1, study.base_key, origin="o", score=0.7, accepted=False)
        assert line() == ("bbh", "running", 2, 0.5)
    assert line() == ("bbh", "interrupted", 2, 0.5)
    study.finish("budget")
    assert line() == ("bbh", "finished", 2, 0.5)
    assert study.finish_reason == "budget"
    with study.lock("test"):
        assert study.finish_reason is None


def test_runs_with_the_same_results_have_the_same_fingerprint(tmp_path: Path) -> None:
    def run(path: Path, order: list[str], score: float) -> str:
        with Store.open(path) as store:
            study = store.create_study("s", base=BASE)
            for example in order:
                study.record_evaluation(study.base_key, "val", example, score=1, output=object(), latency_s=len(order))
            study.record_step(1, [ProposalRecord(study.base_key, None, "o", rejected="no")])
            study.record_trial(0, study.base_key, origin="base", score=score)
            return study.fingerprint()

    first = run(tmp_path / "a.db", ["0", "1"], math.nan)
    assert first == run(tmp_path / "b.db", ["1", "0"], math.nan)
    assert first != run(tmp_path / "c.db", ["1", "0"], 0.5)


def test_an_export_holds_one_readable_file_for_each_parameter(study: Study, tmp_path: Path) -> None:
    values = {
        **BASE,
        "extract_answer": "def extract_answer(r):\n    return r.strip()\n",
        "../a/b": "x",
        "../A/b": "y",
    }
    new = study.add_candidate(values)
    study.record_trial(0, study.base_key, origin="base", score=0.2, accepted=True)
    study.record_trial(1, new, origin="optoprime", score=0.8, accepted=True, parents=[study.base_key])
    target = study.export(tmp_path / "out" / "best")
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md",
        "_A_b.txt",
        "_a_b_2.txt",
        "candidate.json",
        "extract_answer.py",
        "instructions.txt",
        "k.json",
    ]
    assert (target / "extract_answer.py").read_text() == values["extract_answer"]
    assert (target / "k.json").read_text() == "3\n"
    manifest = json.loads((target / "candidate.json").read_text())
    assert (manifest["values"], manifest["score"], manifest["study"]) == (values, 0.8, "bbh")
    readme = (target / "README.md").read_text()
    assert "**0.8**" in readme
    assert "| 0 | " in readme
    assert "+    return r.strip()" in readme


def test_an_export_replaces_an_earlier_one_and_nothing_else(study: Study, tmp_path: Path) -> None:
    target = study.export(tmp_path / "out")
    new = study.add_candidate({"only": "x"})
    study.export(target, new)
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "candidate.json", "only.txt"]
    (target / "mine.txt").write_text("keep")
    with pytest.raises(StoreError, match=r"'mine\.txt'"):
        study.export(target)
    assert (target / "mine.txt").read_text() == "keep"
    with pytest.raises(StoreError, match="got the file"):
        study.export(target / "mine.txt")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
