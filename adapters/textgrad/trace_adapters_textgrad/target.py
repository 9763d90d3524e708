"""TextGrad code as the optimization loop sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_adapters.extend import PythonTarget
from trace_adapters_textgrad.stage import Stage


class TextgradTarget(PythonTarget):
    """A Module of TextGrad; an example is (input, expected) or a mapping, as for any `ta.Module`.

    Attributes:
        program: The Module as a `Stage`; it is never changed.
    """

    def __init__(self, program: Any, **options: Any) -> None:
        super().__init__(program if isinstance(program, Stage) else Stage(program, **options))

    def with_values(self, candidate: Mapping[str, Any]) -> Any:
        return super().with_values(candidate).program


def wrap(program: Any, **options: Any) -> TextgradTarget:
    """The target of a TextGrad Module; the entry point that `ta.wrap` finds."""
    return TextgradTarget(program, **options)
