"""DSPy's own tools still work on programs with our parameters, before and after our optimizer."""

from __future__ import annotations

import importlib.util
import inspect
import random
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.teleprompt import BootstrapFewShot, BootstrapFewShotWithRandomSearch, LabeledFewShot

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
        self.header = tad.Text("Answer.")

    def forward(self, question: str) -> Any:
        response = self.predict(question=question).response
        return dspy.Prediction(answer=self.extract(response), response=response)


def examples(start: int, count: int) -> list[Any]:
    return [
        dspy.Example(question=f"{n} + {n}?", answer=str(2 * n)).with_inputs("question")
        for n in range(start, start + count)
    ]


def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> float:
    return float(gold.answer == pred.answer)


def answer(prompt: str) -> dict[str, str] | str:
    """Adds; as a model that writes instructions, repeats what every DSPy optimizer can read."""
    if "[[ ## question ## ]]" in prompt:
        text = prompt.rsplit("[[ ## question ## ]]", 1)[1]
        if "+" in text:
            return {"response": f"I think it is {2 * int(text.split('+')[0])}"}
    fields = [
        "proposed_instruction",
        "proposed_prefix_for_output_field",
        "natural_language_rules",
        "program_description",
    ]
    fields += ["module_description", "observations", "summary", "discussion", "module_advice"]
    return {name: "Add the numbers." for name in fields if f"[[ ## {name} ## ]]" in prompt} or "```\nAdd them.\n```"


@pytest.fixture
def lm(scripted: Any) -> Any:
    found = scripted(answer)
    with dspy.context(lm=found):
        yield found


@pytest.fixture
def learned(lm: Any) -> Any:
    """A program with a learned function and text."""
    return tad.apply(QA(), {"extract": GOOD, "header": "Answer well."})


def assert_still_learned(program: Any) -> None:
    assert isinstance(program, QA)
    assert program.extract.source == GOOD
    assert program.header == "Answer well."
    assert program(question="7 + 7?").answer == "14"


def optimizer(tmp_path: Path, **options: Any) -> Any:
    lm = ta.ScriptedLM(lambda messages: f'<value name="extract">\n{GOOD}</value>')
    store = f"sqlite:///{tmp_path / 'study.db'}"
    return tad.TraceOptimizer(metric, lm=lm, max_metric_calls=40, max_steps=2, store=store, progress=False, **options)


def test_labeled_and_bootstrap_few_shot(learned: Any) -> None:
    assert_still_learned(LabeledFewShot(k=2).compile(learned, trainset=examples(0, 4)))
    better = BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=0).compile(
        learned, trainset=examples(0, 4)
    )
    assert_still_learned(better)
    assert len(better.predict.demos) == 2


def test_random_search(learned: Any) -> None:
    teacher = BootstrapFewShotWithRandomSearch(
        metric=metric, max_bootstrapped_demos=2, max_labeled_demos=1, num_candidate_programs=2, num_threads=1
    )
    assert_still_learned(teacher.compile(learned, trainset=examples(0, 4), valset=examples(5, 2)))


def test_copro(learned: Any) -> None:
    teacher = dspy.COPRO(metric=metric, breadth=2, depth=1)
    options = {"num_threads": 1, "display_progress": False, "display_table": 0}
    assert_still_learned(teacher.compile(learned, trainset=examples(0, 3), eval_kwargs=options))


@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="MIPROv2 needs optuna")
def test_mipro(learned: Any) -> None:
    teacher = dspy.MIPROv2(
        metric=metric, auto=None, num_candidates=2, max_bootstrapped_demos=1, max_labeled_demos=1, num_threads=1
    )
    options: dict[str, Any] = {"num_trials": 2, "minibatch": False}
    if "requires_permission_to_run" in inspect.signature(teacher.compile).parameters:
        options["requires_permission_to_run"] = False
    assert_still_learned(teacher.compile(learned, trainset=examples(0, 4), valset=examples(5, 3), **options))


