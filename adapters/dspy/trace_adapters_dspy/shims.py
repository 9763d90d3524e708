"""What differs between the versions of DSPy, and nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import dspy
from dspy.predict.parameter import Parameter as DspyParameter
from dspy.utils.callback import BaseCallback

__all__ = [
    "BaseCallback",
    "DspyParameter",
    "active_call_id",
    "asked_messages",
    "context_overrides",
    "find_history_entry",
    "is_interpreter_missing",
    "is_language_model",
    "is_model_failure",
    "is_model_missing",
    "question_arguments",
    "raw_reply",
    "read_answer",
    "read_cost",
    "read_usage",
    "set_active_call_id",
    "was_cached",
]

# Moved from `callback` to `callback_context` in 3.3.
try:
    _callbacks: Any = importlib.import_module("dspy.utils.callback_context")
except ModuleNotFoundError:
    _callbacks = importlib.import_module("dspy.utils.callback")
_ACTIVE_CALL_ID: ContextVar[str | None] = _callbacks.ACTIVE_CALL_ID

try:
    _lm15: Any = importlib.import_module("dspy.lm15")
except ModuleNotFoundError:
    _lm15 = None
_GENERATION = (
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "top_p",
)

# Candidates can cause these: too long a prompt, a reply that cannot be read.
_NOT_THE_SERVER = (
    "AdapterParseError",
    "ContextWindowExceededError",
    "LMCollectionLimitError",
    "ContentPolicyViolationError",
)
# The LiteLLM and openai errors that DSPy before 3.3 lets through as they are.
_SERVER_ERRORS = (
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadGatewayError",
    "BadRequestError",
    "BudgetExceededError",
    "InternalServerError",
    "LLMProviderNotProvidedError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServiceUnavailableError",
    "Timeout",
    "UnsupportedParamsError",
)
_SERVER_PACKAGES = ("litellm", "openai")


def active_call_id() -> str | None:
    """The id of the callback call that runs here."""
    return _ACTIVE_CALL_ID.get()


def set_active_call_id(call_id: str | None) -> str | None:
    """Make another call the active one; returns the one before, to be set again."""
    before = _ACTIVE_CALL_ID.get()
    _ACTIVE_CALL_ID.set(call_id)
    return before


def context_overrides() -> dict[str, Any]:
    """What `dspy.context` has set here, to be set again in another thread."""
    settings = importlib.import_module("dspy.dsp.utils.settings")
    carrier = settings.thread_local_overrides
    # a ContextVar since 3.0, a `threading.local` before
    overrides = carrier.get() if isinstance(carrier, ContextVar) else getattr(carrier, "overrides", {})
    common = settings.main_thread_config
    return {key: value for key, value in dict(overrides).items() if common.get(key) is not value}


def is_language_model(instance: Any) -> bool:
    """Whether a callback's instance is a language model; before 3.0 custom ones come as modules."""
    return isinstance(instance, dspy.LM | dspy.BaseLM)


def is_model_failure(error: BaseException) -> bool:
    """Whether the model's server, its key or its address is at fault, not the program."""
    cause: BaseException | None = error
    for _ in range(10):  # adapters wrap what the client raised
        if cause is None:
            return False
        names = [cls.__name__ for cls in type(cause).__mro__]
        if any(name in _NOT_THE_SERVER for name in names):
            return False
        packages = {cls.__module__.partition(".")[0] for cls in type(cause).__mro__}
        is_clients = bool(packages.intersection(_SERVER_PACKAGES)) and any(name in _SERVER_ERRORS for name in names)
        if is_clients or "LMError" in names:  # the root of model errors since 3.3
            return True
        cause = cause.__cause__
    return False


def is_interpreter_missing(error: BaseException) -> bool:
    """Whether Deno, in which DSPy runs a model's code, is not installed."""
    is_interpreters = type(error).__name__ in ("CodeInterpreterError", "InterpreterError")
    return is_interpreters and "Deno" in str(error) and "nstall" in str(error)


def is_model_missing(error: BaseException) -> bool:
    """Whether a predictor was called for which no language model is set."""
    return "No LM is loaded" in str(error)


