"""How a DSPy program is called: with what, and in which event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from contextvars import copy_context
from typing import Any

import dspy

from trace_adapters import AdapterError, DataError
from trace_adapters.extend import threads
from trace_adapters_dspy import shims


def read_inputs(example: Any) -> dict[str, Any]:
    """The keyword arguments of an example; lists are copies, which the program may extend.

    Raises:
        DataError: If it is no example, or does not say which fields are inputs.
    """
    if not isinstance(example, dspy.Example):
        raise DataError(f"Expected a dspy.Example, got {example!r}.")
    try:
        return {name: _own(value) for name, value in example.inputs().items()}
    except ValueError as error:
        raise DataError(
            f"The example {example!r} does not say which fields are inputs; use example.with_inputs('question', ...)."
        ) from error


def call_signature(program: Any) -> inspect.Signature:
    """What a program may be called with; anything if that cannot be known.

    Raises:
        AdapterError: If the program has neither `forward` nor `aforward`.
    """
    kind = type(program)
    anything = inspect.Signature([inspect.Parameter("inputs", inspect.Parameter.VAR_KEYWORD)])
    if kind.__call__ is not dspy.Module.__call__:
        return anything
    name = "forward" if getattr(kind, "forward", None) is not None else "aforward"
    try:
        return inspect.signature(object.__getattribute__(program, name))  # DSPy warns of other ways to get it
    except AttributeError:
        raise AdapterError(
            f"{kind.__name__} has neither forward() nor aforward(), by which a dspy.Module is called."
        ) from None
    except (TypeError, ValueError):
        return anything


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

    with threads(1) as pool:  # this thread's loop is running; a loop cannot be entered twice
        return pool.submit(copy_context().run, run).result()


def _own(value: Any) -> Any:
    if type(value) is dict:
        return {key: _own(item) for key, item in value.items()}
    if type(value) in (list, set):
        return type(value)(map(_own, value))
    return value