@pytest.mark.skipif(not hasattr(dspy, "GEPA"), reason="this version of DSPy has no GEPA")
def test_gepa(learned: Any, lm: Any) -> None:
    def wrong(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        return dspy.Prediction(score=0.5, feedback="half right")

    teacher = dspy.GEPA(metric=wrong, max_metric_calls=12, reflection_lm=lm, num_threads=1)
    assert_still_learned(teacher.compile(learned, trainset=examples(0, 3), valset=examples(5, 2)))


@pytest.mark.skipif(not hasattr(dspy, "SIMBA"), reason="this version of DSPy has no SIMBA")
@pytest.mark.skipif(importlib.util.find_spec("numpy") is None, reason="SIMBA needs numpy")
def test_simba(learned: Any, lm: Any) -> None:
    teacher = dspy.SIMBA(metric=metric, bsize=2, num_candidates=2, max_steps=1, max_demos=1, num_threads=1)
    assert_still_learned(teacher.compile(learned, trainset=examples(0, 3), seed=0))


def test_ours_after_theirs_and_theirs_after_ours(tmp_path: Path, lm: Any) -> None:
    bootstrap = BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=0)
    program = optimizer(tmp_path).compile(QA(), trainset=examples(0, 4))
    program = bootstrap.compile(program, trainset=examples(0, 4))
    assert len(program.predict.demos) == 2
    again = optimizer(tmp_path).compile(program, trainset=examples(0, 4))
    assert again.extract.source == GOOD
    assert len(again.predict.demos) == 2


def test_better_together_accepts_ours(tmp_path: Path, lm: Any) -> None:
    _need_together()
    student = QA()
    student.set_lm(lm)
    random.seed(0)
    together = dspy.BetterTogether(
        metric=metric,
        t=optimizer(tmp_path),
        b=BootstrapFewShot(metric=metric, max_bootstrapped_demos=1, max_labeled_demos=0),
    )
    best = together.compile(student, trainset=examples(0, 6), valset=examples(10, 3), strategy="t -> b -> t")
    assert best.extract.source == GOOD
    assert not best.flag_compilation_error_occurred


def test_better_together_with_few_examples(tmp_path: Path, lm: Any) -> None:
    """The validation set that it cuts off, a tenth, is empty then."""
    _need_together()
    student = QA()
    student.set_lm(lm)
    together = dspy.BetterTogether(metric=metric, t=optimizer(tmp_path))
    assert together.compile(student, trainset=examples(0, 6), strategy="t").extract.source == GOOD


def _need_together() -> None:
    parameters = inspect.signature(dspy.BetterTogether.__init__).parameters
    if "metric" not in parameters or all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        pytest.skip("BetterTogether of this version takes its own optimizers only")


def test_evaluate_and_best_of_n(learned: Any) -> None:
    evaluate = dspy.Evaluate(
        devset=examples(0, 4), metric=metric, num_threads=2, display_progress=False, display_table=False
    )
    found = evaluate(learned)
    assert float(getattr(found, "score", found)) == 100.0
    best = dspy.BestOfN(module=learned, N=2, reward_fn=lambda args, pred: 1.0, threshold=1.0)
    assert best(question="7 + 7?").answer == "14"


def test_set_lm_and_get_lm(learned: Any, scripted: Any) -> None:
    other = scripted(answer)
    learned.set_lm(other)
    assert learned.get_lm() is other
    assert_still_learned(learned)


def test_usage_tracking(learned: Any) -> None:
    if "track_usage" not in dspy.settings:
        pytest.skip("this version of DSPy does not track usage")
    with dspy.context(track_usage=True), tad.record(learned) as tape:
        prediction = learned(question="7 + 7?")
    assert prediction.answer == "14"
    assert len(tape.calls) == 2


def test_a_compiled_part_stays_frozen(lm: Any) -> None:
    class Outer(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.qa = QA()
            self.more = dspy.Predict("question -> response")

        def forward(self, question: str) -> Any:
            return self.qa(question=question)

    outer = Outer()
    outer.qa.extract.source = GOOD
    outer.qa._compiled = True
    assert list(tad.parameters(outer)) == ["more.instructions"]
    run = tad.DspyTarget(outer).run({}, examples(7, 1)[0])
    assert run.output["answer"] == "14"
