"""The optimizers that are compared, behind TextGrad's own signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import textgrad as tg

import trace_adapters_textgrad as tat
from examples.textgrad_eval.engines import Engines

Make = Callable[[Sequence[Any], Engines, Sequence[str]], Any]
"""(what to improve, the model, sentences that new values must satisfy) -> an optimizer."""


def own(variables: Sequence[Any], engines: Engines, constraints: Sequence[str]) -> Any:
    """TextGrad's optimizer."""
    return tg.TGD(parameters=list(variables), engine=engines.teacher, constraints=list(constraints))


def drop_in(variables: Sequence[Any], engines: Engines, constraints: Sequence[str]) -> Any:
    """Ours with the same signature: one question a step."""
    return tat.TGD(parameters=list(variables), engine=engines.lm, constraints=list(constraints))


def textual(variables: Sequence[Any], engines: Engines, constraints: Sequence[str]) -> Any:
    """Our textual gradients on the same losses."""
    return tat.TGD(parameters=list(variables), engine=engines.lm, constraints=list(constraints), optimizer="textgrad")


METHODS: dict[str, Make] = {"tg.TGD": own, "tat.TGD": drop_in, "textgrad": textual}
START = "start"  # the value before any update, measured once for all methods
