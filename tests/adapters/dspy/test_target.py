"""The loop can run, judge and change a DSPy program."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from typing import Any

import dspy
import pytest

import trace_adapters as ta
import trace_adapters_dspy as tad
from trace_adapters.extend import FailedCall, choosing_sandbox, record_calls


def extract(response: str) -> str:
    """Find the answer."""
    return response.split("Answer:")[1].strip()


GOOD = "def extract(response):\n    return response.split()[-1]"
WORSE = "def extract(response):\n    words = response.split()\n    return words[99]"


class QA(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> response")
        self.extract = tad.Function(extract)

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=self.extract(self.predict(question=question).response))


class OnlyAsync(QA):
    forward = None

    async def aforward(self, question: str) -> Any:
        found = await self.predict.acall(question=question)
        return dspy.Prediction(answer=found.response)


EXAMPLE = dspy.Example(question="6 * 7?", answer="42").with_inputs("question")


@pytest.fixture
def lm(scripted: Any) -> Any:
    return scripted(lambda prompt: {"response": "I say it is 42"})


@pytest.fixture
def target(lm: Any) -> Any:
    with dspy.context(lm=lm):
        yield tad.DspyTarget(QA())


def score(example: Any, prediction: Any) -> float:
    return float(example.answer == prediction.answer)


def test_wrap_finds_the_adapter(lm: Any) -> None:
    target = tad.wrap(QA(), train=["code"])
    assert list(target.parameters()) == ["extract"]
    assert target.parameters()["extract"].kind == "code"


def test_a_machine_without_the_sandbox_is_no_fault_of_the_program(target: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("trace_adapters.sandbox.pool._default", {})
    monkeypatch.setattr("trace_adapters.sandbox.starting.shutil.which", lambda _name: None)
    with choosing_sandbox("bwrap"), pytest.raises(ta.SandboxUnavailable, match="bubblewrap"):
        target.run({"extract": GOOD}, EXAMPLE)


def test_a_machine_without_dspys_own_interpreter_is_no_fault_of_the_program(lm: Any) -> None:
    class Computing(QA):
        def forward(self, question: str) -> Any:
            return dspy.PythonInterpreter(deno_command=["no-such-command"]).execute("6 * 7")

    with dspy.context(lm=lm), pytest.raises(ta.SandboxUnavailable, match="Deno"):
        tad.DspyTarget(Computing()).run({}, EXAMPLE)


def test_a_run_under_a_candidate(target: Any) -> None:
    run = target.run({"extract": GOOD}, EXAMPLE)
    assert run.error is None
    assert run.output == {"answer": "42"}
    graph = ta.propagate(run.node, "x")
    assert graph.candidate["extract"] == GOOD
    assert target.judge(score, EXAMPLE, run).score == 1.0
    assert target.program.extract.source == target.program.extract.initial


def test_a_trace_survives_json(target: Any) -> None:
    graph = ta.propagate(target.run({"extract": GOOD}, EXAMPLE).node, "x")
    again = ta.TraceGraph.from_json(graph.to_json(), target.parameters().values())
    assert again.to_json() == graph.to_json()
    assert again.parameters == graph.parameters


@pytest.mark.parametrize("candidate", [{}, {"extract": WORSE}])
def test_a_crash_is_feedback_with_its_line(target: Any, candidate: dict[str, str]) -> None:
    run = target.run(candidate, EXAMPLE)
    assert isinstance(run.error, IndexError)
    assert isinstance(run.node, FailedCall)
    feedback = target.judge(score, EXAMPLE, run)
    assert feedback.score == 0.0
    assert "IndexError" in feedback.text
    assert "answer = '42'" in feedback.text
    place = candidate.get("extract", "return response.split")
    assert ("line 3" if candidate else "split") in feedback.text, place


def test_an_unreadable_reply_is_feedback_with_the_reply(scripted: Any) -> None:
    with dspy.context(lm=scripted(lambda prompt: "I would rather not use fields.")):
        target = tad.DspyTarget(QA())
        run = target.run({}, EXAMPLE)
    feedback = target.judge(score, EXAMPLE, run)
    assert feedback.score == 0.0
    assert "rather not use fields" in feedback.text
    assert "42" in feedback.text


def gepa_metric(gold: Any, pred: Any, trace: Any, pred_name: Any, pred_trace: Any) -> Any:
    assert trace is pred_name is pred_trace is None
    return dspy.Prediction(score=0.5, feedback="half right")


def old_metric(example: Any, pred: Any, trace: Any = "wrong default") -> bool:
    assert trace is None
    return bool(example.answer == pred.answer)


def metric_with_a_setting(example: Any, pred: Any, partial: float = 0.75, trace: Any = "wrong default") -> float:
    assert trace is None
    return partial


class CallableMetric:
    def __call__(self, example: Any, pred: Any, *, program_trace: Any) -> dict[str, Any]:
        return {"score": 0.25, "feedback": f"{type(pred).__name__}"}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (gepa_metric, ta.Feedback(0.5, "half right")),
        (old_metric, ta.Feedback(1.0, "Correct.")),
        (metric_with_a_setting, ta.Feedback(0.75, "Not right. Expected: answer = '42'")),
        (score, ta.Feedback(1.0, "Correct.")),
        (CallableMetric(), ta.Feedback(0.25, "Prediction")),
        (lambda example, pred: 0.0, ta.Feedback(0.0, "Not right. Expected: answer = '42'")),
    ],
)
def test_metrics_of_every_kind(target: Any, metric: Any, expected: ta.Feedback) -> None:
    assert target.judge(metric, EXAMPLE, target.run({"extract": GOOD}, EXAMPLE)) == expected


def test_a_metric_that_fails_is_an_error_of_its_own(target: Any) -> None:
    target.program.extract.source = GOOD
    run = tad.DspyTarget(target.program).run({}, EXAMPLE)
    with pytest.raises(ta.MetricError, match="ZeroDivisionError"):
        target.judge(lambda example, pred: 1 / 0, EXAMPLE, run)
    with pytest.raises(ta.MetricError):
        target.judge(lambda example, pred: "very good", EXAMPLE, run)


class TwoSteps(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> steps")
        self.answer = dspy.Predict("steps -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(steps=self.plan(question=question).steps)


def test_a_metric_that_has_words_for_predictors_only_is_asked_for_them(scripted: Any) -> None:
    """GEPA's metrics often give the bare score unless they are asked about one predictor."""

    def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        if pred_name is None:
            assert trace is pred_trace is None
            return 0.5
        [(_predictor, inputs, prediction)] = pred_trace
        assert len(trace) == 2
        return dspy.Prediction(score=0.0, feedback=f"{pred_name} got {[*inputs]}, gave {[*prediction.keys()]}")

    def same_words(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        return 0.5 if pred_name is None else dspy.Prediction(score=0.5, feedback="too short")

    lm = scripted(lambda prompt: {"reasoning": "r", "steps": "first this"} if "question" in prompt else {"answer": "4"})
    with dspy.context(lm=lm):
        target = tad.DspyTarget(TwoSteps())
        run = target.run({}, EXAMPLE)
    assert target.judge(metric, EXAMPLE, run) == ta.Feedback(
        0.5,
        "plan: plan.predict got ['question'], gave ['reasoning', 'steps']\n"
        "answer: answer got ['steps'], gave ['answer']",
    )
    assert target.judge(same_words, EXAMPLE, run) == ta.Feedback(0.5, "too short")


def test_a_metric_is_not_asked_about_the_predictors_of_a_right_answer(target: Any) -> None:
    def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> float:
        assert pred_name is None
        return 1.0

    assert target.judge(metric, EXAMPLE, target.run({"extract": GOOD}, EXAMPLE)).text == "Correct."


def test_words_that_fail_on_a_proposed_output_leave_the_score(target: Any) -> None:
    def metric(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> float:
        return 0.5 if pred_name is None else 1 / 0

    changed = target.run({"extract": GOOD}, EXAMPLE)
    assert target.judge(metric, EXAMPLE, changed) == ta.Feedback(0.5, "Not right. Expected: answer = '42'")
    target.program.extract.source = GOOD
    with pytest.raises(ta.MetricError, match="'metric' raised ZeroDivisionError"):
        target.judge(metric, EXAMPLE, tad.DspyTarget(target.program).run({}, EXAMPLE))


NOTHING = "def extract(response):\n    return None"


def brittle(example: Any, pred: Any, trace: Any = None) -> bool:
    return bool(example.answer.lower() == pred.answer.lower())


def test_an_output_that_the_metric_cannot_read_is_the_fault_of_what_was_proposed(target: Any) -> None:
    """A proposed function may return what no metric expects: that ends no search."""
    feedback = target.judge(brittle, EXAMPLE, target.run({"extract": NOTHING}, EXAMPLE))
    assert feedback.score == 0.0
    assert "'NoneType' object has no attribute 'lower'" in feedback.text
    assert "answer = '42'" in feedback.text


def test_a_metric_that_cannot_read_the_program_as_it_came_is_at_fault(lm: Any) -> None:
    student = QA()
    student.extract.source = NOTHING
    with dspy.context(lm=lm):
        target = tad.DspyTarget(student)
        with pytest.raises(ta.MetricError, match="has no attribute 'lower'"):
            target.judge(brittle, EXAMPLE, target.run({"extract": NOTHING}, EXAMPLE))


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (lambda: RateLimitError("slow down"), ta.ModelError),
        (lambda: ta.ModelError("slow down"), ta.ModelError),
        (lambda: ta.StoreError("the disk is full, slow down"), ta.StoreError),
    ],
)
def test_a_judge_whose_server_fails_ends_the_search(target: Any, failure: Any, error: type[Exception]) -> None:
    """Neither the metric nor the candidate is at fault: the search goes on later."""

    def limited(example: Any, pred: Any) -> float:
        raise failure()

    with pytest.raises(error, match="slow down"):
        target.judge(limited, EXAMPLE, target.run({"extract": GOOD}, EXAMPLE))


