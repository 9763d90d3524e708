"""`TraceOptimizer` is a teleprompter that learns prompts and code together and leaves the student alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cloudpickle
import dspy
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad


def extract(response: str) -> str:
    """Find the answer."""
    return response.split("Answer:")[1].strip()


GOOD = "def extract(response):\n    return response.split()[-1]\n"


class QA(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> response")
        self.extract = tad.Function(extract)

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=self.extract(self.predict(question=question).response))


def examples(start: int, count: int) -> list[Any]:
    return [
        dspy.Example(question=f"{n} + {n}?", answer=str(2 * n)).with_inputs("question")
        for n in range(start, start + count)
    ]


def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
    right = gold.answer == pred.answer
    return dspy.Prediction(score=float(right), feedback="" if right else f"expected {gold.answer}")


def answer(prompt: str) -> dict[str, str]:
    """Adds right, in a form that the first `extract` cannot read."""
    number = int(prompt.split("[[ ## question ## ]]")[1].split("+")[0])
    return {"response": f"I think it is {2 * number}"}


def fix(messages: Any) -> str:
    """The optimizer's model: sees the crash, mends the function."""
    prompt = json.dumps(messages)
    assert "IndexError" in prompt
    return f'<reasoning>The reply has no "Answer:".</reasoning>\n<value name="extract">\n{GOOD}</value>'


@pytest.fixture
def lm(scripted: Any) -> Any:
    found = scripted(answer)
    with dspy.context(lm=found):
        yield found


def optimizer(tmp_path: Path, **options: Any) -> Any:
    options.setdefault("lm", ta.ScriptedLM(fix))
    options.setdefault("max_metric_calls", 60)
    options.setdefault("max_steps", 3)
    options.setdefault("num_threads", 2)
    return tad.TraceOptimizer(metric, store=f"sqlite:///{tmp_path / 'study.db'}", progress=False, **options)


def test_a_crash_is_learned_away(tmp_path: Path, lm: Any) -> None:
    student = QA()
    before = student.dump_state()
    best = optimizer(tmp_path).compile(student, trainset=examples(0, 6), valset=examples(10, 4))
    assert type(best) is QA
    assert best.extract.source == GOOD
    assert best(question="7 + 7?").answer == "14"
    assert student.dump_state() == before
    assert not getattr(best, "_compiled", False)
    assert not hasattr(student, "detailed_results")


def test_the_results_can_be_looked_at(tmp_path: Path, lm: Any) -> None:
    best = optimizer(tmp_path, study="sums").compile(QA(), trainset=examples(0, 6), valset=examples(10, 4))
    found = best.detailed_results
    assert (found.base_score, found.best_score) == (0.0, 1.0)
    assert found.best_candidate["extract"] == GOOD
    assert found.scores[0] == 0.0
    assert len(found.candidates) == len(found.scores)
    assert found.metric_calls <= 60
    assert [entry["score"] for entry in best.candidate_programs] == sorted(found.scores, reverse=True)
    assert best.candidate_programs[0]["program"].extract.source == GOOD
    with ta.Store.open(found.store) as store:
        assert len(store.load_study(found.study).trials()) >= 2


def test_the_result_is_an_ordinary_program(tmp_path: Path, lm: Any) -> None:
    best = optimizer(tmp_path).compile(QA(), trainset=examples(0, 6))
    best.save(str(tmp_path / "best.json"))
    loaded = tad.load(QA(), tmp_path / "best.json", allow_code=True)
    twins = [loaded, best.deepcopy(), cloudpickle.loads(cloudpickle.dumps(best))]
    assert [twin(question="7 + 7?").answer for twin in twins] == ["14"] * 3
    best.save(str(tmp_path / "whole"), save_program=True)
    assert dspy.load(str(tmp_path / "whole"), **_allow_pickle())(question="7 + 7?").answer == "14"


def _allow_pickle() -> dict[str, bool]:
    import inspect

    return {"allow_pickle": True} if "allow_pickle" in inspect.signature(dspy.load).parameters else {}


def test_demonstrations_are_learned_without_a_model(tmp_path: Path, lm: Any) -> None:
    def needs_demos(gold: Any, pred: Any) -> float:
        return float(gold.answer == pred.answer)

    student = QA()
    student.extract.source = GOOD
    teacher = tad.TraceOptimizer(
        needs_demos,
        optimizer="demos",
        max_metric_calls=60,
        max_steps=2,
        num_threads=1,
        store=f"sqlite:///{tmp_path / 'study.db'}",
        progress=False,
    )
    assert "predict.demos" in teacher.estimate(student, examples(0, 6)).keys
    best = teacher.compile(student, trainset=examples(0, 6), valset=examples(10, 4))
    assert best.detailed_results.base_score == 1.0


