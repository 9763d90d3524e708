"""A DSPy program as the optimization loop sees it."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import dspy

from trace_adapters import DataError, Feedback, MetricError, ModelError, Node, Parameter, SandboxUnavailable
from trace_adapters.extend import (
    FailedCall,
    Run,
    Value,
    call_metric,
    check_values,
    failure_feedback,
    unwrap,
)
from trace_adapters_dspy import attach, shims
from trace_adapters_dspy.copies import shared_parts
from trace_adapters_dspy.observe import Recorder, recording, unpack

logger = logging.getLogger(__name__)

_KEPT_PROGRAMS = 16
_UNUSED = ("trace", "pred_name", "pred_trace", "program_trace")  # metrics take these for strict; scoring gives None
_SHOWN_REPLY = 2000  # characters of an unreadable reply in feedback


@dataclass(frozen=True)
class DspyRun(Run):
    """A run with what the program itself returned, for the metric.

    Attributes:
        prediction: Usually a `dspy.Prediction`; `output` holds its fields.
        reply: The reply of a language model that could not be read.
        is_changed: Whether the program ran with a value that it did not come with.
    """

    prediction: Any = None
    reply: str | None = None
    is_changed: bool = False


class DspyTarget:
    """A `dspy.Module`; examples are `dspy.Example`s with inputs.

    Args:
        program: Never changed; copies of it run.
        train: See `attach.parameters`; one kind may stand alone.
        include: See `attach.parameters`; one glob may stand alone.
        freeze: See `attach.parameters`; one glob may stand alone.

    Raises:
        AdapterError: If `program` is no `dspy.Module`.
        SettingError: If an option names nothing.
    """

    def __init__(
        self,
        program: Any,
        train: str | Sequence[str] = attach.TRAIN,
        include: str | Sequence[str] = ("*",),
        freeze: str | Sequence[str] = (),
    ) -> None:
        self.program = program
        self._parameters = attach.parameters(program, listed(train), listed(include), listed(freeze))
        self._shared = shared_parts(program)
        self._overrides = shims.context_overrides()
        self._programs: OrderedDict[str, tuple[Any, dict[int | str, str]]] = OrderedDict()
        self._warned = False
        self._lock = threading.Lock()

    def parameters(self) -> dict[str, Parameter]:
        """Key -> parameter."""
        return dict(self._parameters)

    def with_values(self, candidate: Mapping[str, Any]) -> Any:
        """A copy of the program with these values.

        Raises:
            ParameterError: If a value does not fit, or a key is not trainable.
        """
        check_values(self._parameters, candidate)
        return attach.apply(self.program, candidate, shared=self._shared)

    def run(self, candidate: Mapping[str, Any], example: Any) -> Run:
        """Run one example and record it.

        Raises:
            DataError: If the example does not say which fields are inputs.
            ModelError: If a model's server, key or address is at fault.
            SandboxUnavailable: If this machine does not have the sandbox that a function asks for.
        """
        inputs = read_inputs(example)
        program, paths = self._program_of(candidate)
        read = {
            key: Value(candidate.get(key, parameter.data), parameter) for key, parameter in self._parameters.items()
        }
        recorder = Recorder(program, paths, read)
        error: BaseException | None = None
        output: Any = None
        with recording(recorder, self._overrides):
            try:
                output = call_program(program, inputs)
            except (Exception, SystemExit) as raised:
                error = raised
        if recorder.interruption is not None:
            raise recorder.interruption
        if isinstance(error, ModelError | SandboxUnavailable):
            raise error
        if error is not None and shims.is_model_failure(error):
            raise ModelError(f"The program's language model failed: {type(error).__name__}: {error}") from error
        if error is None and not any(call.operation.language_model for call in recorder.tape.calls):
            self._warn_unheard()
        node = recorder.node(inputs, output, error)
        is_changed = any(value.data != value.parameter.data for value in read.values())
        if error is None:
            return DspyRun(unwrap(node), node, None, output, is_changed=is_changed)
        asks = node.operation is not None and node.operation.language_model
        # a predictor that got its reply and failed could not read it; before 2.6.25 the error does not say so
        return DspyRun(None, node, error, reply=shims.raw_reply(error) or (recorder.last_reply if asks else None))

    def judge(self, metric: Callable[..., Any], example: Any, run: Run) -> Feedback:
        """Call a metric of DSPy's kinds, with 2, 3 or 5 arguments; `trace` is None, as in scoring.

        A metric without words gets some: what was expected. An output that it cannot read is the fault of what was
        proposed, if anything was.

        Raises:
            MetricError: If the metric fails on the program as it came.
            ModelError: If the server, key or address of a model that the metric asks is at fault.
        """
        expected = _expected(example)
        if run.error is not None:
            return self._failure(run, expected)
        prediction = run.prediction if isinstance(run, DspyRun) else run.output
        with recording(Recorder(role="judge"), self._overrides) as recorder:
            asked = _Metric(metric)
            try:
                feedback = call_metric(asked, example, prediction)
            except MetricError as error:
                if asked.raised is None:
                    raise
                feedback = _unread(run, error, asked.raised, expected)
        if recorder.interruption is not None:
            raise recorder.interruption
        if feedback.text:
            return feedback
        right = feedback.score is not None and feedback.score >= 1.0
        text = "Correct." if right else f"Not right. Expected: {expected}" if expected else "Not right."
        return Feedback(feedback.score, text)

    def example_id(self, example: Any, position: int) -> str:
        """The example's field `id` if it has one, else its position."""
        found = example.get("id") if isinstance(example, dspy.Example) else None
        return str(position) if found is None else str(found)

    def example_text(self, example: Any) -> str:
        """The example's fields as JSON."""
        return json.dumps(unpack(example), ensure_ascii=False, sort_keys=True, default=repr)

    def _failure(self, run: Run, expected: str) -> Feedback:
        feedback = failure_feedback(run, expected or None)
        reply = run.reply if isinstance(run, DspyRun) else None
        if reply is None:
            return feedback
        name = run.node.name if isinstance(run.node, FailedCall) else "the program"
        text = (
            f"The reply of the language model in {name} could not be read ({type(run.error).__name__}). It must give "
            f"{_wanted_fields(run.error)}. The reply was:\n{reply[:_SHOWN_REPLY]}"
        )
        return Feedback(0.0, f"{text}\nExpected: {expected}" if expected else text)

    def _warn_unheard(self) -> None:
        if self._warned or not self.program.named_predictors():
            return
        self._warned = True
        logger.warning(
            "A run of %s called no predictor that could be heard. Not seen are `part.forward(...)`, use `part(...)`; "
            "nor calls from threads of your own, use dspy.Parallel or submit contextvars.copy_context().run.",
            type(self.program).__name__,
        )

    def _program_of(self, candidate: Mapping[str, Any]) -> tuple[Any, dict[int | str, str]]:
        """The copy for a candidate with its paths: one serves all its examples, as in DSPy's own evaluation."""
        key = json.dumps(dict(candidate), sort_keys=True, ensure_ascii=False)
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                copied = self.with_values(candidate)
                program = self._programs[key] = (copied, attach.paths(copied))
                while len(self._programs) > _KEPT_PROGRAMS:
                    self._programs.popitem(last=False)
            else:
                self._programs.move_to_end(key)
            return program


