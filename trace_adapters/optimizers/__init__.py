"""Optimizers: from traces to proposals of new values."""

from __future__ import annotations

from trace_adapters.optimizers.base import Optimizer as Optimizer, Outcome as Outcome, Proposal as Proposal
from trace_adapters.optimizers.demos import Demonstrations as Demonstrations
from trace_adapters.optimizers.optoprime import OptoPrime as OptoPrime
from trace_adapters.optimizers.textgrad import TextGrad as TextGrad
from trace_adapters.optimizers.turns import Turns as Turns

__all__ = ["Demonstrations", "Optimizer", "OptoPrime", "Outcome", "Proposal", "TextGrad", "Turns"]
