"""The optimizers that are compared, behind TextGrad's own signature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import textgrad as tg

import trace_adapters_textgrad as tat
from examples.textgrad_eval.engines import Engines

Make = Callable[[Sequence[Any], Engines, Sequence[str], bool], Any]


def own(variables: Sequence[Any], engines: Engines, constraints: Sequence[str], whole: bool) -> Any:
    """TextGrad's optimizer."""
    del whole  # it always asks for the whole value
    return tg.TGD(parameters=list(variables), engine=engines.teacher, constraints=list(constraints))


def drop_in(variables: Sequence[Any], engines: Engines, constraints: Sequence[str], whole: bool) -> Any:
    """Ours with the same signature: one question a step.

    Args:
        variables: What to improve.
        engines: The model.
        constraints: Sentences.
        whole: Ask for the whole value, in the form for strong models. If not, a small model is asked as such: for a
            prompt's instructions, with a grammar.
    """
    engine = engines.whole if whole else engines.lm
    return tat.TGD(parameters=list(variables), engine=engine, constraints=list(constraints))


def textual(variables: Sequence[Any], engines: Engines, constraints: Sequence[str], whole: bool) -> Any:
    """Our textual gradients on the same losses; `whole` as above."""
    engine = engines.whole if whole else engines.lm
    return tat.TGD(parameters=list(variables), engine=engine, constraints=list(constraints), optimizer="textgrad")


METHODS: dict[str, Make] = {"tg.TGD": own, "tat.TGD": drop_in, "textgrad": textual}
START = "start"  # the value before any update, measured once for all methods
