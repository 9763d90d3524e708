"""What a running DSPy program does, written on a tape through DSPy's own callbacks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

import dspy
import pydantic

from trace_adapters import Node
from trace_adapters.extend import Operation, Question, Reply, Tape, Usage, Value, error_place, report
from trace_adapters_dspy import shims

SETTING = "trace_adapters_recorder"
FORWARD = Operation("forward", "The program's own code, which calls the others.")
_PRIVILEGED = ("signature", "demos", "config", "lm", "_trace", "new_signature")
_MEDIA = ("Image", "Audio", "File", "Document")

# DSPy's threads get the settings of `dspy.context`, tasks get the ContextVar: each is right where the other is not.
_here: ContextVar[Recorder | None] = ContextVar("trace_adapters_dspy_recorder", default=None)


class Recorder:
    """One run of a program: its tape, the paths of its parameters, and the values that it runs with.

    Attributes:
        inputs: What the program was called with, the last time, as it was then.
        output: What it returned.
        error: What it raised.
        last_reply: What a language model answered last.
        left_behind: Paths of predictors that ran with other instructions than `values` has: those of the program that
            was copied, which a closure still holds.
        interruption: What a listener of the ledger raised; callbacks cannot end a run, so the caller must.

    Args:
        program: The module that will be called.
        paths: `id` and, where unique, `stage` of a predictor, a `Text` or a `Function` -> its short path.
        values: Parameter key -> the value in force.
        role: What the model calls are for, in the ledger.
    """

    def __init__(
        self,
        program: Any = None,
        paths: Mapping[int | str, str] | None = None,
        values: Mapping[str, Value] | None = None,
        role: str = "forward",
    ) -> None:
        self.program = program
        self.tape = Tape(unpack)
        self.values = dict(values or {})
        self.left_behind: set[str] = set()
        self.interruption: BaseException | None = None
        self._paths = dict(paths or {})
        self._role = role
        self._calls: dict[str, Any] = {}
        self._model_calls: dict[str, tuple[float, float, Any, Mapping[str, Any]]] = {}
        self._operations: dict[str, Operation] = {}
        self._context = copy_context()
        self._root_id: str | None = None
        self.inputs: dict[str, Any] = {}
        self.output: Any = None
        self.error: BaseException | None = None
        self.last_reply: str | None = None

    def path(self, declared: Any) -> str | None:
        """The path of a predictor, a `Text` or a `Function`; copies made while the program runs are found by stage."""
        found = self._paths.get(id(declared))
        return self._paths.get(getattr(declared, "stage", None) or "") if found is None else found

    def start(
        self,
        call_id: str,
        operation: Operation,
        inputs: Mapping[str, Any],
        parameters: Sequence[tuple[str, Value]] = (),
        *,
        group: bool = False,
    ) -> None:
        """Note that a call begins inside the one that runs here."""
        parent = self._calls.get(shims.active_call_id() or "")
        self._calls[call_id] = self.tape.start(operation, inputs, parameters, parent=parent, group=group)

    def end(self, call_id: str, output: Any, error: BaseException | None, place: Any = None) -> None:
        """Note that a call has ended."""
        if call_id == self._root_id:
            self.output, self.error = output, error
        call = self._calls.get(call_id)
        if call is not None:
            self.tape.end(call, output, error=error, place=place)

    def start_module(self, call_id: str, module: Any, inputs: Mapping[str, Any]) -> None:
        """Note a predictor's call, or one of a module that is made of others."""
        given = dict(inputs.get("kwargs") or {})
        is_root = module is self.program and shims.active_call_id() not in self._calls
        if is_root:
            self._root_id, self.inputs = call_id, self.tape.snapshots(given)
        if isinstance(module, dspy.Predict):
            self.last_reply = None
            fields = {name: value for name, value in given.items() if name not in _PRIVILEGED}
            self.start(call_id, self._predictor_operation(module), fields, self._predictor_values(module, given))
        elif not is_root:
            given = {f"argument_{n}": value for n, value in enumerate(inputs.get("args") or ())} | given
            name = self.path(module) or type(module).__name__
            self.start(call_id, Operation(_identifier(name)), given, group=True)

    def _predictor_values(self, predictor: Any, given: Mapping[str, Any]) -> list[tuple[str, Value]]:
        path = self.path(predictor)
        if path is None:
            return []
        text = self.values.get(key_of(path, "instructions"))
        if text is not None and text.data not in predictor.signature.instructions:
            self.left_behind.add(path)
            return []
        replaced = {"instructions": _has_other_instructions(predictor, given), "demos": "demos" in given}
        kinds = [kind for kind, is_replaced in replaced.items() if not is_replaced]
        found = [(f"__{kind}__", self.values.get(key_of(path, kind))) for kind in kinds]
        return [(name, value) for name, value in found if value is not None]

    def _predictor_operation(self, predictor: Any) -> Operation:
        path = self.path(predictor)
        known = self._operations.get(path) if path is not None else None
        if known is None:
            name = _identifier(path or "predict")
            known = Operation(name, describe_signature(predictor.signature), language_model=True)
            if path is not None:
                self._operations[path] = known
        return known

    def node(self, inputs: Mapping[str, Any], output: Any, error: BaseException | None) -> Node:
        """The output node of the run, with everything that led to it."""
        texts = [value for key, value in self.values.items() if key in self._paths.values()]
        return self.tape.node(
            output,
            inputs=inputs,
            values=[value for value in texts if value.parameter.kind == "text"],
            error=error,
            place=None if error is None else error_place(error),
            operation=FORWARD,
        )

    def start_model_call(self, call_id: str, inputs: Mapping[str, Any], lm: Any) -> None:
        """Note that a language model is asked."""
        self._model_calls[call_id] = (time.time(), time.perf_counter(), lm, inputs)

    def end_model_call(self, call_id: str, outputs: Any, error: BaseException | None) -> None:
        """Report a call of a language model to the ledger of the context in which the run began."""
        created, started, lm, inputs = self._model_calls.pop(call_id)
        latency = time.perf_counter() - started
        entry = shims.find_history_entry(lm, outputs) or {}
        cached = shims.was_cached(lm, entry)
        question = Question(self._role, str(getattr(lm, "model", lm)), _messages(inputs, entry), _options(inputs))
        replies = _replies(question.model, outputs, entry, latency, cached)
        self.last_reply = replies[0].text if replies else self.last_reply
        failure = error if isinstance(error, Exception) or error is None else RuntimeError(str(error))
        try:
            self._context.copy().run(report, question, replies, created, latency, error=failure, cached=cached)
        except Exception as stop:
            self.interruption = self.interruption or stop