def test_a_model_of_ours_that_fails_inside_the_program_ends_the_search(target: Any) -> None:
    class Asking(QA):
        def forward(self, question: str) -> Any:
            raise ta.ModelError("slow down")

    with pytest.raises(ta.ModelError, match="slow down"):
        tad.DspyTarget(Asking()).run({}, EXAMPLE)


def test_a_judge_model_is_told_apart_in_the_ledger(target: Any) -> None:
    judge = dspy.Predict("answer -> response")
    calls: list[Any] = []
    with record_calls(calls.append):
        run = target.run({"extract": GOOD}, EXAMPLE)
        target.judge(lambda example, pred: float(bool(judge(answer=pred.answer))), EXAMPLE, run)
    assert [call.role for call in calls] == ["forward", "judge"]


def test_a_listener_that_ends_the_run_is_heard(target: Any) -> None:
    def stop(call: Any) -> None:
        raise ta.BudgetExceeded("spent")

    with record_calls(stop), pytest.raises(ta.BudgetExceeded):
        target.run({"extract": GOOD}, EXAMPLE)


class RateLimitError(Exception):
    """What a client of the openai family raises."""


RateLimitError.__module__ = "litellm.exceptions"


def test_a_server_that_fails_is_not_the_programs_fault() -> None:
    class Limited(QA):
        def forward(self, question: str) -> Any:
            raise RateLimitError("slow down")

    with pytest.raises(ta.ModelError, match="slow down"):
        tad.DspyTarget(Limited()).run({}, EXAMPLE)


