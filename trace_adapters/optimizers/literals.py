"""Python literals in what models and metrics write."""

from __future__ import annotations

import ast
from typing import Any


def read_literal(text: str) -> Any:
    """The value of a Python literal.

    Raises:
        ValueError: If the text is none, whatever Python's own reader raises: it fails in five ways.
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"no literal: {error}") from error