class Dispatcher(shims.BaseCallback):  # type: ignore[misc]
    """The one callback: hands DSPy's events to the recorder of the run that they belong to, if there is one."""

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        recorder = active()
        if recorder is None:
            return
        if shims.is_language_model(instance):
            recorder.start_model_call(call_id, inputs, instance)
        else:
            recorder.start_module(call_id, instance, inputs)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        recorder = active()
        if recorder is None:
            return
        if call_id in recorder._model_calls:
            recorder.end_model_call(call_id, outputs, exception)
        else:
            recorder.end(call_id, outputs, exception)

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        recorder = active()
        if recorder is not None:
            recorder.start_model_call(call_id, inputs, instance)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        recorder = active()
        if recorder is not None and call_id in recorder._model_calls:
            recorder.end_model_call(call_id, outputs, exception)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        recorder = active()
        if recorder is not None:
            operation = Operation(_identifier(str(instance.name)), str(instance.desc or ""))
            recorder.start(call_id, operation, dict(inputs.get("kwargs") or {}), group=True)

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        recorder = active()
        if recorder is not None:
            recorder.end(call_id, outputs, exception)


DISPATCHER = Dispatcher()


def active() -> Recorder | None:
    """The recorder of the run that this thread or task belongs to."""
    found: Recorder | None = _here.get() or dspy.settings.get(SETTING)
    return found


@contextmanager
def recording(recorder: Recorder, overrides: Mapping[str, Any] | None = None) -> Iterator[Recorder]:
    """Let a recorder hear all that DSPy programs do in the block, in the threads and tasks begun there too.

    Args:
        recorder: Takes the events.
        overrides: Settings for `dspy.context`, e.g. those of the thread that began the work.
    """
    token = _here.set(recorder)
    chosen = dict(overrides or {})
    callbacks = list(chosen.pop("callbacks", None) or dspy.settings.get("callbacks") or [])
    if DISPATCHER not in callbacks:
        callbacks.append(DISPATCHER)
    try:
        with dspy.context(**{**chosen, "callbacks": callbacks, SETTING: recorder}):
            yield recorder
    finally:
        _here.reset(token)


