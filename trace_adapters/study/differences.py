"""What changed between two candidates, as text."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any


def unified_diff(old: Any, new: Any, old_name: str = "before", new_name: str = "after") -> str:
    """The unified diff of two parameter values; "" if they are equal. Text by lines, other values as JSON."""
    as_text = {type(old), type(new)} <= {str, type(_MISSING)}
    lines = difflib.unified_diff(_lines(old, as_text), _lines(new, as_text), old_name, new_name, lineterm="")
    return "\n".join(lines)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], old_name: str, new_name: str) -> dict[str, str]:
    """Parameter key -> unified diff, of the parameters that differ. A missing value has no lines."""
    keys = [*old, *(key for key in new if key not in old)]
    diffs = {key: unified_diff(old.get(key, _MISSING), new.get(key, _MISSING), old_name, new_name) for key in keys}
    return {key: diff for key, diff in diffs.items() if diff}


_MISSING = object()


def _lines(value: Any, as_text: bool) -> list[str]:
    if value is _MISSING:
        return []
    text: str = value if as_text else json.dumps(value, indent=2, ensure_ascii=False)
    return text.split("\n")