def wrap(program: Any, **options: Any) -> DspyTarget:
    """The target of a DSPy program; the entry point that `ta.wrap` finds."""
    return DspyTarget(program, **options)


def listed(texts: str | Sequence[str]) -> tuple[str, ...]:
    """Texts as they are; one that stands alone as the only one."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def read_inputs(example: Any) -> dict[str, Any]:
    """The keyword arguments that an example gives to a program.

    Raises:
        DataError: If it is no example, or does not say which fields are inputs.
    """
    if not isinstance(example, dspy.Example):
        raise DataError(f"Expected a dspy.Example, got {example!r}.")
    try:
        return dict(example.inputs().items())
    except ValueError as error:
        raise DataError(
            f"The example {example!r} does not say which fields are inputs; use example.with_inputs('question', ...)."
        ) from error


def call_program(program: Any, inputs: Mapping[str, Any]) -> Any:
    """Call a program; one that has only `aforward` runs in an event loop of its own."""
    has_forward = getattr(type(program), "forward", None) is not None
    if has_forward or getattr(type(program), "aforward", None) is None:
        return program(**inputs)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(program.acall(**inputs))
    overrides = shims.context_overrides()

    def run() -> Any:
        with dspy.context(**overrides):
            return asyncio.run(program.acall(**inputs))

    with ThreadPoolExecutor(1) as pool:  # this thread's loop is running; a loop cannot be entered twice
        return pool.submit(copy_context().run, run).result()


def _unread(run: Run, error: MetricError, raised: BaseException, expected: str) -> Feedback:
    """The feedback on an output that the metric could not read, if what was proposed is at fault."""
    if isinstance(raised, ModelError):
        raise raised
    if shims.is_model_failure(raised):
        raise ModelError(f"A model that the metric asks failed: {type(raised).__name__}: {raised}") from raised
    if not (isinstance(run, DspyRun) and run.is_changed):
        raise error
    text = f"The output could not be judged. {error}"
    return Feedback(0.0, f"{text}\nExpected: {expected}" if expected else text)


class _Metric:
    """Calls a metric with as many arguments as it takes.

    Attributes:
        raised: What the metric raised.
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        self._metric = metric
        self.raised: BaseException | None = None
        self.__name__ = getattr(metric, "__name__", type(metric).__name__)

    def __call__(self, example: Any, prediction: Any) -> Any:
        places, names = self._further_arguments()
        try:
            return self._metric(example, prediction, *places, **names)
        except (Exception, SystemExit) as error:
            self.raised = error
            raise

    def _further_arguments(self) -> tuple[list[None], dict[str, None]]:
        try:
            parameters = list(inspect.signature(self._metric).parameters.values())
        except (TypeError, ValueError):
            return [], {}
        others = [p for p in parameters[2:] if p.default is p.empty or p.name in _UNUSED]
        places = [None for p in others if p.kind is p.POSITIONAL_ONLY]
        names = {p.name: None for p in others if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        return places, names


def _expected(example: Any) -> str:
    labels = {name: value for name, value in example.labels().items() if name != "id"}
    return ", ".join(f"{name} = {value!r}" for name, value in labels.items())


def _wanted_fields(error: BaseException | None) -> str:
    signature = getattr(error, "signature", None)
    return f"the fields {', '.join(signature.output_fields)}" if signature is not None else "the signature's fields"


class Recording:
    """What a program did in a `record` block."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def calls(self) -> list[Any]:
        """The recorded calls, in the order in which they ended."""
        return list(self._recorder.tape.calls)

    def node(self) -> Node:
        """The output of the last run as a node, with everything that led to it; a failed call if it raised."""
        recorder = self._recorder
        return recorder.node(recorder.inputs, recorder.output, recorder.error)


@contextmanager
def record(program: Any) -> Iterator[Recording]:
    """Record what a program does in the block, to look at it.

    `with tad.record(program) as tape: program(question="…")`, then `tape.calls` or `tape.node()`.
    """
    found = attach.parameters(program, attach.KINDS)
    read = {key: Value(parameter.data, parameter) for key, parameter in found.items()}
    with recording(Recorder(program, attach.paths(program), read)) as recorder:
        yield Recording(recorder)