class OpenCall:
    """A call of a declared text or function that is running."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._inputs = inputs
        self.output: Any = None

    def returned(self, output: Any) -> Any:
        """Note what the call returns. A text that was only passed through becomes an object of its own."""
        if type(output) is str and len(output) > 1 and any(output is value for value in self._inputs.values()):
            output = output[:1] + output[1:]  # else later uses of the argument would count as uses of this result
        self.output = output
        return output


class _Unrecorded:
    """Stands for an open call where nothing is recorded."""

    def __enter__(self) -> _Unrecorded:
        return self

    def __exit__(self, *_: object) -> None: ...

    @staticmethod
    def returned(output: Any) -> Any:
        return output


UNRECORDED = _Unrecorded()


@contextmanager
def calling(
    operation: Operation, inputs: Mapping[str, Any], read: tuple[str, Any], source: Any = None
) -> Iterator[OpenCall | _Unrecorded]:
    """Record the call of a declared text or function, if a run is being recorded here.

    Args:
        operation: What is called.
        inputs: Argument name -> value.
        read: Argument name under which the declared object's value stands in the trace, and the object.
        source: The declared function's own source, to find failing lines in it.
    """
    recorder = active()
    if recorder is None:
        yield UNRECORDED
        return
    name, declared = read
    value = recorder.values.get(recorder.path(declared) or "")
    call_id, call = uuid.uuid4().hex, OpenCall(inputs)
    recorder.start(call_id, operation, inputs, [(name, value)] if value is not None else [])
    before = shims.set_active_call_id(call_id)
    try:
        yield call
    except BaseException as error:
        recorder.end(call_id, None, error, error_place(error, source) or error_place(error))
        raise
    finally:
        shims.set_active_call_id(before)
    recorder.end(call_id, call.output, None)


def key_of(path: str, kind: str) -> str:
    """The key of a predictor's parameter; the only predictor of a program has an empty path."""
    return f"{path}.{kind}" if path else kind


@dataclass(frozen=True)
class _ShownTool:
    """Stands for a tool: its code has an address, and its name, as a text, would be found in every call of it."""

    name: str
    desc: str

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, {self.desc!r})"


def unpack(value: Any) -> Any:
    """What a value of DSPy's or pydantic's is made of; tools without code, pictures and sounds as a note."""
    if isinstance(value, dspy.Example | dspy.Prediction):
        return dict(value.items())
    if isinstance(value, dspy.Tool):
        return _ShownTool(str(value.name), str(value.desc or ""))
    if isinstance(value, pydantic.BaseModel):
        kind = type(value).__name__
        if kind in _MEDIA:
            return f"<{kind}>"
        return {name: getattr(value, name) for name in type(value).model_fields}
    return value


def describe_signature(signature: Any) -> str:
    """`question, context -> answer`."""
    return f"{', '.join(signature.input_fields)} -> {', '.join(signature.output_fields)}"


def _has_other_instructions(predictor: Any, given: Mapping[str, Any]) -> bool:
    """Whether a call was given instructions of its own; programs also extend those of the predictor for one call."""
    own, first = predictor.signature, predictor.signature.instructions.partition("\n")[0]
    return first not in getattr(given.get("signature", own), "instructions", "")


def _identifier(path: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in path).strip("_") or "predict"


def _messages(inputs: Mapping[str, Any], entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    asked = shims.asked_messages(inputs) or shims.asked_messages(entry)
    return asked or [{"role": "user", "content": str(inputs.get("prompt"))}]


def _options(inputs: Mapping[str, Any]) -> dict[str, Any]:
    plain = (str, int, float, bool)
    given = dict(inputs.get("kwargs") or {})
    return {name: value for name, value in given.items() if isinstance(value, plain) and not name.startswith("api_")}


def _replies(model: str, outputs: Any, entry: Mapping[str, Any], latency_s: float, cached: bool) -> list[Reply]:
    if not isinstance(outputs, Sequence) or isinstance(outputs, str):
        outputs = [] if outputs is None else [outputs]  # a typed call returns one response
    replies = []
    for number, output in enumerate(outputs):
        text = output.get("text") if isinstance(output, Mapping) else getattr(output, "text", output)
        of_call = number == 0 and not cached  # DSPy says one usage for all replies of a call
        nothing = Usage(0, 0, 0, 0.0) if cached else Usage(None, None, None, 0.0)
        usage = Usage(**shims.read_usage(entry), cost_usd=shims.read_cost(entry)) if of_call else nothing
        replies.append(Reply("" if text is None else str(text), usage, model, None, latency_s, cached))
    return replies
