"""What a run of a DSPy program is worth: metrics of DSPy's kinds, and words where they have none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trace_adapters import BudgetExceeded, Feedback, MetricError, ModelError, SandboxUnavailable, StoreError
from trace_adapters.extend import FailedCall, Run, call_metric, failure_feedback
from trace_adapters_dspy import shims
from trace_adapters_dspy.observe import Recorder, recording

NOT_THE_PROGRAM = (BudgetExceeded, ModelError, SandboxUnavailable, StoreError)
"""Errors of which neither the program nor a metric is the cause."""

_UNUSED = ("trace", "pred_name", "pred_trace", "program_trace")  # metrics take these for strict; scoring gives None
_SHOWN_REPLY = 2000  # characters of an unreadable reply in feedback


@dataclass(frozen=True)
class PredictorCall:
    """A call of a predictor as DSPy's metrics are told of it.

    Attributes:
        path: Of the predictor, as in keys.
        name: Of the predictor, as `named_predictors` has it.
        entry: (predictor, inputs, prediction).
    """

    path: str
    name: str
    entry: tuple[Any, Any, Any]


@dataclass(frozen=True)
class DspyRun(Run):
    """A run with what the program itself returned, for the metric.

    Attributes:
        prediction: Usually a `dspy.Prediction`; `output` holds its fields.
        reply: The reply of a language model that could not be read.
        is_changed: Whether the program ran with a value that it did not come with.
        calls: The predictors' calls, in order.
    """

    prediction: Any = None
    reply: str | None = None
    is_changed: bool = False
    calls: Sequence[PredictorCall] = ()


def judge(metric: Callable[..., Any], example: Any, run: Run, overrides: Mapping[str, Any]) -> Feedback:
    """Call a metric; one without words gets some: what was expected.

    Args:
        metric: Takes (example, prediction), or GEPA's five arguments, or anything between.
        example: A `dspy.Example`.
        run: Of this example.
        overrides: Settings for `dspy.context`.

    Raises:
        MetricError: If the metric fails on the program as it came, or gives no score.
        ModelError: If the server, key or address of a model that the metric asks is at fault.
    """
    expected = _expected(example)
    if run.error is not None:
        return _with_expected(_failure(run), expected)
    prediction = run.prediction if isinstance(run, DspyRun) else run.output
    asked = _Metric(metric)
    with recording(Recorder(role="judge"), {**overrides, "trace": []}) as recorder:
        try:
            feedback = call_metric(asked, example, prediction)
        except MetricError as error:
            _require_proposed(run, error)
            feedback = _with_expected(Feedback(0.0, f"The output could not be judged. {error}"), expected)
        is_right = feedback.score is not None and feedback.score >= 1.0
        if not feedback.text and not is_right and asked.tells_predictors and isinstance(run, DspyRun):
            feedback = Feedback(feedback.score, _words(metric, example, run))
    if recorder.interruption is not None:
        raise recorder.interruption
    if feedback.text:
        return feedback
    text = "Correct." if is_right else f"Not right. Expected: {expected}" if expected else "Not right."
    return Feedback(feedback.score, text)


class _Metric:
    """Calls a metric with as many arguments as it takes.

    Args:
        metric: The user's.
        about: What GEPA says when it asks about one predictor, by the names of its arguments.

    Attributes:
        tells_predictors: Whether it can be asked about one predictor.
    """

    def __init__(self, metric: Callable[..., Any], **about: Any) -> None:
        self._metric = metric
        self.__name__ = getattr(metric, "__name__", type(metric).__name__)
        try:
            further = list(inspect.signature(metric).parameters.values())[2:]
        except (TypeError, ValueError):
            further = []
        named = [p for p in further if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        taken = [p.name for p in named if p.default is p.empty or p.name in _UNUSED]
        self._further = {name: about.get(name) for name in taken}
        self.tells_predictors = "pred_name" in taken

    def __call__(self, example: Any, prediction: Any) -> Any:
        return self._metric(example, prediction, **self._further)


def _words(metric: Callable[..., Any], example: Any, run: DspyRun) -> str:
    """What a metric of GEPA's says of each predictor, when it says nothing of the whole; "" if nothing."""
    trace = [call.entry for call in run.calls]
    told: dict[str, str] = {}
    for path, name in dict.fromkeys((call.path, call.name) for call in run.calls):
        own = [call.entry for call in run.calls if call.path == path]
        asked = _Metric(metric, trace=trace, pred_name=name, pred_trace=own)
        try:
            told[path] = call_metric(asked, example, run.prediction).text
        except MetricError as error:
            _require_proposed(run, error)
    texts = [text for text in dict.fromkeys(told.values()) if text]
    if len(texts) <= 1:
        return "".join(texts)
    return "\n".join(f"{path}: {text}" for path, text in told.items() if text)


def _require_proposed(run: Run, error: MetricError) -> None:
    """Raise unless the metric could not read the output of something that was proposed, which may be anything."""
    raised = error.raised
    if isinstance(raised, NOT_THE_PROGRAM):
        raise raised
    if raised is not None and shims.is_model_failure(raised):
        raise ModelError(f"A model that the metric asks failed: {type(raised).__name__}: {raised}") from raised
    if raised is None or not (isinstance(run, DspyRun) and run.is_changed):
        raise error


def _failure(run: Run) -> Feedback:
    reply = run.reply if isinstance(run, DspyRun) else None
    if reply is None:
        return failure_feedback(run)
    name = run.node.name if isinstance(run.node, FailedCall) else "the program"
    signature = getattr(run.error, "signature", None)
    wanted = "the signature's fields" if signature is None else f"the fields {', '.join(signature.output_fields)}"
    return Feedback(
        0.0,
        f"The reply of the language model in {name} could not be read ({type(run.error).__name__}). It must give "
        f"{wanted}. The reply was:\n{reply[:_SHOWN_REPLY]}",
    )


def _with_expected(feedback: Feedback, expected: str) -> Feedback:
    return Feedback(feedback.score, f"{feedback.text}\nExpected: {expected}") if expected else feedback


def _expected(example: Any) -> str:
    labels = {name: value for name, value in example.labels().items() if name != "id"}
    return ", ".join(f"{name} = {value!r}" for name, value in labels.items())
