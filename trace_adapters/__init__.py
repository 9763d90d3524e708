"""Optimize prompts, code and numbers of programs from their traces: the face for users."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trace_adapters.bundles import bundle as bundle
    from trace_adapters.context import carry_context as carry_context, no_trace as no_trace, using as using
    from trace_adapters.errors import (
        AdapterError as AdapterError,
        BudgetExceeded as BudgetExceeded,
        CodeError as CodeError,
        DataError as DataError,
        ExecutionError as ExecutionError,
        MetricError as MetricError,
        ModelError as ModelError,
        ModelUnavailable as ModelUnavailable,
        ParameterError as ParameterError,
        SandboxError as SandboxError,
        SandboxKilled as SandboxKilled,
        SandboxTimeout as SandboxTimeout,
        SandboxUnavailable as SandboxUnavailable,
        ScriptExhausted as ScriptExhausted,
        SettingError as SettingError,
        StoreError as StoreError,
        StoreTooNew as StoreTooNew,
        StudyExists as StudyExists,
        StudyNotFound as StudyNotFound,
        TraceAdaptersError as TraceAdaptersError,
        UntrustedCode as UntrustedCode,
    )
    from trace_adapters.lm import LM as LM, ScriptedLM as ScriptedLM, as_lm as as_lm
    from trace_adapters.modules import Module as Module, model as model
    from trace_adapters.nodes import (
        Candidate as Candidate,
        Node as Node,
        Parameter as Parameter,
        node as node,
    )
    from trace_adapters.operators import format as format
    from trace_adapters.optimization import optimize as optimize
    from trace_adapters.optimizers.demos import Demonstrations as Demonstrations
    from trace_adapters.optimizers.optoprime import OptoPrime as OptoPrime
    from trace_adapters.optimizers.textgrad import TextGrad as TextGrad
    from trace_adapters.search.budget import Budget as Budget
    from trace_adapters.study import Store as Store, Study as Study
    from trace_adapters.targets import wrap as wrap
    from trace_adapters.traces import Feedback as Feedback, TraceGraph as TraceGraph, propagate as propagate

__version__ = "0.1.0"

_HOMES = {
    "AdapterError": "trace_adapters.errors",
    "Budget": "trace_adapters.search.budget",
    "BudgetExceeded": "trace_adapters.errors",
    "Candidate": "trace_adapters.nodes",
    "CodeError": "trace_adapters.errors",
    "DataError": "trace_adapters.errors",
    "Demonstrations": "trace_adapters.optimizers.demos",
    "ExecutionError": "trace_adapters.errors",
    "Feedback": "trace_adapters.traces",
    "LM": "trace_adapters.lm",
    "MetricError": "trace_adapters.errors",
    "ModelError": "trace_adapters.errors",
    "ModelUnavailable": "trace_adapters.errors",
    "Module": "trace_adapters.modules",
    "Node": "trace_adapters.nodes",
    "OptoPrime": "trace_adapters.optimizers.optoprime",
    "Parameter": "trace_adapters.nodes",
    "ParameterError": "trace_adapters.errors",
    "SandboxError": "trace_adapters.errors",
    "SandboxKilled": "trace_adapters.errors",
    "SandboxTimeout": "trace_adapters.errors",
    "SandboxUnavailable": "trace_adapters.errors",
    "ScriptExhausted": "trace_adapters.errors",
    "ScriptedLM": "trace_adapters.lm",
    "SettingError": "trace_adapters.errors",
    "Store": "trace_adapters.study",
    "StoreError": "trace_adapters.errors",
    "StoreTooNew": "trace_adapters.errors",
    "Study": "trace_adapters.study",
    "StudyExists": "trace_adapters.errors",
    "StudyNotFound": "trace_adapters.errors",
    "TextGrad": "trace_adapters.optimizers.textgrad",
    "TraceAdaptersError": "trace_adapters.errors",
    "TraceGraph": "trace_adapters.traces",
    "UntrustedCode": "trace_adapters.errors",
    "as_lm": "trace_adapters.lm",
    "bundle": "trace_adapters.bundles",
    "carry_context": "trace_adapters.context",
    "format": "trace_adapters.operators",
    "model": "trace_adapters.modules",
    "no_trace": "trace_adapters.context",
    "node": "trace_adapters.nodes",
    "optimize": "trace_adapters.optimization",
    "propagate": "trace_adapters.traces",
    "using": "trace_adapters.context",
    "wrap": "trace_adapters.targets",
}
__all__ = [*_HOMES]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import_module("trace_adapters.operators")  # whoever meets a node may add and compare it
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
