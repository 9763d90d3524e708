"""The decorator that records the calls of a function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from trace_adapters.learned import LearnedFunction, require_terms
from trace_adapters.nodes import Operation, Parameter
from trace_adapters.recording import CODE_ARGUMENT as CODE_ARGUMENT, Bundle as Bundle


@overload
def bundle(description: Callable[..., Any]) -> Bundle: ...
@overload
def bundle(
    description: str | None = None,
    *,
    trainable: bool = False,
    uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
    catch_execution_error: bool = True,
    traceable_code: bool = False,
    allow_external_dependencies: bool = True,
    overwrite_python_recursion: bool = False,
    _process_inputs: bool = True,
    name: str | None = None,
    trust: str = "sandbox",
    timeout_s: float = 5.0,
    sandbox: str | None = None,
) -> Callable[[Callable[..., Any]], Bundle]: ...
def bundle(
    description: str | Callable[..., Any] | None = None,
    *,
    trainable: bool = False,
    uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
    catch_execution_error: bool = True,
    traceable_code: bool = False,
    allow_external_dependencies: bool = True,
    overwrite_python_recursion: bool = False,
    _process_inputs: bool = True,
    name: str | None = None,
    trust: str = "sandbox",
    timeout_s: float = 5.0,
    sandbox: str | None = None,
) -> Bundle | Callable[[Callable[..., Any]], Bundle]:
    """Record the calls of a function.

    The `bundle` of Trace (arXiv 2406.16218 sec. 2). Use as `@bundle`, `@bundle(...)` or `bundle(...)(function)`.

    Args:
        description: What the function does, shown to optimizers; default its docstring. A word in brackets before
            it, as in "[add] Adds x and y", is the name shown in traces.
        trainable: Make the function's source a parameter. A source that an optimizer wrote runs in the sandbox.
        uses: Host functions that a learned source may call.
        catch_execution_error: When the function raises, record the failed call, so that feedback can flow through
            it, and raise `ExecutionError` with it as `.node`; if False, the function's own error goes through
            unrecorded.
        traceable_code: Give the function nodes instead of plain values and keep the graph of what it does inside:
            `y.inside`, `TraceGraph.expand(y)`.
        allow_external_dependencies: Whether the function may read nodes that are not among its arguments; they
            become inputs of the call.
        overwrite_python_recursion: Run recursive calls as the plain function: one node for the whole recursion.
        _process_inputs: Whether nodes become plain values for the function; if False they are passed as they are.
        name: Shown in traces, and the key of the trainable source; default the function's name.
        trust: "in-process" runs learned sources in this process.
        timeout_s: Wall-clock limit of one call of a learned source in the sandbox.
        sandbox: "auto", "strict", "bwrap" or "monty"; see `LearnedFunction`.

    Returns:
        A `Bundle`, or a decorator that makes one.

    Raises:
        CodeError: If `trainable` and the source cannot be read (lambda, builtin, made by exec, typed into a REPL).
        SettingError: If a learned source could not run on these terms; see `LearnedFunction`.
    """
    require_terms(trust, timeout_s, sandbox)

    def make(given_function: Any) -> Bundle:
        binds, function = _binding_of(given_function)
        if not callable(function):
            raise TypeError(f"bundle() takes a function, got {function!r}.")
        key = name or getattr(function, "__name__", type(function).__name__).strip("<>")
        given = description if isinstance(description, str) else inspect.getdoc(function) or ""
        tag, text = _tag_of(given) if isinstance(description, str) else ("", given)
        learned = parameter = None
        if trainable:
            learned = LearnedFunction(function, uses=uses, trust=trust, timeout_s=timeout_s, sandbox=sandbox)
            parameter = code_parameter(learned, key=key, description=text)
        return Bundle(
            function,
            Operation(name or tag or key, text),
            learned,
            parameter,
            catch_execution_error,
            passes="nodes" if not _process_inputs else "copies" if traceable_code else "values",
            binds=binds,
            closed=not allow_external_dependencies,
            plain_recursion=overwrite_python_recursion,
        )

    return make if description is None or isinstance(description, str) else make(description)


def code_parameter(learned: LearnedFunction, *, key: str, description: str = "") -> Parameter:
    """The source of a function as a parameter that refuses what cannot stand in for it."""
    return Parameter(
        learned.source.text,
        key,
        description or f"The function {learned.name}.",
        learned.constraint,
        "code",
        check=learned.check,
    )


def _binding_of(function: Any) -> tuple[str, Any]:
    """What a method is bound to, and the function of a static or class method."""
    if isinstance(function, staticmethod):
        return "nothing", function.__func__
    return ("class", function.__func__) if isinstance(function, classmethod) else ("instance", function)


def _tag_of(description: str) -> tuple[str, str]:
    """The name in brackets before a description, and the rest."""
    match = re.match(r"\s*\[([^\[\]]+)\]\s*", description)
    return (match[1].strip(), description[match.end() :]) if match else ("", description)