def test_the_same_seed_gives_the_same_result(tmp_path: Path, lm: Any) -> None:
    found = []
    for name, threads in (("one", 1), ("two", 4)):
        made = optimizer(tmp_path, study=name, num_threads=threads).compile(
            QA(), trainset=examples(0, 6), valset=examples(10, 4)
        )
        found.append((made.detailed_results.candidates, made.detailed_results.scores))
    assert found[0] == found[1]


def test_resume_runs_nothing_again(tmp_path: Path, lm: Any) -> None:
    first = optimizer(tmp_path, study="sums").compile(QA(), trainset=examples(0, 6), valset=examples(10, 4))
    asked = len(lm.script.prompts)
    again = optimizer(tmp_path, study="sums", resume=True).compile(
        QA(), trainset=examples(0, 6), valset=examples(10, 4)
    )
    assert len(lm.script.prompts) == asked
    assert again.detailed_results.candidates == first.detailed_results.candidates


def test_estimate_asks_nothing(tmp_path: Path, lm: Any) -> None:
    estimate = optimizer(tmp_path).estimate(QA(), examples(0, 6), examples(10, 4))
    assert (estimate.metric_calls, estimate.program_calls) == (60, 60)
    assert estimate.optimizer_calls == 3
    assert estimate.keys == ["predict.instructions", "extract"]
    assert estimate.prompt_tokens > 0
    assert "60 runs" in str(estimate)
    assert lm.script.prompts == []
    assert not (tmp_path / "study.db").exists()


def test_a_budget_may_be_a_number_of_metric_calls(tmp_path: Path, lm: Any) -> None:
    made = optimizer(tmp_path, max_metric_calls=None, budget=50)
    assert made.estimate(QA(), examples(0, 6)).metric_calls == 50
    assert made.compile(QA(), trainset=examples(0, 6)).detailed_results.metric_calls <= 50


def test_the_estimate_does_not_guess_what_an_optimizer_of_ones_own_asks(tmp_path: Path, lm: Any) -> None:
    own = ta.OptoPrime([*tad.parameters(QA()).values()], lm=ta.ScriptedLM(fix))
    assert optimizer(tmp_path, optimizer=own).estimate(QA(), examples(0, 6)).optimizer_calls is None
    assert optimizer(tmp_path, optimizer="demos").estimate(QA(), examples(0, 6)).optimizer_calls == 0


def test_a_program_without_parameters_is_told_how_to_get_some(tmp_path: Path, lm: Any) -> None:
    class Fixed(dspy.Module):  # type: ignore[misc]
        def forward(self, question: str) -> Any:
            return dspy.Prediction(answer="42")

    assert tad.parameters(Fixed()) == {}
    with tad.record(Fixed()) as tape:
        assert tape.calls == []
    with pytest.raises(ta.SettingError, match=r"Fixed has no parameters.*tad\.Function"):
        optimizer(tmp_path).compile(Fixed(), trainset=examples(0, 2))


def test_textual_gradients_learn_a_crash_away(tmp_path: Path, lm: Any) -> None:
    """The failing line is in the question about the function; the instructions are asked for, too."""
    asked = []

    def reply(messages: Any) -> str:
        text = json.dumps(messages)
        asked.append(text)
        if "Reply in exactly this form" not in text:
            return "Do not count on the word Answer."
        if 'name=\\"extract\\"' in text:
            return f'<value name="extract">\n{GOOD}</value>'
        return '<value name="predict_instructions">Add the numbers.</value>'

    better = optimizer(tmp_path, optimizer="textgrad", lm=ta.ScriptedLM(reply)).compile(
        QA(), trainset=examples(0, 6), valset=examples(10, 4)
    )
    assert better(question="20 + 20?").answer == "40"
    assert better.detailed_results.best_candidate == {"predict.instructions": "Add the numbers.", "extract": GOOD}
    assert any("# <--- IndexError" in text and "about extract" in text for text in asked)


def test_the_estimate_does_not_guess_what_textual_gradients_ask(tmp_path: Path, lm: Any) -> None:
    """Their number depends on the traces."""
    estimate = optimizer(tmp_path, optimizer=["textgrad", "demos"]).estimate(QA(), examples(0, 6), examples(10, 4))
    assert estimate.optimizer_calls is None
    assert "an unknown number of optimizer calls" in str(estimate)


def test_freeze_leaves_a_parameter_alone(tmp_path: Path, lm: Any) -> None:
    best = optimizer(tmp_path, freeze=["extract"], lm=ta.ScriptedLM(lambda messages: "nothing")).compile(
        QA(), trainset=examples(0, 3)
    )
    assert best.extract.source == best.extract.initial


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": ta.Budget(metric_calls=5)}, "not both"),
        ({"resume": True}, "study"),
        ({"max_metric_calls": 0}, "above 0"),
        ({"max_metric_calls": None, "budget": "much"}, "number of metric calls"),
    ],
)
def test_options_that_exclude_each_other(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ta.SettingError, match=message):
        optimizer(tmp_path, **options)


