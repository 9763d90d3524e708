"""What optimize() refuses, what it names studies, and what its result may be used for."""

from __future__ import annotations

import logging
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import trace_adapters as ta
from trace_adapters.errors import AdapterError, DataError, MetricError, SettingError

NEXT = '<value name="n">\n6\n</value>'


class Five(ta.Module):
    def __init__(self) -> None:
        self.n = ta.node(5, name="n", trainable=True)

    def forward(self, q: int) -> Any:
        return self.n


def metric(example: Any, output: Any) -> float:
    return 0.0


async def judge(example: Any, output: Any) -> float:
    return 0.0


def run(tmp_path: Path, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "program": Five(),
        "trainset": [{"q": 1}],
        "metric": metric,
        "lm": ta.ScriptedLM(lambda messages: NEXT),
        "store": f"sqlite:///{tmp_path}/t.db",
        "max_steps": 1,
        "progress": False,
        **options,
    }
    return ta.optimize(**settings)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"metric": "exact"}, SettingError, "metric"),
        ({"metric": judge}, MetricError, "async"),
        ({"trainset": None}, DataError, "trainset"),
        ({"trainset": "abc"}, DataError, "trainset"),
        ({"trainset": {"q": 1}}, DataError, "trainset"),
        ({"seed": "1"}, SettingError, "seed"),
        ({"seed": 1.5}, SettingError, "seed"),
        ({"max_steps": -1}, SettingError, "max_steps"),
        ({"max_steps": "3"}, SettingError, "max_steps"),
        ({"proposals": 0}, SettingError, "proposals"),
        ({"proposals": 1.5}, SettingError, "proposals"),
        ({"full_score": "1"}, SettingError, "full_score"),
        ({"full_score": float("nan")}, SettingError, "full_score"),
        ({"objective": 5}, SettingError, "objective"),
        ({"listener": "print"}, SettingError, "listener"),
        ({"executor": 4}, SettingError, "executor"),
        ({"executor": ProcessPoolExecutor(1)}, SettingError, "executor must run jobs in this process"),
        ({"store": 5}, SettingError, "store"),
        ({"study": 5}, SettingError, "study"),
        ({"study": ""}, SettingError, "study"),
        (
            {"trainset": [{"q": 1, "id": ""}]},
            ta.DataError,
            "Example 1 of trainset cannot be kept",
        ),
        ({"trainset": [{"q": 1}, {"q": 1, "id": "x" * 200}]}, ta.DataError, "Example 2 of trainset"),
        ({"optimizer": 5}, SettingError, "optimizer"),
        ({"optimizer": ta.OptoPrime}, SettingError, "optimizer"),
        ({"valset": [{"q": 1}, {"q": 2}], "budget": 1}, SettingError, "budget of 1 .* 2 examples"),
    ],
)
def test_wrong_kinds_are_told_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        run(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [float("nan"), -1, 0, "5"])
def test_a_limit_is_a_number_above_0(limit: Any) -> None:
    with pytest.raises(SettingError, match="usd"):
        ta.Budget(usd=limit)


def test_no_steps_only_judges_the_base(tmp_path: Path) -> None:
    result = run(tmp_path, max_steps=0)
    assert [trial.origin for trial in result.study.trials()] == ["base"]


def test_a_function_is_told_how_to_name_what_it_reads(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"ta\.optimize\(ta\.wrap\(program, parameters=\[\.\.\.\]\)"):
        run(tmp_path, program=lambda q: q)


def test_a_program_with_nothing_to_train_is_named_by_its_class(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^Module has no trainable parameter"):
        run(tmp_path, program=ta.wrap(ta.Module()))


def test_a_name_that_another_run_took_meanwhile_is_not_the_users_problem(tmp_path: Path) -> None:
    """Both runs look at the names before either has one."""
    store = ta.Store.open(tmp_path / "t.db")
    look, barrier, met = store.studies, threading.Barrier(2), threading.local()

    def looked() -> Any:
        found = look()
        if not getattr(met, "once", False):
            met.once = True
            barrier.wait(10)
        return found

    store.studies = looked  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: run(tmp_path, store=store), range(2)))
    assert sorted(result.study.name for result in results) == ["Five-1", "Five-2"]
    with pytest.raises(ta.StudyExists, match="Five-1"):
        run(tmp_path, study="Five-1")


def test_the_base_says_why_it_failed(tmp_path: Path) -> None:
    """The first failure in the order of the validation set, whoever was first."""

    class Failing(Five):
        def forward(self, q: int) -> Any:
            if q:
                raise ValueError(f"no {q}")
            return self.n

    examples = [{"q": q} for q in (0, 1, 2, 3)]
    result = run(tmp_path, program=Failing(), trainset=examples, workers=4, max_steps=0)
    assert [trial.error for trial in result.study.trials()] == ["ValueError: no 1"]


def test_a_result_says_what_of_it_can_be_kept(tmp_path: Path) -> None:
    result = run(tmp_path)
    with pytest.raises(TypeError, match=r"result\.program.*result\.best"):
        pickle.dumps(result)
    assert pickle.loads(pickle.dumps(result.best)) == result.best


def test_a_model_of_unknown_price_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def oracle(prompt: str) -> str:
        return NEXT

    with caplog.at_level(logging.WARNING):
        run(tmp_path, lm=oracle, max_steps=3)
        assert caplog.messages == []
        run(tmp_path, lm=oracle, max_steps=3, budget=ta.Budget(usd=1.0, metric_calls=100))
    assert caplog.messages == ["the price of oracle is unknown: calls do not count against usd; give price= or tokens="]


def test_a_value_that_json_would_change_is_refused(tmp_path: Path) -> None:
    """A resumed run would go on with a list where the first one had a tuple."""
    with pytest.raises(ta.ParameterError, match=r"'n' would become \[1, 2\] in a study; .* lists instead of tuples"):
        run(tmp_path, program=ta.wrap(lambda q: None, parameters=[ta.node((1, 2), name="n", trainable=True)]))
    assert list(tmp_path.iterdir()) == []


def test_examples_may_come_from_a_generator_and_without_ids(tmp_path: Path) -> None:
    result = run(tmp_path, trainset=({"q": q, "id": None} for q in (1, 2)), max_steps=0)
    assert {record.example_id for record in result.study.evaluations()} == {"0", "1"}
