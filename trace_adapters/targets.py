"""Programs as the loop sees them: plain Python here, foreign ones through their adapter."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Protocol

from trace_adapters.bundles import Bundle
from trace_adapters.code import error_place
from trace_adapters.errors import (
    AdapterError,
    BudgetExceeded,
    DataError,
    ExecutionError,
    MetricError,
    ModelError,
    SandboxUnavailable,
    StoreError,
    explain_nodes,
)
from trace_adapters.modules import Module
from trace_adapters.nodes import FailedCall, Node, Operation, Parameter, check_values, keyed, unwrap, using
from trace_adapters.showing import repr_of, str_of
from trace_adapters.threads import threads
from trace_adapters.traces import Feedback, error_name

ENTRY_POINTS = "trace_adapters"
Demonstration = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What a call was given and what it gave, as the fields of an example."""

ASYNC_METRIC = "The metric is async; make it a function that returns the score itself, e.g. by asyncio.run() inside."
_LARGEST_SCORE = 1e300  # so that every mean is finite


@dataclass(frozen=True)
class Run:
    """One run of a program on one example.

    Attributes:
        output: The plain result; None if the program failed.
        node: The output node of the trace; a `FailedCall` if the program failed.
        error: What the program raised, or None.
        demonstrations: Key of a parameter of kind "demos" -> the calls that could be shown as examples; None: those
            that read the parameter in the trace.
    """

    output: Any
    node: Node
    error: BaseException | None = None
    demonstrations: Mapping[str, Sequence[Demonstration]] | None = field(default=None, kw_only=True)


class Target(Protocol):
    """A program that can be run under a candidate.

    A target may also have `check_example(example)`, which raises `DataError` for an example that its program cannot
    take; it is asked before anything is written.

    Attributes:
        program: The user's object, never changed.
    """

    program: Any

    def parameters(self) -> dict[str, Parameter]:
        """Key -> parameter, all trainable ones, in a stable order."""
        ...

    def with_values(self, candidate: Mapping[str, Any]) -> Any:
        """An independent copy of the program with these values; `ParameterError` if they do not fit."""
        ...

    def run(self, candidate: Mapping[str, Any], example: Any) -> Run:
        """Run and record; a failure of the program is a `Run`, what is not its fault is raised (`ModelError`…)."""
        ...

    def judge(self, metric: Callable[..., Any], example: Any, run: Run) -> Feedback:
        """Call the user's metric the framework's way; `MetricError` if it fails."""
        ...

    def example_id(self, example: Any, position: int) -> str:
        """A name for the example, stable across processes."""
        ...

    def example_text(self, example: Any) -> str:
        """The example as one readable text."""
        ...


class BatchTarget(Target, Protocol):
    """A target that can run several examples of one candidate together.

    Attributes:
        batches: Whether that is worth it for this program; else each example is run by itself.
    """

    batches: bool

    def run_batch(
        self, candidate: Mapping[str, Any], examples: Sequence[Any], contexts: Sequence[Context]
    ) -> list[Run | Exception]:
        """Run and record them; what `run` gives for each, or in its place what `run` would have raised.

        Args:
            candidate: As for `run`.
            examples: Not more than there are workers.
            contexts: For each example, where its model calls are heard: `context.run(report, …)`.
        """
        ...


