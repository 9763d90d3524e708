"""Exact match, with what was expected in words."""

from __future__ import annotations

from collections.abc import Mapping

from trace_adapters import Feedback


def exact_match(example: Mapping[str, str], output: object) -> Feedback:
    """1 if the output equals the answer to the letter."""
    if output == example["answer"]:
        return Feedback(1.0, "Correct.")
    return Feedback(0.0, f"Expected {example['answer']!r} to the letter, got {output!r}.")
