"""TextGrad programs that learn from their traces: the face of the adapter; TextGrad is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trace_adapters_textgrad.engines import as_engine as as_engine, as_lm as as_lm
    from trace_adapters_textgrad.functions import TrainableFunction as TrainableFunction, trainable as trainable
    from trace_adapters_textgrad.graph import to_node as to_node
    from trace_adapters_textgrad.optimizer import (
        TGD as TGD,
        TextualGradientDescent as TextualGradientDescent,
        TextualGradientDescentwithMomentum as TextualGradientDescentwithMomentum,
    )
    from trace_adapters_textgrad.parameters import parameter as parameter
    from trace_adapters_textgrad.patching import Session as Session, patched as patched
    from trace_adapters_textgrad.stage import Stage as Stage, wrap as wrap
    from trace_adapters_textgrad.training import Step as Step
    from trace_adapters_textgrad.variables import Choice as Choice, Number as Number, Template as Template

_HOMES = {
    "Choice": "variables",
    "Number": "variables",
    "Session": "patching",
    "Stage": "stage",
    "Step": "training",
    "TGD": "optimizer",
    "Template": "variables",
    "TextualGradientDescent": "optimizer",
    "TextualGradientDescentwithMomentum": "optimizer",
    "TrainableFunction": "functions",
    "as_engine": "engines",
    "as_lm": "engines",
    "parameter": "parameters",
    "patched": "patching",
    "to_node": "graph",
    "trainable": "functions",
    "wrap": "stage",
}
__all__ = [*_HOMES]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES[name]}")
        value = globals()[name] = getattr(home, name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
