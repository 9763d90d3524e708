"""Language models across the border: LangChain's for optimizers, ours for chains."""

from __future__ import annotations

import time
import weakref
from typing import Any, Literal

from trace_adapters import AdapterError, ModelError, SettingError
from trace_adapters.extend import AdaptedLM, Question, Reply, Usage, sample_seed
from trace_adapters_langchain.calls import REPORTED, read_usage

_REPORTED_HERE = {"metadata": {REPORTED: True}}


def as_lm(model: Any, *, name: str | None = None, profile: Literal["strong", "small"] = "strong") -> AdaptedLM:
    """A chat model as one that optimizers ask; what `ta.as_lm` finds for LangChain's models.

    Samples of one question are told apart in the model's cache, if it has one. A cost that nobody says is NULL.

    Args:
        model: A chat model, a text model, or one with bound options (`model.bind(temperature=0.7)`).
        name: What it is called in records. Default: what it says.
        profile: "small" for models that need short, narrow questions.

    Raises:
        AdapterError: If it is no model that can be invoked.
    """
    if not callable(getattr(model, "invoke", None)) or not callable(getattr(model, "ainvoke", None)):
        raise AdapterError(f"Expected a LangChain chat model, got {model!r}.")
    asked = _Asked(model, name or _name_of(model))
    return AdaptedLM(asked.name, asked.ask, asked.aask, profile=profile)


def chat_model(lm: Any, **options: Any) -> Any:
    """A `ChatOpenAI` that asks the same server as a `ta.LM`, the embedded model (`ta.LM("local")`) included.

    Args:
        lm: A model with `model`, `base_url` and `api_key`. A local server is started, and kept while the result lives.
        options: Of `ChatOpenAI`, e.g. `temperature`, `max_tokens`.

    Raises:
        SettingError: If the model has no server, or `langchain-openai` is not installed.
        ModelUnavailable: If the server cannot be started.
    """
    if not all(hasattr(type(lm), name) for name in ("base_url", "api_key")):
        raise SettingError(f"chat_model() takes a ta.LM, which has a server; got {lm!r}.")
    try:
        from langchain_openai import ChatOpenAI  # an extra of its own, and slow to import
    except ImportError as error:
        raise SettingError("chat_model() needs langchain-openai: pip install langchain-openai.") from error

    made = ChatOpenAI(model=lm.model, base_url=lm.base_url, api_key=lm.api_key or "none", **options)
    weakref.finalize(made, _let_go, lm)  # holds the model, and so its server, as long as `made` lives
    return made


class _Asked:
    """A LangChain model that is asked for the samples of a question."""

    def __init__(self, model: Any, name: str) -> None:
        self.name = name
        self._model = model

    def ask(self, question: Question, n: int) -> list[Reply]:
        replies = []
        for index in _indexes(question, n):
            model, view = self._sample(index)
            started = time.perf_counter()
            try:
                answer = model.invoke(_messages(question), _REPORTED_HERE, **_options(question, index))
            except Exception as error:
                raise self._failure(error) from error
            replies.append(self._reply(answer, view, time.perf_counter() - started))
        return replies

    async def aask(self, question: Question, n: int) -> list[Reply]:
        replies = []
        for index in _indexes(question, n):
            model, view = self._sample(index)
            started = time.perf_counter()
            try:
                answer = await model.ainvoke(_messages(question), _REPORTED_HERE, **_options(question, index))
            except Exception as error:
                raise self._failure(error) from error
            replies.append(self._reply(answer, view, time.perf_counter() - started))
        return replies

    def _sample(self, index: int) -> tuple[Any, Any]:
        from trace_adapters_langchain.sample_cache import with_sample  # LangChain's caches are slow to import

        return with_sample(self._model, index)

    def _reply(self, answer: Any, view: Any, latency_s: float) -> Reply:
        usage, cached = read_usage(answer)
        if cached or (view is not None and view.hit):
            usage, cached = Usage(0, 0, 0, 0.0), True
        details = getattr(answer, "response_metadata", None) or {}
        name = str(details.get("model_name") or self.name)
        return Reply(_text(answer), usage, name, details.get("finish_reason"), latency_s, cached, answer)

    def _failure(self, error: Exception) -> ModelError:
        if isinstance(error, ModelError):
            return error
        return ModelError(f"The model {self.name!r} failed: {type(error).__name__}: {error}")


def _indexes(question: Question, n: int) -> range:
    return range(question.sample_index, question.sample_index + n)


def _messages(question: Question) -> list[dict[str, Any]]:
    return [dict(message) for message in question.messages]


def _options(question: Question, index: int) -> dict[str, Any]:
    options = dict(question.options)
    schema = options.pop("json_schema", None)
    if schema is not None:
        described = {"name": "reply", "schema": schema, "strict": True}
        options["response_format"] = {"type": "json_schema", "json_schema": described}
    if "seed" in options:
        options["seed"] = sample_seed(int(options["seed"]), index)
    return options


def _text(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    content = getattr(answer, "content", answer)
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)


def _name_of(model: Any) -> str:
    for attribute in ("model_name", "model", "model_id"):
        value = getattr(model, attribute, None)
        if isinstance(value, str) and value:
            return value
    bound = getattr(model, "bound", None)
    return _name_of(bound) if bound is not None else type(model).__name__


def _let_go(_lm: Any) -> None:
    """Nothing to do: what was held is released with the reference."""
