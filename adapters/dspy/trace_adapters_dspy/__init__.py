"""DSPy programs that learn from their traces: the face of the adapter."""

from __future__ import annotations

from trace_adapters_dspy.attach import apply, parameters
from trace_adapters_dspy.codecs import register_codecs
from trace_adapters_dspy.files import diff, export, load
from trace_adapters_dspy.models import dspy_lm
from trace_adapters_dspy.optimizer import DetailedResults, Estimate, TraceOptimizer
from trace_adapters_dspy.parameters import Function, Text
from trace_adapters_dspy.target import DspyTarget, record, wrap

__all__ = [
    "DetailedResults",
    "DspyTarget",
    "Estimate",
    "Function",
    "Text",
    "TraceOptimizer",
    "apply",
    "diff",
    "dspy_lm",
    "export",
    "load",
    "parameters",
    "record",
    "wrap",
]

register_codecs()