class PythonTarget:
    """A `Module`, a `Bundle`, or a function that reads the given parameters.

    An example is a mapping with the program's named arguments (keys that it does not name are left out, for
    the metric to use), or a pair (argument, expected value). An async program is awaited, each run in an event loop
    of its own. The metric is called as `metric(example, output)`.

    Args:
        program: What is called.
        parameters: What it reads. Default: a `Module`'s or a `Bundle`'s own.
    """

    def __init__(self, program: Callable[..., Any], parameters: Any = None) -> None:
        if not callable(program):
            raise AdapterError(f"A program must be callable, got {program!r}.")
        own = _own_parameters(program)
        if own is None and parameters is None:
            raise AdapterError(
                f"Make {program!r} a ta.Module, or say what it reads: ta.wrap(program, parameters=[...])."
            )
        self.program = program
        self._parameters = keyed(parameters) if parameters is not None else own or {}
        self._own = {key for key, parameter in self._parameters.items() if own and own.get(key) is parameter}
        arguments = _arguments_of(program)
        named = [a for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)]
        self._accepts = {a.name for a in named}
        self._needs = [a.name for a in named if a.default is a.empty]
        self._names_none = bool(arguments) and not named

    def parameters(self) -> dict[str, Parameter]:
        return {key: parameter for key, parameter in self._parameters.items() if parameter.trainable}

    def with_values(self, candidate: Mapping[str, Any]) -> Any:
        check_values(self._parameters, candidate)
        outside = self._overrides({key: value for key, value in candidate.items() if key not in self._own})
        if not isinstance(self.program, Module | Bundle):
            return _bind_values(self.program, outside)
        copied = self.program.copy() if isinstance(self.program, Module) else copy.deepcopy(self.program)
        for parameter in copied.parameters():
            if parameter.key in self._own:
                parameter.data = candidate.get(parameter.key, parameter.data)
        return _bind_values(copied, outside) if outside else copied

    def run(self, candidate: Mapping[str, Any], example: Any) -> Run:
        run = self._run(candidate, example)
        # Not the candidate's fault.
        if isinstance(run.error, BudgetExceeded | ModelError | SandboxUnavailable | StoreError):
            raise run.error
        return run

    def _run(self, candidate: Mapping[str, Any], example: Any) -> Run:
        args, kwargs = self._arguments(example)
        with using(self._overrides(candidate)):
            try:
                result = self.program(*args, **kwargs)
                if inspect.iscoroutine(result):
                    result = _await(result)
            except ExecutionError as error:
                if error.node is None:
                    return _failed_run(error)
                return Run(None, error.node, error.node.data)
            except (Exception, SystemExit) as error:
                return _failed_run(error)
        if isinstance(result, FailedCall):
            return Run(None, result, result.data)
        return Run(unwrap(result), result if isinstance(result, Node) else Node(result))

    def judge(self, metric: Callable[..., Any], example: Any, run: Run) -> Feedback:
        if run.error is not None:
            expected = example[1] if isinstance(example, tuple) and len(example) == 2 else None
            if isinstance(example, Mapping):
                expected = {k: v for k, v in example.items() if k not in self._accepts} or None
            return failure_feedback(run, expected)
        return call_metric(metric, example, run.output)

    def example_id(self, example: Any, position: int) -> str:
        given = example.get("id") if isinstance(example, Mapping) else None
        return str(position) if given is None else str(given)

    def example_text(self, example: Any) -> str:
        return repr_of(example)

    def _overrides(self, candidate: Mapping[str, Any]) -> dict[Any, Any]:
        return {self._parameters[key]: value for key, value in candidate.items() if key in self._parameters}

    def check_example(self, example: Any) -> None:
        """Refuse an example that lacks an argument of the program.

        Raises:
            DataError: Naming the argument.
        """
        if not isinstance(example, Mapping):
            return
        missing = [name for name in self._needs if name not in example]
        if missing:
            raise DataError(
                f"The program needs {', '.join(map(repr, missing))}, and an example has only {list(example)!r}; name "
                "the inputs of examples as the program names its arguments, or give pairs (input, expected)."
            )
        if self._names_none:
            raise DataError(
                "The program takes no argument by name, so its inputs cannot be told from the rest of an example; name "
                "them, beside **kwargs if need be, or give pairs (input, expected)."
            )

    def _arguments(self, example: Any) -> tuple[list[Any], dict[str, Any]]:
        if isinstance(example, Mapping):
            return [], {k: v for k, v in example.items() if k in self._accepts}
        if isinstance(example, tuple) and len(example) == 2:
            return [example[0]], {}
        return [example], {}


def wrap(program: Any, **options: Any) -> Target:
    """Find the adapter of a program's framework; a `Target` comes back as it is.

    Walks the classes of the program and loads the first adapter whose framework one of them comes from, by the
    entry points of group "trace_adapters" (name: the framework's import root; object: `wrap(program, **options)`).

    Raises:
        AdapterError: If there is no adapter and the program is no callable with parameters.
    """
    if isinstance(program, (Module, Bundle)):
        return PythonTarget(program, **options)
    if _is_target(program) and not options:
        found: Target = program
        return found
    known = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for cls in type(program).__mro__:
        point = known.get(cls.__module__.partition(".")[0])
        if point is not None:
            target: Target = getattr(point.load(), "wrap")(program, **options)  # noqa: B009
            return target
    if "parameters" in options:
        return PythonTarget(program, **options)
    names = ", ".join(sorted(known)) or "none"
    kind = f"{type(program).__module__}.{type(program).__qualname__}"
    raise AdapterError(
        f"Cannot find the parameters of a {kind}: it is no ta.Module and no bundle, and no installed adapter is for "
        f"its framework (installed: {names}). Make it a ta.Module, or say what it reads: "
        "ta.optimize(ta.wrap(program, parameters=[...]), ...)."
    )


