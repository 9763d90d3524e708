"""Language models across the border: ours as a `dspy.LM`, DSPy's as an optimizer's."""

from __future__ import annotations

import time
from typing import Any, Literal

import dspy

from trace_adapters import AdapterError, ModelError, SettingError
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


def as_lm(model: Any, *, name: str | None = None, profile: Literal["strong", "small"] = "strong") -> AdaptedLM:
    """A `dspy.LM` as a model that optimizers ask; what `ta.as_lm` finds for DSPy's models.

    Samples of one question are told apart in DSPy's cache. A cost that DSPy does not say is NULL.

    Args:
        model: A `dspy.LM`, or another `dspy.BaseLM`.
        name: What it is called in records. Default: what it says.
        profile: "small" for models that need short, narrow questions.

    Raises:
        AdapterError: If it is no model of DSPy's.
    """
    if not shims.is_language_model(model):
        raise AdapterError(f"Expected a dspy.LM, got {model!r}.")
    asked = _Asked(model)
    return AdaptedLM(name or str(model.model), asked.ask, asked.aask, profile=profile)


class _Asked:
    """A model of DSPy's that is asked for the samples of a question."""

    def __init__(self, lm: Any) -> None:
        self._lm = lm

    def ask(self, question: Question, n: int) -> list[Reply]:
        replies = []
        for arguments in self._arguments(question, n):
            started = time.perf_counter()
            try:
                answer = self._lm(**arguments)
            except Exception as error:
                raise self._failure(error) from error
            replies.append(self._reply(answer, time.perf_counter() - started))
        return replies

    async def aask(self, question: Question, n: int) -> list[Reply]:
        replies = []
        for arguments in self._arguments(question, n):
            started = time.perf_counter()
            try:
                answer = await self._lm.acall(**arguments)
            except Exception as error:
                raise self._failure(error) from error
            replies.append(self._reply(answer, time.perf_counter() - started))
        return replies

    def _arguments(self, question: Question, n: int) -> list[dict[str, Any]]:
        asked = shims.question_arguments(self._lm, question.messages, question.options)
        indexes = range(question.sample_index, question.sample_index + n)
        # else DSPy's cache returns the first sample again
        return [{**asked, "rollout_id": index} if index else asked for index in indexes]

    def _reply(self, answer: Any, latency_s: float) -> Reply:
        entry = shims.find_history_entry(self._lm, answer) or {}
        cached = shims.was_cached(self._lm, entry)
        usage = Usage(0, 0, 0, 0.0) if cached else Usage(**shims.read_usage(entry), cost_usd=shims.read_cost(entry))
        text, reason = shims.read_answer(answer, entry)
        model = str(entry.get("response_model") or self._lm.model)
        return Reply(text, usage, model, reason, latency_s, cached, answer)

    def _failure(self, error: Exception) -> ModelError:
        if isinstance(error, ModelError):
            return error
        return ModelError(f"The model {self._lm.model!r} failed: {type(error).__name__}: {error}")
