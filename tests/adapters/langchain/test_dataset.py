"""Examples and metrics are taken in the forms in which LangChain users have them; a bad one is named first."""

from __future__ import annotations

import io
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

import trace_adapters as ta
from trace_adapters.extend import call_metric
from trace_adapters_langchain.dataset import Row, list_rows, read_row, shown, wanted_inputs
from trace_adapters_langchain.metrics import Metric

PROMPT = ChatPromptTemplate.from_template("{question} in {language}")
WANTED = wanted_inputs(PROMPT)


class Frame:
    """As a data frame looks from outside."""

    columns = ("question", "language", "answer")

    def to_dict(self, orient: str) -> list[dict[str, str]]:
        assert orient == "records"
        return [{"question": "q", "language": "l", "answer": "a"}]


FLAT = {"question": "q", "language": "l", "answer": "a"}
NESTED = {"inputs": {"question": "q", "language": "l"}, "outputs": {"answer": "a"}, "id": 7}


@pytest.mark.parametrize(
    "dataset", [[FLAT], [NESTED], [SimpleNamespace(**NESTED)], Frame(), iter([FLAT])], ids=lambda d: type(d).__name__
)
def test_every_form_of_a_dataset_gives_the_same_rows(dataset: Any) -> None:
    (row,) = [read_row(example, WANTED) for example in list_rows(dataset, "dataset")]
    assert row.inputs == {"question": "q", "language": "l"}
    assert row.outputs == {"answer": "a"}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_real_data_frame(library: str) -> None:
    frames = pytest.importorskip(library)
    (row,) = [read_row(example, WANTED) for example in list_rows(frames.DataFrame([FLAT]), "dataset")]
    assert row.outputs == {"answer": "a"}


def test_the_chain_never_sees_the_answer() -> None:
    assert read_row(FLAT, WANTED).inputs.keys() == {"question", "language"}


def test_an_id_is_kept() -> None:
    assert read_row(NESTED, WANTED).name == "7"
    assert read_row({**FLAT, "id": "x"}, WANTED).outputs == {"answer": "a"}


@pytest.mark.parametrize(
    ("chain", "inputs", "got"),
    [
        (PROMPT, None, {"question": "q", "language": "l"}),
        (RunnablePassthrough.assign(n=lambda row: len(row["question"])) | PROMPT, ["question"], {"question": "q"}),
        (RunnableLambda(lambda text: text), "question", "q"),
        (RunnableLambda(lambda row: row["question"]), ["question"], {"question": "q"}),
    ],
)
def test_what_a_chain_takes(chain: Any, inputs: Any, got: Any) -> None:
    assert read_row(FLAT, wanted_inputs(chain, inputs)).inputs == got


def test_a_chain_that_does_not_say_what_it_takes() -> None:
    with pytest.raises(
        ta.SettingError, match=r"Cannot tell which of question, language, answer .* inputs=\['question'\]"
    ):
        read_row(FLAT, wanted_inputs(RunnableLambda(lambda text: text)))


@pytest.mark.parametrize(
    ("example", "complaint"),
    [
        ({"q": "q", "language": "l"}, "^Example 3 lacks 'question', which the chain takes; it has 'language', 'q'"),
        ({"inputs": {"question": "q"}, "outputs": {}}, "^Example 3 lacks 'language'"),
        (("q", "a"), "^Example 3 must be a dict"),
        ("q", "^Example 3 must be a dict"),
    ],
)
def test_a_bad_row_is_named(example: Any, complaint: str) -> None:
    with pytest.raises(ta.DataError, match=complaint):
        read_row(example, WANTED, 2)


@pytest.mark.parametrize(("dataset", "complaint"), [([], "is empty"), ({"a": 1}, "must be a list"), (3, "must be")])
def test_a_bad_dataset_is_refused(dataset: Any, complaint: str) -> None:
    with pytest.raises(ta.DataError, match=complaint):
        list_rows(dataset, "dataset")


def test_text_of_an_example_is_the_same_in_every_process() -> None:
    assert shown({"b": object(), "a": 1}) == '{"a": 1, "b": "<object object at 0x…>"}'