def call_metric(metric: Callable[..., Any], *args: Any) -> Feedback:
    """Call a metric and read what it returns.

    Raises:
        MetricError: If it raises, or returns nothing that has a score with which means can be formed.
    """
    try:
        returned = metric(*args)
    except (Exception, SystemExit) as error:
        raise MetricError(
            f"The metric {getattr(metric, '__name__', metric)!r} raised {type(error).__name__}: {error}", error
        ) from error
    if inspect.iscoroutine(returned):
        returned.close()
        raise MetricError(ASYNC_METRIC)
    try:
        feedback = Feedback.of(returned)
        score = None if feedback.score is None else float(feedback.score)
    except (TypeError, ValueError) as error:
        raise MetricError(
            f"The metric must return a number, (score, text) or Feedback, got {_shown(returned)}."
        ) from error
    if score is None:
        raise MetricError(f"The metric must give a score, got only {returned!r}; return Feedback(score, text).")
    if not abs(score) <= _LARGEST_SCORE:
        raise MetricError(
            f"The metric must give a finite score, higher for better, usually from 0 to 1; got {_shown(returned)}."
        )
    return Feedback(score, feedback.text)


def failure_feedback(run: Run, expected: Any = None) -> Feedback:
    """Score 0 with what failed, where, and what was expected."""
    error = run.error
    if error is None:
        raise ValueError("failure_feedback() needs a run that failed.")
    text = f"The program failed: {error_name(error)}: {str_of(error)}"
    place = run.node.place if isinstance(run.node, FailedCall) else None
    if place is not None:
        text += f" in {run.node.name}, line {place[0]}: {place[1].strip()}"
    if expected is not None:
        text += f"\nExpected: {str_of(expected)}"
    return Feedback(0.0, text)


def _shown(returned: Any) -> str:
    if isinstance(returned, int):
        return f"an int of {returned.bit_length()} bits"
    try:
        return repr(returned)
    except Exception:  # its own, or Python's: it prints no int of more than some thousand digits
        return f"a {type(returned).__name__}"


def _is_target(program: Any) -> bool:
    return all(callable(getattr(program, name, None)) for name in ("with_values", "run", "judge", "example_id"))


def _failed_run(error: BaseException) -> Run:
    explain_nodes(error)
    return Run(None, FailedCall(error, None, "", Operation("program"), place=error_place(error)), error)


def _own_parameters(program: Any) -> dict[str, Parameter] | None:
    if isinstance(program, Module):
        return program.parameters_dict()
    return keyed(program.parameters()) if isinstance(program, Bundle) else None


def _arguments_of(program: Any) -> list[inspect.Parameter]:
    called = program.forward if isinstance(program, Module) and hasattr(program, "forward") else program
    try:
        return list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):
        return []


def _bind_values(program: Callable[..., Any], overrides: Mapping[Any, Any]) -> Callable[..., Any]:
    """A program that runs under these values, whoever calls it."""

    async def ended(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with using(overrides):
            return await coroutine

    @functools.wraps(program, updated=())
    def optimized(*args: Any, **kwargs: Any) -> Any:
        with using(overrides):
            result = program(*args, **kwargs)
        return ended(result) if inspect.iscoroutine(result) else result

    @functools.wraps(program, updated=())
    async def optimized_async(*args: Any, **kwargs: Any) -> Any:
        with using(overrides):
            return await program(*args, **kwargs)

    return optimized_async if inspect.iscoroutinefunction(program) else optimized


def _await(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with threads(1) as pool:  # this thread's loop is running; a loop cannot be entered twice
        return pool.submit(copy_context().run, asyncio.run, coroutine).result()
