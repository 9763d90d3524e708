"""Studies: every trial, proposal, evaluation and model call, written when it happens."""

from __future__ import annotations

from trace_adapters.study.lease import Lease as Lease
from trace_adapters.study.records import (
    EvaluationRecord as EvaluationRecord,
    EventRecord as EventRecord,
    ParameterSpec as ParameterSpec,
    ProposalRecord as ProposalRecord,
    RoleTotals as RoleTotals,
    StepRecord as StepRecord,
    StudyInfo as StudyInfo,
    TrialRecord as TrialRecord,
)
from trace_adapters.study.store import Store as Store
from trace_adapters.study.study import Study as Study, StudyFacts as StudyFacts
from trace_adapters.study.values import candidate_key as candidate_key

__all__ = [
    "EvaluationRecord",
    "EventRecord",
    "Lease",
    "ParameterSpec",
    "ProposalRecord",
    "RoleTotals",
    "StepRecord",
    "Store",
    "Study",
    "StudyFacts",
    "StudyInfo",
    "TrialRecord",
    "candidate_key",
]
