"""Copies of DSPy programs."""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import dspy

from trace_adapters import AdapterError
from trace_adapters_dspy import shims

_RESULTS = ("candidate_programs", "detailed_results")


def copy_program(program: Any, shared: Mapping[int, Any] | None = None) -> Any:
    """A deep copy that begins with an empty history; only what `shared_parts` names is the program's own.

    DSPy's `deepcopy` shares a whole list of modules, predictors included, if one of them holds a lock.

    Args:
        program: A `dspy.Module`.
        shared: `shared_parts(program)`, if it is known already.

    Raises:
        AdapterError: If the program refuses to be copied.
    """
    memo = dict(shared_parts(program) if shared is None else shared)
    for part in _take_apart(program)[0].values():
        if isinstance(part, dspy.Module) and "history" in vars(part):
            memo[id(part.history)] = []
    try:
        return copy.deepcopy(program, memo)
    except Exception as error:
        raise AdapterError(f"Cannot copy {type(program).__name__}: {type(error).__name__}: {error}") from error


def shared_parts(program: Any) -> dict[int, Any]:
    """`id` -> part that a program and its copies have in common.

    These are language models, results of earlier optimizations, and what cannot be copied: locks, connections.
    """
    structure, leaves = _take_apart(program)
    shared: dict[int, Any] = {}
    for part in leaves:
        # the program's own parts stand in the memo: a tool may be a method of it
        if shims.is_language_model(part) or not _can_be_copied(part, structure, shared):
            shared[id(part)] = part
    modules = [part for part in structure.values() if isinstance(part, dspy.Module)]
    results = [vars(module)[name] for module in modules for name in _RESULTS if name in vars(module)]
    return shared | {id(result): result for result in results}


def _take_apart(program: Any) -> tuple[dict[int, Any], list[Any]]:
    """The modules and containers of a program by `id`, and all else that they hold."""
    structure: dict[int, Any] = {}
    leaves: list[Any] = []
    stack = [program]
    while stack:
        part = stack.pop()
        if id(part) in structure:
            continue
        if isinstance(part, dspy.Module) and not shims.is_language_model(part):
            structure[id(part)] = part
            stack += [held for name, held in vars(part).items() if name not in ("history", "callbacks", *_RESULTS)]
        elif isinstance(part, dict | list | tuple):
            structure[id(part)] = part
            stack += part.values() if isinstance(part, dict) else part
        else:
            leaves.append(part)
    return structure, leaves


def _can_be_copied(part: Any, *known: dict[int, Any]) -> bool:
    if part is None or isinstance(part, str | int | float | type):
        return True
    try:
        copy.deepcopy(part, ChainMap({}, *known))  # type: ignore[arg-type]
    except Exception:
        return False
    return True