def raw_reply(error: BaseException) -> str | None:
    """The model's text in an error of parsing it; None for other errors."""
    text = getattr(error, "lm_response", None)
    return text if isinstance(text, str) else None


def find_history_entry(lm: Any, outputs: Any) -> Mapping[str, Any] | None:
    """The history entry of the call that returned `outputs`; None if history is off."""
    # calls return the list of outputs, a response (typed ones, since 3.4), or a list of responses (since 3.5)
    wanted = {id(outputs), *map(id, outputs if isinstance(outputs, list) and _lm15 is not None else ())}
    for entry in reversed(list(getattr(lm, "history", ()))[-100:]):
        if isinstance(entry, Mapping):
            response = entry.get("response")
            kept = response[0] if isinstance(response, tuple) and response else response
            if entry.get("outputs") is outputs or id(kept) in wanted:
                return entry
    return None


def asked_messages(inputs: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The messages that a call of a model was given, as such or in a typed request; None if it was given a text."""
    messages = inputs.get("messages")
    if isinstance(messages, Sequence) and all(isinstance(message, Mapping) for message in messages):
        return list(messages)
    request = inputs.get("request", inputs.get("prompt"))
    if _lm15 is None or not isinstance(request, _lm15.Request):
        return None
    system = [("system", request.system)] if isinstance(request.system, str) else []
    turns = [*system, *((message.role, message.text) for message in request.messages)]
    return [{"role": role, "content": text or ""} for role, text in turns]


def question_arguments(lm: Any, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """What to call a model with: a typed request where it takes one, else messages as they were before 3.4."""
    chosen = dict(options)
    schema = chosen.pop("json_schema", None)
    if schema is not None:
        described = {"name": "reply", "schema": schema, "strict": True}
        chosen["response_format"] = {"type": "json_schema", "json_schema": described}
    plain = [dict(message) for message in messages]
    # `dspy.LM` takes requests since 3.4, every model since 3.5, when messages go away
    if _lm15 is None or not (isinstance(lm, dspy.LM) or hasattr(lm, "generate")):
        return {"messages": plain, **chosen}
    chosen = {**lm.kwargs, **chosen}
    known = {name: value for name, value in chosen.items() if name in _GENERATION and value is not None}
    return {"prompt": _lm15.request_from_openai_chat({"model": lm.model, "messages": plain, **known})}


def read_answer(answer: Any, entry: Mapping[str, Any]) -> tuple[str, str | None]:
    """The text of a model's answer, and why it ended; None if unknown."""
    if not isinstance(answer, Sequence):
        return answer.text or "", getattr(answer, "finish_reason", None)
    first = answer[0] if answer else ""
    choices = getattr(entry.get("response"), "choices", None) or [None]
    text = first.get("text") if isinstance(first, Mapping) else first
    return str(text or ""), getattr(choices[0], "finish_reason", None)


def read_usage(entry: Mapping[str, Any]) -> dict[str, int | None]:
    """prompt_tokens, completion_tokens and cached_tokens of a history entry; None where unknown."""
    usage = entry.get("usage")
    found = dict(usage) if isinstance(usage, Mapping) else {}
    details = found.get("prompt_tokens_details")
    if details is not None and not isinstance(details, Mapping):
        details = getattr(details, "__dict__", {})
    numbers = {
        "prompt_tokens": found.get("prompt_tokens"),
        "completion_tokens": found.get("completion_tokens"),
        "cached_tokens": (details or {}).get("cached_tokens"),
    }
    return {name: number if isinstance(number, int) else None for name, number in numbers.items()}


def read_cost(entry: Mapping[str, Any]) -> float | None:
    """The cost of a history entry in USD; None where unknown."""
    cost = entry.get("cost")
    return float(cost) if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None


def was_cached(lm: Any, entry: Mapping[str, Any]) -> bool:
    """Whether DSPy's cache answered: since 2.6.20 such replies carry a flag or an empty usage."""
    if getattr(entry.get("response"), "cache_hit", False):
        return True
    return bool(getattr(lm, "cache", False)) and entry.get("usage") == {}
