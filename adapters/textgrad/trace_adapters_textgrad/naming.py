"""Identifiers from TextGrad's role descriptions, which are prose."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LEFT_OUT = frozenset("a an the this these our your some".split())
_ENDS = frozenset("at by for from in is of on or that to used where which who with".split())
_WORDS = 4
_LENGTH = 40


def name_of_role(role: str, default: str = "variable") -> str:
    """What a role description begins with, as an identifier.

    `"structured system prompt to a somewhat capable language model …"` is `structured_system_prompt`.
    """
    chosen: list[str] = []
    for word in re.findall(r"[^\W_]+", (role or "").lower()):
        if word in _LEFT_OUT:
            continue
        if len(chosen) == _WORDS or (chosen and word in _ENDS):
            break
        chosen.append(word)
    name = "_".join(chosen)[:_LENGTH].rstrip("_") or default
    return f"_{name}" if name[0].isdigit() else name


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, those that come again with a number: `x`, `x_2`."""
    wanted = list(names)
    taken: set[str] = set()
    given = []
    for name in wanted:
        free, number = name, 1
        while free in taken or (number > 1 and free in wanted):
            number += 1
            free = f"{name}_{number}"
        taken.add(free)
        given.append(free)
    return given


def name_of_function(function: object, default: str) -> str:
    """The name that a function was defined by, or the default for one without."""
    plain = getattr(function, "func", function)  # partials
    name = getattr(plain, "__name__", "") or type(plain).__name__
    return name if name.isidentifier() else default