ROW = Row(FLAT, {"question": "q"}, {"answer": "a"}, None)
WRONG = ta.Feedback(0.0, "wrong")


def plain(example: Any, output: Any) -> Any:
    assert example is FLAT
    return float(output == example["answer"])


def with_text(example: Any, prediction: Any) -> Any:
    return (float(prediction == example["answer"]), "as it is")


def langsmith_old(run: Any, example: Any) -> Any:
    return {"key": "exact", "score": run.outputs["output"] == example.outputs["answer"], "comment": "seen"}


def langsmith_new(outputs: dict, reference_outputs: dict) -> bool:
    return bool(outputs["output"] == reference_outputs["answer"])


def openevals(*, inputs: Any = None, outputs: Any = None, reference_outputs: Any = None, **kwargs: Any) -> Any:
    assert inputs == {"question": "q"}
    return {"key": "exact", "score": float(outputs["output"] == reference_outputs["answer"]), "comment": None}


def several(outputs: Any, reference_outputs: Any) -> Any:
    right = outputs["output"] == reference_outputs["answer"]
    return [{"key": "exact", "score": right, "comment": "x"}, {"key": "short", "score": 1.0, "comment": "y"}]


def mixed(example: Any, prediction: Any) -> Any:
    right = prediction == example["answer"]
    return [{"key": "exact", "score": right, "comment": "x"}, 1.0, (float(right), "y"), True, ta.Feedback(1.0, "z")]


async def awaited(outputs: Any, reference_outputs: Any) -> Any:
    return {"score": float(outputs["output"] == reference_outputs["answer"]), "comment": "seen"}


class RunEvaluator:
    def evaluate_run(self, run: Any, example: Any) -> Any:
        return SimpleNamespace(key="exact", score=run.outputs["output"] == example.outputs["answer"], comment="seen")


class StringEvaluator:
    requires_reference = True

    def evaluate_strings(self, *, prediction: str, reference: str | None = None, input: str | None = None) -> Any:
        assert input == "q"
        return {"score": float(prediction == reference), "reasoning": "seen"}


ATTACHED = {
    "picture": {"presigned_url": "https://example.org/p.png", "mime_type": "image/png", "reader": io.BytesIO(b"p")}
}


def attached_by_name(outputs: Any, attachments: dict[str, Any]) -> float:
    return float(attachments == ATTACHED and outputs == {"output": "a"})


def attached_by_place(attachments: Any, inputs: Any, outputs: Any, reference_outputs: Any, /) -> float:
    return float(
        (attachments, inputs, outputs["output"], reference_outputs)
        == (ATTACHED, {"question": "q"}, "a", {"answer": "a"})
    )


def attached_with_options(run: Any, example: Any, *, attachments: Any, least: float = 1.0, **more: Any) -> float:
    assert not more
    return least * float(example.attachments == attachments == ATTACHED and run.outputs == {"output": "a"})


def attached_alone(attachments: Any) -> bool:
    return bool(attachments == ATTACHED)


class Attached:
    async def __call__(self, example: Any, run: Any) -> dict[str, Any]:
        return {"score": float(example.attachments == ATTACHED and run.outputs == {"output": "a"})}


@pytest.mark.parametrize(
    "judge",
    [attached_by_name, attached_by_place, attached_with_options, attached_alone, Attached()],
    ids=lambda judge: getattr(judge, "__name__", type(judge).__name__),
)
@pytest.mark.parametrize("form", ["dict", "object", "langsmith"])
def test_attachments_reach_evaluators_in_every_signature(judge: Any, form: str) -> None:
    """In whatever order an evaluator names them; inputs are the example's, also if the chain gets one value."""
    facts = {"inputs": {"question": "q"}, "outputs": {"answer": "a"}, "attachments": ATTACHED}
    example: Any = facts if form == "dict" else SimpleNamespace(**facts)
    if form == "langsmith":
        example = pytest.importorskip("langsmith.schemas").Example(id=uuid.uuid4(), dataset_id=uuid.uuid4(), **facts)
    row = read_row(example, wanted_inputs(RunnableLambda(str), "question"))
    assert row.inputs == "q"
    assert call_metric(Metric(judge), row, "a").score == 1.0


