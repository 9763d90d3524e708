"""Values and errors of a program as text, whatever their own methods do."""

from __future__ import annotations

from typing import Any


def repr_of(value: Any) -> str:
    """The `repr` of a value; where that raises, the value's class and what was raised."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def str_of(value: Any) -> str:
    """The `str` of a value or of an error; where that raises, its class and what was raised."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} whose str raised {type(error).__name__}>"
