"""The body of a chat completion request, and the reading of its response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_adapters.errors import ModelError
from trace_adapters.lm.messages import sendable
from trace_adapters.lm.replies import NO_USAGE, Price, Reply, Usage
from trace_adapters.showing import repr_of

_SDK_FIELDS = frozenset(
    "frequency_penalty logit_bias logprobs max_completion_tokens max_tokens metadata modalities n "
    "parallel_tool_calls prediction presence_penalty reasoning_effort response_format seed service_tier stop "
    "store temperature tool_choice tools top_logprobs top_p user verbosity extra_headers extra_query".split()
)


def build_request(model: str, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the SDK's `chat.completions.create`.

    `json_schema` becomes a strict `response_format`; `grammar` and every field that the SDK does not know go
    into the body as they are.
    """
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name == "json_schema":
            schema = {"name": str(value.get("title", "reply")), "schema": dict(value), "strict": True}
            known["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif name == "extra_body":
            extra.update(value)
        elif name in _SDK_FIELDS:
            known[name] = value
        else:
            extra[name] = value
    request: dict[str, Any] = {"model": model, "messages": [dict(message) for message in messages], **known}
    request = {**request, "extra_body": extra} if extra else request
    return {name: sendable(value) for name, value in request.items()}


def read_replies(response: Any, price: Price | None, latency_s: float) -> list[Reply]:
    """The choices of a response as replies.

    Raises:
        ModelError: If the server answered with something that is no chat completion.
    """
    choices = getattr(response, "choices", None)
    if not choices:
        raise ModelError(
            f"expected a chat completion with choices from the server, got {_shorten(response)}; is its address right?"
        )
    usage = _read_usage(getattr(response, "usage", None), price)
    replies = []
    for position, choice in enumerate(choices):
        message = getattr(choice, "message", None)
        if message is None:
            raise ModelError(f"expected a choice with a message from the server, got {_shorten(choice)}")
        text = getattr(message, "content", None) or ""
        share = usage if position == 0 else NO_USAGE
        model = getattr(response, "model", None) or ""
        replies.append(Reply(text, share, model, getattr(choice, "finish_reason", None), latency_s, raw=response))
    return replies


def _read_usage(usage: Any, price: Price | None) -> Usage:
    prompt, completion = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    cached = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None)
    counted = Usage(prompt, completion, cached)
    return Usage(prompt, completion, cached, price.cost(counted) if price is not None else None)


def _shorten(value: Any, limit: int = 200) -> str:
    text = repr_of(value)
    return text if len(text) <= limit else text[:limit] + "…"
