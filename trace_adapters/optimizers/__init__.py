"""Optimizers: from traces to proposals of new values."""

from __future__ import annotations

from trace_adapters.optimizers.base import Optimizer as Optimizer, Outcome as Outcome, Proposal as Proposal
from trace_adapters.optimizers.optoprime import OptoPrime as OptoPrime

__all__ = ["Optimizer", "OptoPrime", "Outcome", "Proposal"]
