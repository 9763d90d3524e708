"""Examples of one candidate, run as one batch of its chain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from langchain_core.language_models.llms import LLM, BaseLLM
from langchain_core.runnables.retry import RunnableRetry

from trace_adapters.extend import threads
from trace_adapters_langchain.chains import shape_of, walk
from trace_adapters_langchain.leaves import makes_one_run

_BY_ITEM = ("parallel", "assign", "branch", "each")  # composites whose batch is a call for each input
_FRAMEWORK = ("langchain", "langchain_classic", "langchain_core", "langgraph", "trace_adapters_langchain")


def takes_batches(chain: Any) -> bool:
    """Whether a batch of a chain reaches a model, or another part, that does something better than a call for each.

    In a batch each step waits for all inputs to have done the one before, which costs time where nothing is gained by
    it. And in the batch of a retry, langchain-core 0.3.40 gives inputs the outputs of others.
    """
    if any(isinstance(part, RunnableRetry) for _, part in walk(chain)):
        return False
    return makes_one_run(chain) and _reaches_batch(chain)


def run_side_by_side(calls: Sequence[Callable[[], Any]], contexts: Sequence[Context]) -> list[Any]:
    """What each call returns, or the exception that it raises; each runs in its own context."""
    if not calls:
        return []
    with threads(len(calls)) as pool:
        futures = [pool.submit(context.run, call) for call, context in zip(calls, contexts, strict=True)]
        return [outcome_of(future.result) for future in futures]


def outcome_of(call: Callable[[], Any]) -> Any:
    """What a call returns, or the exception that it raises."""
    try:
        return call()
    except Exception as error:
        return error


def is_shared(outputs: Sequence[Any]) -> list[bool]:
    """For each output of a batch, whether it is an exception that stands for several inputs.

    What one call raises that was made for many inputs says nothing of the single one; LangChain gives it to all.
    """
    counts = Counter(id(output) for output in outputs if isinstance(output, BaseException))
    return [counts[id(output)] > 1 for output in outputs]


def _reaches_batch(runnable: Any) -> bool:
    shape = shape_of(runnable)
    if shape is None:
        return _has_own_batch(runnable)
    return shape.kind not in _BY_ITEM and any(map(_reaches_batch, shape.read(runnable).values()))


def _has_own_batch(runnable: Any) -> bool:
    cls = type(runnable)
    if isinstance(runnable, BaseLLM):  # its batch is one call of `_generate`, with all prompts
        return cls._generate is not LLM._generate
    home = str(getattr(getattr(cls, "batch", None), "__module__", ""))
    return home.partition(".")[0] not in _FRAMEWORK