def test_mistakes_get_a_clear_message(tmp_path: Path, lm: Any) -> None:
    with pytest.raises(ta.SettingError, match="teacher"):
        optimizer(tmp_path).compile(QA(), trainset=examples(0, 2), teacher=QA())
    with pytest.raises(ta.DataError, match="with_inputs"):
        optimizer(tmp_path).compile(QA(), trainset=[dspy.Example(question="q", answer="a")])
    with pytest.raises(ta.DataError, match="empty"):
        optimizer(tmp_path).compile(QA(), trainset=[])
    with dspy.context(lm=None), pytest.raises(ta.ModelUnavailable, match="predict"):
        optimizer(tmp_path).compile(QA(), trainset=examples(0, 2))
    with pytest.raises(ta.SettingError, match="function"):
        tad.TraceOptimizer("accuracy")  # type: ignore[arg-type]


def test_a_program_may_bring_its_own_model(tmp_path: Path, lm: Any) -> None:
    class Bringing(QA):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, question: str) -> Any:
            with dspy.context(lm=self.model):
                return super().forward(question)

    with dspy.context(lm=None):
        best = optimizer(tmp_path).compile(Bringing(lm), trainset=examples(0, 4))
        assert best.extract.source == GOOD
        with pytest.raises(ta.ModelUnavailable, match=r"dspy\.configure"):
            optimizer(tmp_path).compile(Bringing(None), trainset=examples(0, 4))


def test_a_predictor_without_a_model_ends_the_search(tmp_path: Path, lm: Any) -> None:
    class Outside(QA):
        def __init__(self) -> None:
            super().__init__()
            self.spare = lm

    with dspy.context(lm=None), pytest.raises(ta.ModelUnavailable, match=r"dspy\.configure"):
        optimizer(tmp_path).compile(Outside(), trainset=examples(0, 4))


def test_get_params() -> None:
    made = tad.TraceOptimizer(metric, seed=3)
    assert made.get_params()["seed"] == 3
    assert made.get_params()["metric"] is metric


def test_dspys_own_model_can_be_the_optimizers(tmp_path: Path, lm: Any, scripted: Any) -> None:
    proposer = scripted(lambda prompt: f'<value name="extract">\n{GOOD}</value>')
    best = optimizer(tmp_path, lm=proposer).compile(QA(), trainset=examples(0, 4))
    assert best.extract.source == GOOD
    assert any("IndexError" in prompt for prompt in proposer.script.prompts)
    with ta.Store.open(best.detailed_results.store) as store:
        totals = {total.role: total for total in store.load_study(best.detailed_results.study).totals()}
    assert totals["optimizer"].tokens_in == 10 * len(proposer.script.prompts)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": "1"}, ta.SettingError, "seed"),
        ({"max_steps": -1}, ta.SettingError, "max_steps"),
        ({"minibatch_size": 0}, ta.SettingError, "minibatch_size"),
        ({"num_threads": -1}, ta.SettingError, "num_threads"),
        ({"num_threads": "two"}, ta.SettingError, "num_threads"),
        ({"objective": 5}, ta.SettingError, "objective"),
        ({"store": 5}, ta.SettingError, "store"),
        ({"study": 5}, ta.SettingError, "study"),
        ({"freeze": ["*"]}, ta.SettingError, "QA.*freeze"),
    ],
)
def test_wrong_kinds_are_told_before_anything_is_written(
    tmp_path: Path, lm: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    def learn(**settings: Any) -> None:
        made = tad.TraceOptimizer(metric, lm=ta.ScriptedLM(fix), progress=False, **settings)
        made.compile(QA(), trainset=examples(0, 2))

    with pytest.raises(error, match=message):
        learn(**{"store": f"sqlite:///{tmp_path / 'study.db'}", **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trainset", [None, 5, "abc"])
def test_a_training_set_that_is_none(tmp_path: Path, lm: Any, trainset: Any) -> None:
    with pytest.raises(ta.DataError):
        optimizer(tmp_path).compile(QA(), trainset=trainset)
    with pytest.raises(ta.DataError):
        optimizer(tmp_path).estimate(QA(), trainset=trainset)
    assert list(tmp_path.iterdir()) == []


def test_studies_are_numbered_by_the_class_of_the_student(tmp_path: Path, lm: Any) -> None:
    names = [
        optimizer(tmp_path, max_steps=0).compile(QA(), trainset=examples(0, 1)).detailed_results.study for _ in range(2)
    ]
    assert names == ["QA-1", "QA-2"]


def test_one_kind_and_one_glob_may_stand_alone(tmp_path: Path, lm: Any) -> None:
    assert optimizer(tmp_path, train="code").estimate(QA(), examples(0, 1)).keys == ["extract"]
    assert optimizer(tmp_path, include="extr*", optimizer="optoprime").estimate(QA(), examples(0, 1)).keys == [
        "extract"
    ]