@pytest.mark.parametrize("attached", [{}, {"attachments": ATTACHED}])
@pytest.mark.parametrize("kind", [dict, SimpleNamespace])
def test_langsmiths_own_wrapper_finds_all_it_reads(kind: Any, attached: Any) -> None:
    """It looks for attachments even where nobody asks for them."""
    evaluation = pytest.importorskip("langsmith.evaluation")

    @evaluation.run_evaluator
    def exact(inputs: Any, outputs: Any, reference_outputs: Any) -> bool:
        return bool((inputs, outputs["output"]) == ({"question": "q"}, reference_outputs["answer"]))

    example = kind(inputs={"question": "q"}, outputs={"answer": "a"}, **attached)
    row = read_row(example, wanted_inputs(RunnableLambda(str), "question"))
    assert [call_metric(Metric(exact), row, output).score for output in ("a", "b")] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("judge", "right", "wrong"),
    [
        (plain, ta.Feedback(1.0, ""), ta.Feedback(0.0, "")),
        (with_text, ta.Feedback(1.0, "as it is"), ta.Feedback(0.0, "as it is")),
        (langsmith_old, ta.Feedback(1.0, "seen"), ta.Feedback(0.0, "seen")),
        (langsmith_new, ta.Feedback(1.0, ""), ta.Feedback(0.0, "")),
        (openevals, ta.Feedback(1.0, ""), ta.Feedback(0.0, "")),
        (several, ta.Feedback(1.0, "exact: x\nshort: y"), ta.Feedback(0.5, "exact: x\nshort: y")),
        (mixed, ta.Feedback(1.0, "exact: x\ny\nz"), ta.Feedback(0.6, "exact: x\ny\nz")),
        (awaited, ta.Feedback(1.0, "seen"), ta.Feedback(0.0, "seen")),
        (RunEvaluator(), ta.Feedback(1.0, "seen"), ta.Feedback(0.0, "seen")),
        (StringEvaluator(), ta.Feedback(1.0, "seen"), ta.Feedback(0.0, "seen")),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_every_form_of_a_metric(judge: Any, right: ta.Feedback, wrong: ta.Feedback) -> None:
    metric = Metric(judge)
    assert (call_metric(metric, ROW, "a"), call_metric(metric, ROW, "b")) == (right, wrong)


def test_langsmiths_own_decorator() -> None:
    evaluation = pytest.importorskip("langsmith.evaluation")

    @evaluation.run_evaluator
    def exact(run: Any, example: Any) -> Any:
        return {"key": "exact", "score": run.outputs["output"] == example.outputs["answer"], "comment": "seen"}

    assert call_metric(Metric(exact), ROW, "a") == ta.Feedback(1.0, "seen")


def test_only_text_is_no_score() -> None:
    with pytest.raises(ta.MetricError, match=r"must give a score.*Feedback\(score, text\)"):
        call_metric(Metric(lambda example, output: "not so good"), ROW, "a")


def test_a_list_with_what_is_no_judgement_is_refused() -> None:
    """Of several judgements none is dropped: the mean of the others would be another score."""
    with pytest.raises(ta.MetricError, match="object"):
        call_metric(Metric(lambda example, output: [1.0, object()]), ROW, "a")


def test_a_metric_that_raises_is_named() -> None:
    def broken(example: Any, output: Any) -> float:
        return 1.0 / 0

    with pytest.raises(ta.MetricError, match="'broken' raised ZeroDivisionError"):
        call_metric(Metric(broken), ROW, "a")


def test_what_is_no_metric_is_refused() -> None:
    with pytest.raises(ta.SettingError, match="an evaluator"):
        Metric("exact")


def test_a_string_evaluator_needs_one_reference() -> None:
    row = Row(FLAT, {"question": "q"}, {"answer": "a", "why": "b"}, None)
    with pytest.raises(ta.MetricError, match=r"compares with one reference.*'answer', 'why'"):
        call_metric(Metric(StringEvaluator()), row, "a")
