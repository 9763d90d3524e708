"""A DSPy program as the optimization loop sees it."""

from __future__ import annotations

import json
import logging
import os
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dspy

from trace_adapters import (
    DataError,
    Feedback,
    ModelError,
    ModelUnavailable,
    Node,
    Parameter,
    SandboxUnavailable,
)
from trace_adapters.extend import Run, Value, check_values, unwrap
from trace_adapters_dspy import attach, shims
from trace_adapters_dspy.calling import call_program, call_signature, read_inputs
from trace_adapters_dspy.copies import shared_parts
from trace_adapters_dspy.judging import NOT_THE_PROGRAM, DspyRun, PredictorCall, judge
from trace_adapters_dspy.observe import FORWARD, Recorder, recording, unpack

logger = logging.getLogger(__name__)

_KEPT_PROGRAMS = 16
_WARNINGS = {
    "unheard": "A run of {name} called no predictor that could be heard. Not seen are `part.forward(...)`, use "
    "`part(...)`; nor calls from threads of your own, use dspy.Parallel or submit contextvars.copy_context().run.",
    "left behind": "A predictor of {name}, {detail}, ran with the instructions that it came with, not with those that "
    "were proposed: a lambda or an inner function holds the program that was copied. Make it a method, which is copied "
    "with the program.",
    "own code": "{name} failed in code of its own that is not trained: {detail}. No candidate can cure that, unless a "
    "predictor or a tad.Function caused it.",
}


class DspyTarget:
    """A `dspy.Module`; examples are `dspy.Example`s with inputs.

    Attributes:
        shared: What the program and its copies have in common, by `id`; see `copies.shared_parts`.

    Args:
        program: Never changed; copies of it run.
        train: See `attach.parameters`; one kind may stand alone.
        include: See `attach.parameters`; one glob may stand alone.
        freeze: See `attach.parameters`; one glob may stand alone.

    Raises:
        AdapterError: If `program` is no `dspy.Module`, or cannot be called.
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
        self._signature = call_signature(program)
        self._names = {one.path: one.attribute for one in attach.declared(program)}
        self.shared = shared_parts(program)
        self._overrides = shims.context_overrides()
        self._programs: OrderedDict[str, tuple[Any, dict[int | str, str]]] = OrderedDict()
        self._warned: set[str] = set()
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
        return attach.apply(self.program, candidate, shared=self.shared)

    def inputs(self, example: Any) -> dict[str, Any]:
        """The keyword arguments that an example gives to the program; lists are copies, which it may extend.

        Raises:
            DataError: If it is no example, does not say which fields are inputs, or has others than the program takes.
        """
        inputs = read_inputs(example)
        try:
            self._signature.bind(**inputs)
        except TypeError as error:
            raise DataError(
                f"{type(self.program).__name__} takes {', '.join(self._signature.parameters) or 'nothing'}, and the "
                f"example {example!r} gives it {', '.join(inputs) or 'nothing'}: {error}."
            ) from error
        return inputs

    def run(self, candidate: Mapping[str, Any], example: Any) -> Run:
        """Run one example and record it.

        Raises:
            DataError: If the example does not say which fields are inputs, or the program does not take them.
            ModelError: If a model's server, key or address is at fault.
            SandboxUnavailable: If this machine does not have the sandbox that a function asks for, or Deno, which runs
                the code of DSPy's own modules.
        """
        inputs = self.inputs(example)
        program, paths = self._program_of(candidate)
        read = {
            key: Value(candidate.get(key, parameter.data), parameter) for key, parameter in self._parameters.items()
        }
        recorder = Recorder(program, paths, read)
        given = recorder.tape.snapshots(inputs)
        error: BaseException | None = None
        output: Any = None
        with recording(recorder, {**self._overrides, "trace": []}):  # DSPy's own is one list for all threads
            try:
                output = call_program(program, inputs)
            except (Exception, SystemExit) as raised:
                error = raised
            trace = list(dspy.settings.trace or ())
        if recorder.interruption is not None:
            raise recorder.interruption
        if error is not None:
            _require_own_fault(error)
        elif not any(call.operation.language_model for call in recorder.tape.calls):
            self._warn("unheard")
        if recorder.left_behind:
            self._warn("left behind", ", ".join(sorted(recorder.left_behind)))
        node = recorder.node(given, output, error)
        is_changed = any(value.data != value.parameter.data for value in read.values())
        if error is None:
            calls = self._predictor_calls(recorder, trace)
            return DspyRun(unwrap(node), node, None, output, is_changed=is_changed, calls=calls)
        if node.operation is FORWARD and not is_changed:
            self._warn("own code", f"{type(error).__name__}: {error} ({_own_place(error)})")
        asks = node.operation is not None and node.operation.language_model
        # a predictor that got its reply and failed could not read it; before 2.6.25 the error does not say so
        return DspyRun(None, node, error, reply=shims.raw_reply(error) or (recorder.last_reply if asks else None))

    def judge(self, metric: Callable[..., Any], example: Any, run: Run) -> Feedback:
        """Call a metric of DSPy's kinds, with 2, 3 or 5 arguments; see `judging.judge`."""
        return judge(metric, example, run, self._overrides)

    def example_id(self, example: Any, position: int) -> str:
        """The example's field `id` if it has one, else its position."""
        found = example.get("id") if isinstance(example, dspy.Example) else None
        return str(position) if found is None else str(found)

    def example_text(self, example: Any) -> str:
        """The example's fields as JSON."""
        return json.dumps(unpack(example), ensure_ascii=False, sort_keys=True, default=repr)

    def _predictor_calls(self, recorder: Recorder, trace: Sequence[tuple[Any, Any, Any]]) -> list[PredictorCall]:
        found = [(recorder.path(entry[0]), entry) for entry in trace]
        return [PredictorCall(path, self._names[path], entry) for path, entry in found if path in self._names]

    def _warn(self, kind: str, detail: str = "") -> None:
        """Log a warning, the first time."""
        with self._lock:
            is_new = bool(self.program.named_predictors()) and kind not in self._warned
            self._warned.add(kind)
        if is_new:
            logger.warning("%s", _WARNINGS[kind].format(name=type(self.program).__name__, detail=detail))

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


def _require_own_fault(error: BaseException) -> None:
    """Raise what is the fault of a server or of this machine, and not of the program."""
    if isinstance(error, NOT_THE_PROGRAM):
        raise error
    if shims.is_model_missing(error):
        raise ModelUnavailable(f"A predictor has no model; dspy.configure(lm=dspy.LM(...)): {error}") from error
    if shims.is_interpreter_missing(error):
        raise SandboxUnavailable(f"The program's own interpreter is not on this machine: {error}") from error
    if shims.is_model_failure(error):
        raise ModelError(f"The program's language model failed: {type(error).__name__}: {error}") from error


def _own_place(error: BaseException) -> str:
    """File and line of the program where it failed, not of DSPy."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not frame.filename.startswith(os.path.dirname(dspy.__file__))]
    last = (outside or frames)[-1]
    return f"{last.filename}, line {last.lineno}"


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
