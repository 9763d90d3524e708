"""What a function takes from the names around it."""

from __future__ import annotations

import copy
import dis
import inspect
import math
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

MAX_CONSTANT_CHARS = 16_384
_LEVEL = 64  # characters that each container inside another counts for: so deep ones are too large
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})  # the last since Python 3.12


def closure_values(function: types.FunctionType) -> dict[str, Any]:
    """The variables of the enclosing functions that `function` sees now."""
    values: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # a variable of the enclosing function that has no value yet
            continue
    return values


def read_imports(around: Mapping[str, Any]) -> dict[str, str]:
    """The names that stand for parts of the standard library: alias -> "module" or "module:name"."""
    found = {name: _stdlib_source(name, value) for name, value in around.items()}
    return {name: source for name, source in sorted(found.items()) if source is not None}


def read_constants(around: Mapping[str, Any], used: Iterable[str]) -> dict[str, Any]:
    """Copies of the plain values among the `used` names, each at most `MAX_CONSTANT_CHARS` long."""
    constants = {}
    for name in sorted(name for name in used if name in around):
        with suppress(RecursionError):  # too deep for the sandbox, too
            if _is_constant(name, around[name]):
                constants[name] = copy.deepcopy(around[name])
    return constants


def used_names(code: types.CodeType) -> set[str]:
    """The names that a function, with the functions and classes inside it, takes from around it."""
    used = set(code.co_freevars)
    for inner in _with_inner_code(code):
        instructions = list(dis.get_instructions(inner))
        stored = {i.argval for i in instructions if i.opname == "STORE_NAME"}
        used |= {i.argval for i in instructions if i.opname in _LOADS} - stored
    return used - {"__module__", "__qualname__"}


def _with_inner_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _with_inner_code(constant)


def _stdlib_source(name: str, value: Any) -> str | None:
    if name.startswith("__"):
        return None
    if isinstance(value, types.ModuleType):
        known = sys.modules.get(value.__name__) is value and _is_stdlib(value.__name__)
        return value.__name__ if known else None
    if not (isinstance(value, type) or inspect.isroutine(value) or type(value).__module__ == "typing"):
        return None
    module, attribute = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(attribute, str) or not _is_stdlib(module):
        return None
    return f"{module}:{attribute}" if getattr(sys.modules.get(module), attribute, None) is value else None


def _is_stdlib(module: str) -> bool:
    root = module.partition(".")[0]
    return root in sys.stdlib_module_names and root != "builtins"


def _is_constant(name: str, value: Any) -> bool:
    return not name.startswith("__") and _plain_size(value, MAX_CONSTANT_CHARS) <= MAX_CONSTANT_CHARS


def _plain_size(value: Any, most: float) -> float:
    """Count characters and items of plain data; infinite for anything else, for more than `most`, and if too deep."""
    if value is None or type(value) in (bool, int, float):
        return 8
    if type(value) is str:
        return len(value)
    if isinstance(value, re.Pattern):
        return len(value.pattern)
    if type(value) not in (list, tuple, set, frozenset, dict) or most <= 0:
        return math.inf
    size = 2.0
    for item in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
        size += 1 + _plain_size(item, most - size - _LEVEL)
        if size > most:
            return math.inf
    return size
