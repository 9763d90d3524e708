"""The prompt files, filled by name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_FIELD = re.compile(r"\{\{(\w+)\}\}")


def fill(name: str, /, **values: str) -> str:
    """Read `prompts/NAME.md` and put the values in the places `{{field}}`.

    Values are put in as they are, in one pass: what looks like a field inside a value stays.

    Raises:
        KeyError: If a field has no value, or a value has no field.
    """
    text = _read(name)
    fields = set(_FIELD.findall(text))
    if fields != set(values):
        raise KeyError(f"The prompt {name!r} has the fields {sorted(fields)}, got values for {sorted(values)}.")
    return _FIELD.sub(lambda match: values[match.group(1)], text).strip() + "\n"


@cache
def _read(name: str) -> str:
    return resources.files("trace_adapters.optimizers").joinpath("prompts", f"{name}.md").read_text("utf-8")
