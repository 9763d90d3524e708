"""Language models across the border: ours as a `dspy.LM`, a `dspy.LM` as an optimizer's."""

from __future__ import annotations

import time
from typing import Any

import dspy

from trace_adapters import SettingError
from trace_adapters.extend import AdaptedLM, Question, Reply, Usage
from trace_adapters_dspy import shims


class _Holder:
    """Keeps a model's server running as long as its `dspy.LM` lives; is left out of copies on disk."""

    def __init__(self, lm: Any) -> None:
        self.lm = lm

    def __deepcopy__(self, memo: dict[int, Any]) -> _Holder:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Holder, (None,)


def dspy_lm(lm: Any, **options: Any) -> Any:
    """A `dspy.LM` that asks the same server as a `ta.LM`, the embedded model (`ta.LM("local")`) included.

    Args:
        lm: A model with `model`, `base_url` and `api_key`. A local server is started, and kept while the result lives.
        options: Of `dspy.LM`, e.g. `temperature`, `max_tokens`, `cache`.

    Raises:
        SettingError: If the model has no server.
        ModelUnavailable: If it cannot be started.
    """
    if not all(hasattr(type(lm), name) for name in ("base_url", "api_key")):
        raise SettingError(f"dspy_lm() takes a ta.LM, which has a server; got {lm!r}.")
    found = dspy.LM(f"openai/{lm.model}", api_base=lm.base_url, api_key=lm.api_key or "none", **options)
    found.trace_adapters_lm = _Holder(lm)
    return found


def optimizer_model(lm: Any) -> Any:
    """A `dspy.LM` as a model that optimizers can ask; anything else as it is, for `ta.as_lm`."""
    if not shims.has_requests(lm):
        return lm

    def ask(question: Question, n: int) -> list[Reply]:
        request = shims.typed_request(lm, question.messages, question.options)
        replies = []
        for index in range(question.sample_index, question.sample_index + n):
            started = time.perf_counter()
            response = lm(request, **_sample(index))
            replies.append(_reply(lm, response, time.perf_counter() - started))
        return replies

    async def aask(question: Question, n: int) -> list[Reply]:
        request = shims.typed_request(lm, question.messages, question.options)
        replies = []
        for index in range(question.sample_index, question.sample_index + n):
            started = time.perf_counter()
            response = await lm.acall(request, **_sample(index))
            replies.append(_reply(lm, response, time.perf_counter() - started))
        return replies

    return AdaptedLM(lm.model, ask, aask)


def _sample(index: int) -> dict[str, int]:
    return {"rollout_id": index} if index else {}  # else DSPy's cache returns the first sample again


def _reply(lm: Any, response: Any, latency_s: float) -> Reply:
    entry = shims.find_history_entry(lm, response) or {}
    cached = shims.was_cached(lm, entry)
    cost = entry.get("cost")
    usage = Usage(0, 0, 0, 0.0) if cached else Usage(**shims.read_usage(entry), cost_usd=cost)
    reason = getattr(response, "finish_reason", None)
    return Reply(response.text or "", usage, str(response.model), reason, latency_s, cached, response)
