"""Metrics in the forms in which LangChain users have them, called as one."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from types import SimpleNamespace
from typing import Any

from trace_adapters import Feedback, MetricError, SettingError
from trace_adapters_langchain.dataset import Row, as_mapping, shown
from trace_adapters_langchain.loops import in_loop

_EVALUATORS_NAMES = {"run", "example", "inputs", "outputs", "reference_outputs", "attachments"}
_TEXTS = ("feedback", "comment", "reasoning", "explanation")


class Metric:
    """A user's metric, called with a row and an output; an async one is awaited.

    Args:
        judge: A function of (example, output); one whose arguments have the names of LangSmith's evaluators (`run`,
            `example`, `inputs`, `outputs`, `reference_outputs`, `attachments`); an object with `evaluate_run` or
            `evaluate_strings`.

    Raises:
        SettingError: If it is none of these.
    """

    def __init__(self, judge: Any) -> None:
        self.judge = judge
        self.__name__ = getattr(judge, "__name__", type(judge).__name__)
        self._call = _calling(judge)

    def __call__(self, row: Row, output: Any) -> Any:
        returned = self._call(row, output)
        return _read(in_loop(lambda: returned) if inspect.isawaitable(returned) else returned)


def as_metric(judge: Any) -> Metric:
    """A metric as one that can be called with a row; itself if it is one."""
    return judge if isinstance(judge, Metric) else Metric(judge)


def _calling(judge: Any) -> Callable[[Row, Any], Any]:
    if callable(getattr(judge, "evaluate_run", None)):
        return lambda row, output: judge.evaluate_run(_run_view(row, output), _example_view(row))
    if callable(getattr(judge, "evaluate_strings", None)):
        return lambda row, output: _call_string_evaluator(judge, row, output)
    if not callable(judge):
        raise SettingError(f"metric must be a function of (example, output) or an evaluator, got {judge!r}.")
    wanted = _wanted(judge)
    if not wanted:
        return lambda row, output: judge(row.example, output)

    def call(row: Row, output: Any) -> Any:
        views = _views(row, output)
        by_place = [views[p.name] for p in wanted if p.kind is p.POSITIONAL_ONLY]
        return judge(*by_place, **{p.name: views[p.name] for p in wanted if p.kind is not p.POSITIONAL_ONLY})

    return call


def _wanted(judge: Callable[..., Any]) -> list[inspect.Parameter]:
    """What a function asks for under LangSmith's names; nothing if it is a plain function of (example, output)."""
    try:
        parameters = inspect.signature(judge).parameters.values()
    except (TypeError, ValueError):
        return []
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = {p.name for p in named if p.default is p.empty}
    return [p for p in named if p.name in _EVALUATORS_NAMES] if required <= _EVALUATORS_NAMES else []


def _views(row: Row, output: Any) -> dict[str, Any]:
    return {
        "run": _run_view(row, output),
        "example": _example_view(row),
        "inputs": row.named_inputs,
        "outputs": as_mapping(output, "output"),
        "reference_outputs": dict(row.outputs),
        "attachments": row.attachments,
    }


def _run_view(row: Row, output: Any) -> Any:
    now, number = datetime.now(UTC), uuid.uuid4()
    facts = {"inputs": row.named_inputs, "outputs": as_mapping(output, "output"), "error": None}
    return SimpleNamespace(
        id=number, trace_id=number, name="chain", run_type="chain", start_time=now, end_time=now, extra={},
        session_id=None, child_runs=[], tags=[], metadata={}, **facts,
    )  # fmt: skip


def _example_view(row: Row) -> Any:
    if not isinstance(row.example, Mapping) and hasattr(row.example, "attachments"):
        return row.example
    own = {} if isinstance(row.example, Mapping) else vars(row.example)
    known = {"inputs": row.named_inputs, "outputs": dict(row.outputs), "attachments": row.attachments}
    return SimpleNamespace(**{"id": row.name, "metadata": {}, "dataset_id": None, **known, **own})


def _call_string_evaluator(judge: Any, row: Row, output: Any) -> Any:
    values = list(row.outputs.values())
    if getattr(judge, "requires_reference", False) and len(values) != 1:
        raise MetricError(
            f"{type(judge).__name__} compares with one reference, and the example has {list(row.outputs) or 'none'}; "
            "keep one field beside the inputs."
        )
    reference = _as_text(values[0]) if len(values) == 1 else None
    return judge.evaluate_strings(prediction=_as_text(output), reference=reference, input=_as_text(row.inputs))


def _as_text(value: Any) -> str:
    content = getattr(value, "content", value)
    if isinstance(content, Mapping) and len(content) == 1:
        (content,) = content.values()
    return content if isinstance(content, str) else shown(content)


def _read(returned: Any) -> Any:
    """What an evaluator returned, as core's metrics return it; anything that is no evaluator's form as it is."""
    if isinstance(returned, Mapping) and isinstance(returned.get("results"), Sequence):
        return _joined(returned["results"])
    if isinstance(returned, list):
        return _joined(returned)
    return _one(returned)


def _joined(results: Sequence[Any]) -> Any:
    read = [(result, Feedback.of(_one(result))) for result in results]
    scores = [one.score for _, one in read if one.score is not None]
    texts = [f"{key}: {one.text}" if (key := _field(result, "key")) else one.text for result, one in read if one.text]
    return Feedback(fmean(scores) if scores else None, "\n".join(texts)) if read else results


def _one(result: Any) -> Any:
    if isinstance(result, Feedback) or not (isinstance(result, Mapping) or hasattr(result, "score")):
        return result
    score = _field(result, "score")
    text = next((str(found) for name in _TEXTS if (found := _field(result, name))), "")
    if not text and score is None:
        text = str(_field(result, "value") or "")
    return Feedback(None if score is None else float(score), text)


def _field(result: Any, name: str) -> Any:
    return result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
