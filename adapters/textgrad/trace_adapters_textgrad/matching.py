"""Which value stands where in a text that was put together from values."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

_STEPS = 20_000  # tries after which a puzzle is given up

Part = tuple[str, str | None]  # literal text, then a field's name; None at the end


def order_in_join(text: str, values: Sequence[str], separator: str) -> list[int] | None:
    """The positions of `values` in the order in which they were joined to `text`.

    A value that was joined more often than it is in `values` comes again. None if it cannot be told. Among equal values
    the given order is kept.
    """
    needed = Counter(values)
    distinct = sorted(needed, key=lambda value: (-len(value), value))
    path: list[str] = []
    choices = [iter(distinct)]
    position = [0]
    for _ in range(_STEPS + len(distinct) * (len(values) + 1)):
        if not choices:
            return None
        value = next(choices[-1], None)
        if value is None:
            choices.pop()
            position.pop()
            if path:
                path.pop()
            continue
        start = position[-1]
        if not text.startswith(value, start):
            continue
        end = start + len(value)
        found = [*path, value] if end == len(text) else None
        if found is not None and not needed - Counter(found):
            return _occurrences(found, values)
        if text.startswith(separator, end) and end + len(separator) > start:
            path.append(value)
            choices.append(iter(distinct))
            position.append(end + len(separator))
    return None


def _occurrences(found: Sequence[str], values: Sequence[str]) -> list[int]:
    places: dict[str, list[int]] = {}
    for number, value in enumerate(values):
        places.setdefault(value, []).append(number)
    return [places[value].pop(0) if len(places[value]) > 1 else places[value][0] for value in found]


def fields_in_format(template: str, text: str, values: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Field -> (position in `values`, text that stands there) for a text that `template.format(...)` made.

    First the values are fitted exactly. If that fails (one was changed since), the texts are cut out between the
    literal parts, and what is equal to no value is given to the values that are left.
    """
    parts = read_parts(template)
    exact = _fit(parts, text, values)
    if exact is not None:
        return {name: (number, values[number]) for name, number in exact.items()}
    return _cut_out(parts, text, values)


def read_parts(template: str) -> list[Part]:
    """Literal texts with the field after each; no parts if it is no template."""
    try:
        return [(literal, name) for literal, name, _, _ in string.Formatter().parse(template)]
    except ValueError:
        return []


def _fit(parts: Sequence[Part], text: str, values: Sequence[str]) -> dict[str, int] | None:
    budget = [_STEPS]

    def fit(number: int, position: int, chosen: Mapping[str, int]) -> dict[str, int] | None:
        budget[0] -= 1
        if budget[0] < 0:
            return None
        if number == len(parts):
            return dict(chosen) if position == len(text) else None
        literal, name = parts[number]
        if not text.startswith(literal, position):
            return None
        position += len(literal)
        if name is None:
            return fit(number + 1, position, chosen)
        free = [n for n in range(len(values)) if n not in chosen.values()]
        tried = [chosen[name]] if name in chosen else [*free, *(n for n in range(len(values)) if n not in free)]
        for candidate in tried:
            if text.startswith(values[candidate], position):
                found = fit(number + 1, position + len(values[candidate]), {**chosen, name: candidate})
                if found is not None:
                    return found
        return None

    return fit(0, 0, {}) if 0 < len(parts) < 200 else None


def _cut_out(parts: Sequence[Part], text: str, values: Sequence[str]) -> dict[str, tuple[int, str]]:
    groups: dict[str, str] = {}
    pattern = ""
    for literal, name in parts:
        pattern += re.escape(literal)
        if name is not None and name in groups:
            pattern += f"(?P={groups[name]})"
        elif name is not None:
            groups[name] = f"field{len(groups)}"
            pattern += f"(?P<{groups[name]}>.*?)"
    match = re.fullmatch(pattern, text, re.DOTALL)
    if match is None or not groups:
        return {}
    texts = {name: match[group] for name, group in groups.items()}
    found = {name: (values.index(said), said) for name, said in texts.items() if said in values}
    left = [number for number in range(len(values)) if number not in {n for n, _ in found.values()}]
    for name, said in texts.items():
        if name not in found and left:
            found[name] = (left.pop(0), said)
    return {name: found[name] for name in texts if name in found}
