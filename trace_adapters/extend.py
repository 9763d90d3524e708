"""The face for authors of adapters, optimizers, search policies and stores."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trace_adapters.bundles import code_parameter as code_parameter
    from trace_adapters.code import (
        SourceCode as SourceCode,
        error_place as error_place,
        read_source as read_source,
        spec_of as spec_of,
    )
    from trace_adapters.estimating import Estimate as Estimate, estimate as estimate
    from trace_adapters.learned import LearnedFunction as LearnedFunction, require_terms as require_terms
    from trace_adapters.lines import annotate as annotate
    from trace_adapters.lm import (
        CallRecord as CallRecord,
        LanguageModel as LanguageModel,
        MemoryCache as MemoryCache,
        Messages as Messages,
        Price as Price,
        Reply as Reply,
        ReplyCache as ReplyCache,
        SqliteCache as SqliteCache,
        Usage as Usage,
        count_tokens as count_tokens,
        record_calls as record_calls,
    )
    from trace_adapters.lm.convert import AdaptedLM as AdaptedLM
    from trace_adapters.lm.ledger import Question as Question, report as report
    from trace_adapters.lm.sampling import sample_seed as sample_seed
    from trace_adapters.nodes import (
        FailedCall as FailedCall,
        Operation as Operation,
        Value as Value,
        check_values as check_values,
        is_tracing as is_tracing,
        keyed as keyed,
        unwrap as unwrap,
    )
    from trace_adapters.optimization import Result as Result
    from trace_adapters.optimizers.base import Optimizer as Optimizer, Outcome as Outcome, Proposal as Proposal
    from trace_adapters.sandbox import (
        Limits as Limits,
        SandboxPool as SandboxPool,
        default_pool as default_pool,
        register_codec as register_codec,
    )
    from trace_adapters.sandboxing import choosing_sandbox as choosing_sandbox, noting_levels as noting_levels
    from trace_adapters.saving import write_text as write_text
    from trace_adapters.search.policy import Greedy as Greedy, Judge as Judge, Judgement as Judgement, Policy as Policy
    from trace_adapters.source_checks import CodeSpec as CodeSpec, check_source as check_source
    from trace_adapters.source_compiling import compile_source as compile_source, load_function as load_function
    from trace_adapters.study import (
        EvaluationRecord as EvaluationRecord,
        EventRecord as EventRecord,
        ParameterSpec as ParameterSpec,
        ProposalRecord as ProposalRecord,
        RoleTotals as RoleTotals,
        StepRecord as StepRecord,
        StudyInfo as StudyInfo,
        TrialRecord as TrialRecord,
        candidate_key as candidate_key,
    )
    from trace_adapters.study.differences import differences as differences
    from trace_adapters.study.export import export_candidate as export_candidate
    from trace_adapters.tape import Tape as Tape
    from trace_adapters.targets import (
        BatchTarget as BatchTarget,
        Demonstration as Demonstration,
        PythonTarget as PythonTarget,
        Run as Run,
        Target as Target,
        call_metric as call_metric,
        failure_feedback as failure_feedback,
    )
    from trace_adapters.threads import threads as threads
    from trace_adapters.traces import backward as backward

_HOMES = {
    "AdaptedLM": "trace_adapters.lm.convert",
    "BatchTarget": "trace_adapters.targets",
    "CallRecord": "trace_adapters.lm",
    "CodeSpec": "trace_adapters.source_checks",
    "Demonstration": "trace_adapters.targets",
    "Estimate": "trace_adapters.estimating",
    "EvaluationRecord": "trace_adapters.study",
    "EventRecord": "trace_adapters.study",
    "FailedCall": "trace_adapters.nodes",
    "Greedy": "trace_adapters.search.policy",
    "Judge": "trace_adapters.search.policy",
    "Judgement": "trace_adapters.search.policy",
    "LanguageModel": "trace_adapters.lm",
    "LearnedFunction": "trace_adapters.learned",
    "Limits": "trace_adapters.sandbox",
    "MemoryCache": "trace_adapters.lm",
    "Messages": "trace_adapters.lm",
    "Operation": "trace_adapters.nodes",
    "Optimizer": "trace_adapters.optimizers.base",
    "Outcome": "trace_adapters.optimizers.base",
    "ParameterSpec": "trace_adapters.study",
    "Policy": "trace_adapters.search.policy",
    "Price": "trace_adapters.lm",
    "Proposal": "trace_adapters.optimizers.base",
    "ProposalRecord": "trace_adapters.study",
    "PythonTarget": "trace_adapters.targets",
    "Question": "trace_adapters.lm.ledger",
    "Reply": "trace_adapters.lm",
    "ReplyCache": "trace_adapters.lm",
    "Result": "trace_adapters.optimization",
    "RoleTotals": "trace_adapters.study",
    "Run": "trace_adapters.targets",
    "SandboxPool": "trace_adapters.sandbox",
    "SourceCode": "trace_adapters.code",
    "SqliteCache": "trace_adapters.lm",
    "StepRecord": "trace_adapters.study",
    "StudyInfo": "trace_adapters.study",
    "Tape": "trace_adapters.tape",
    "Target": "trace_adapters.targets",
    "TrialRecord": "trace_adapters.study",
    "Usage": "trace_adapters.lm",
    "Value": "trace_adapters.nodes",
    "annotate": "trace_adapters.lines",
    "backward": "trace_adapters.traces",
    "call_metric": "trace_adapters.targets",
    "candidate_key": "trace_adapters.study",
    "check_source": "trace_adapters.source_checks",
    "check_values": "trace_adapters.nodes",
    "choosing_sandbox": "trace_adapters.sandboxing",
    "code_parameter": "trace_adapters.bundles",
    "compile_source": "trace_adapters.source_compiling",
    "count_tokens": "trace_adapters.lm",
    "default_pool": "trace_adapters.sandbox",
    "differences": "trace_adapters.study.differences",
    "error_place": "trace_adapters.code",
    "estimate": "trace_adapters.estimating",
    "export_candidate": "trace_adapters.study.export",
    "failure_feedback": "trace_adapters.targets",
    "is_tracing": "trace_adapters.nodes",
    "keyed": "trace_adapters.nodes",
    "load_function": "trace_adapters.source_compiling",
    "noting_levels": "trace_adapters.sandboxing",
    "read_source": "trace_adapters.code",
    "record_calls": "trace_adapters.lm",
    "require_terms": "trace_adapters.learned",
    "register_codec": "trace_adapters.sandbox",
    "report": "trace_adapters.lm.ledger",
    "sample_seed": "trace_adapters.lm.sampling",
    "spec_of": "trace_adapters.code",
    "threads": "trace_adapters.threads",
    "unwrap": "trace_adapters.nodes",
    "write_text": "trace_adapters.saving",
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