def test_programs_that_are_only_async(lm: Any) -> None:
    with dspy.context(lm=lm):
        target = tad.DspyTarget(OnlyAsync())
        run = target.run({}, EXAMPLE)
    assert run.output == {"answer": "I say it is 42"}
    assert [p.key for p in ta.propagate(run.node, "x").parameters] == ["predict.instructions"]


async def test_programs_that_are_only_async_inside_a_loop(lm: Any) -> None:
    with dspy.context(lm=lm):
        assert tad.DspyTarget(OnlyAsync()).run({}, EXAMPLE).error is None


def test_the_settings_of_the_block_hold_in_other_threads(target: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(target.run, {"extract": GOOD}, EXAMPLE).result()
    assert run.output == {"answer": "42"}


def test_calls_from_threads_of_ones_own_are_missed_with_a_warning(
    lm: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Threaded(QA):
        def forward(self, question: str) -> Any:
            with ThreadPoolExecutor(1) as pool:
                found = pool.submit(self.predict, question=question, lm=lm).result()
            return dspy.Prediction(answer=found.response)

    run = tad.DspyTarget(Threaded()).run({}, EXAMPLE)
    assert run.output == {"answer": "I say it is 42"}
    assert "copy_context" in caplog.text


def test_a_header_in_an_f_string_is_found(lm: Any) -> None:
    class Headed(QA):
        def __init__(self) -> None:
            super().__init__()
            self.header = tad.Text("Think step by step.")

        def forward(self, question: str) -> Any:
            return self.predict(question=f"{self.header}\n{question}")

    with dspy.context(lm=lm):
        run = tad.DspyTarget(Headed()).run({}, EXAMPLE)
    assert {p.key for p in ta.propagate(run.node, "x").parameters} == {"header", "predict.instructions"}


def test_examples_must_say_what_their_inputs_are(target: Any) -> None:
    with pytest.raises(ta.DataError, match="with_inputs"):
        target.run({}, dspy.Example(question="q", answer="a"))
    with pytest.raises(ta.DataError, match=r"dspy\.Example"):
        target.run({}, {"question": "q"})


def test_examples_must_give_what_the_program_takes(lm: Any) -> None:
    """No candidate could mend that; the whole budget would be spent on it."""
    target = tad.DspyTarget(QA())
    with pytest.raises(ta.DataError, match=r"QA takes question, and .* gives it text: .*'question'"):
        target.run({}, dspy.Example(text="6 * 7?").with_inputs("text"))
    with pytest.raises(ta.DataError, match="'hint'"):
        target.run({}, dspy.Example(question="6 * 7?", hint="42").with_inputs("question", "hint"))
    assert tad.DspyTarget(dspy.Predict("question -> answer")).inputs(EXAMPLE) == {"question": "6 * 7?"}


def test_a_program_that_fails_in_its_own_code_is_told(lm: Any, caplog: Any) -> None:
    """E.g. with what DSPy has removed: no candidate can cure it, and the budget would be spent in silence."""

    class Old(QA):
        def forward(self, question: str) -> Any:
            found = self.predict(question=question)
            dspy.Assert(len(found.response) < 5, "be brief")
            return found

    with dspy.context(lm=lm):
        runs = [tad.DspyTarget(Old())] * 2
        assert [str(target.run({}, EXAMPLE).error) for target in runs] == [
            "module 'dspy' has no attribute 'Assert'"
        ] * 2
        tad.DspyTarget(QA()).run({}, EXAMPLE)  # fails in a function that is trained
    [warning] = [record.message for record in caplog.records if record.name.startswith("trace_adapters")]
    assert "Old failed in code of its own" in warning
    assert f"has no attribute 'Assert' ({__file__}, line " in warning


def test_programs_that_cannot_be_called_are_refused() -> None:
    class Game(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.story = dspy.Predict("location -> scene")

        def tell(self, location: str) -> Any:
            return self.story(location=location)

    class Called(Game):
        def __call__(self, location: str) -> Any:
            return self.tell(location)

    with pytest.raises(ta.AdapterError, match=r"Game has neither forward\(\)"):
        tad.DspyTarget(Game())
    assert list(tad.DspyTarget(Called()).parameters()) == ["story.instructions"]


def test_what_a_program_adds_to_its_inputs_stays_out_of_the_example(lm: Any) -> None:
    """Else the next candidate would run on another example."""

    class Gathering(QA):
        def forward(self, notes: dict[str, list[str]]) -> Any:
            notes["facts"].append(self.predict(question="?").response)
            return dspy.Prediction(answer=len(notes["facts"]))

    example = dspy.Example(notes={"facts": ["it leans"]}).with_inputs("notes")
    with dspy.context(lm=lm):
        target = tad.DspyTarget(Gathering())
        assert [target.run({}, example).output["answer"] for _ in range(2)] == [2, 2]
    assert example.notes == {"facts": ["it leans"]}


def test_examples_are_named(target: Any) -> None:
    assert target.example_id(EXAMPLE, 7) == "7"
    assert target.example_id(dspy.Example(id="x1", question="q").with_inputs("question"), 7) == "x1"
    assert target.example_text(EXAMPLE) == '{"answer": "42", "question": "6 * 7?"}'


def test_values_that_are_not_trainable_are_refused(lm: Any) -> None:
    target = tad.DspyTarget(QA(), freeze=["extract"])
    with pytest.raises(ta.ParameterError, match="extract"):
        target.with_values({"extract": GOOD})


class Leaving(QA):
    def forward(self, question: str) -> Any:
        raise SystemExit(f"cannot answer {question}")


class Interrupted(QA):
    def forward(self, question: str) -> Any:
        raise KeyboardInterrupt


def test_a_program_that_ends_the_process_has_failed(lm: Any) -> None:
    with dspy.context(lm=lm):
        target = tad.DspyTarget(Leaving())
        run = target.run({}, EXAMPLE)
        assert isinstance(run.error, SystemExit)
        assert run.output is None
        assert "cannot answer 6 * 7?" in target.judge(score, EXAMPLE, run).text
        with pytest.raises(KeyboardInterrupt):
            tad.DspyTarget(Interrupted()).run({}, EXAMPLE)


@pytest.mark.parametrize("score_of", [Decimal("0.5"), Fraction(1, 2), dspy.Prediction(score=Fraction(1, 2))])
def test_every_kind_of_number_is_a_score(target: Any, score_of: Any) -> None:
    run = target.run({"extract": GOOD}, EXAMPLE)
    assert target.judge(lambda example, prediction: score_of, EXAMPLE, run).score == 0.5


@pytest.mark.parametrize("score_of", [float("nan"), dspy.Prediction(score=float("inf")), 10**400])
def test_a_score_that_cannot_be_averaged_is_refused(target: Any, score_of: Any) -> None:
    run = target.run({"extract": GOOD}, EXAMPLE)
    with pytest.raises(ta.MetricError, match="got"):
        target.judge(lambda example, prediction: score_of, EXAMPLE, run)


def test_one_kind_and_one_glob_may_stand_alone() -> None:
    assert list(tad.DspyTarget(QA(), train="code").parameters()) == ["extract"]
    assert list(tad.DspyTarget(QA(), include="extr*").parameters()) == ["extract"]
    assert "extract" not in tad.DspyTarget(QA(), freeze="extract").parameters()
