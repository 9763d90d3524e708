"""Calls of language models inside runnables, reported to the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any

from langchain_core.tracers.context import register_configure_hook

from trace_adapters.extend import Question, Reply, Usage, report
from trace_adapters_langchain.inline import InlineHandler

REPORTED = "trace_adapters_reported"  # metadata of calls that their caller reports itself
_OWN_IDS = ("run-", "lc_run-")  # of messages that a server gave no id: LangChain's, of the run that they came from
_ROLES = {"human": "user", "ai": "assistant"}
# Candidates can cause these: too long a prompt, a text that the server will not answer.
_NOT_THE_SERVER = ("ContextOverflowError", "ContextWindowExceededError", "ContentFilterFinishReasonError")
_NOT_THE_SERVERS_CODES = ("context_length_exceeded", "content_filter")


class Stopped(RuntimeError):
    """A run was given up; it ends at its next step."""


@dataclass(frozen=True)
class _Open:
    """A call that runs."""

    question: Question
    created: float
    started: float


class CallListener(InlineHandler):
    """Hears the model calls of one run, in all its threads and tasks.

    Args:
        role: What the calls are for, in the ledger.
        rest: Hears the same runs, and reports of them what this one does not hear.

    Attributes:
        interruption: What a listener of the ledger raised (a spent budget); the run's caller must raise it.
    """

    raise_error = True  # only `stop` makes it raise

    def __init__(self, role: str = "forward", rest: CallListener | None = None) -> None:
        self.interruption: BaseException | None = None
        self._role = role
        self._rest = rest
        self._heard_by_others: set[Any] = set()
        self._context = copy_context()
        self._open: dict[Any, _Open] = {}
        self._failures: list[int] = []  # no exceptions: their tracebacks keep generators alive
        self._stopped = False

    def stop(self) -> None:
        """Let the run end at its next step: a thread cannot be ended from outside."""
        self._stopped = True

    def is_model_failure(self, error: BaseException) -> bool:
        """Whether a model's server, key or address is at fault for what ended the run, not the program."""
        cause: BaseException | None = error
        for _ in range(10):
            if cause is None:
                return False
            if id(cause) in self._failures:
                return not _is_the_prompts_fault(cause)
            cause = cause.__cause__
        return False

    def on_chain_start(self, *_: Any, **__: Any) -> None:
        self._go_on()

    def on_tool_start(self, *_: Any, **__: Any) -> None:
        self._go_on()

    def on_chat_model_start(
        self, serialized: Any, messages: Sequence[Sequence[Any]], *, run_id: Any, **facts: Any
    ) -> None:
        self._start(run_id, [_plain(message) for batch in messages[:1] for message in batch], serialized, facts)

    def on_llm_start(self, serialized: Any, prompts: Sequence[str], *, run_id: Any, **facts: Any) -> None:
        self._start(run_id, [{"role": "user", "content": prompt} for prompt in prompts[:1]], serialized, facts)

    def on_llm_end(self, response: Any, *, run_id: Any, **_: Any) -> None:
        opened = self._open.pop(run_id, None)
        if opened is not None:
            latency = time.perf_counter() - opened.started
            replies, cached = _replies(opened.question.model, response, latency, str(run_id))
            self._report(opened, replies, cached, None)

    def on_llm_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        self._failures.append(id(error))
        opened = self._open.pop(run_id, None)
        if opened is not None:
            self._report(opened, [], False, error)

    def _go_on(self) -> None:
        if self._stopped:
            raise Stopped("This run was given up because it took longer than its time limit.")

    def _start(self, run_id: Any, messages: list[dict[str, Any]], serialized: Any, facts: Mapping[str, Any]) -> None:
        self._go_on()
        metadata = facts.get("metadata") or {}
        if metadata.get(REPORTED) or run_id in self._heard_by_others:
            return
        if self._rest is not None:  # handlers of a config are told before those of the context
            self._rest._heard_by_others.add(run_id)
        given = facts.get("invocation_params") or {}
        name = given.get("model") or given.get("model_name") or metadata.get("ls_model_name") or _kind(serialized)
        options = {key: value for key, value in given.items() if _is_option(key, value)}
        question = Question(self._role, str(name), messages, options)
        self._open[run_id] = _Open(question, time.time(), time.perf_counter())

    def _report(self, opened: _Open, replies: list[Reply], cached: bool, error: BaseException | None) -> None:
        failure = error if isinstance(error, Exception) or error is None else RuntimeError(str(error))
        latency = time.perf_counter() - opened.started
        try:
            self._context.copy().run(
                report, opened.question, replies, opened.created, latency, error=failure, cached=cached
            )
        except Exception as stop:  # a sink may end the search; a callback cannot
            self.interruption = self.interruption or stop


_listening: ContextVar[CallListener | None] = ContextVar("trace_adapters_langchain_calls", default=None)
register_configure_hook(_listening, inheritable=True)


@contextmanager
def listening(role: str = "forward") -> Iterator[CallListener]:
    """Report the model calls of all runnables in the block, of threads and tasks that carry the context too."""
    listener = CallListener(role)
    token = _listening.set(listener)
    try:
        yield listener
    finally:
        _listening.reset(token)


def read_usage(message: Any, output: Mapping[str, Any] | None = None) -> tuple[Usage, bool]:
    """Tokens and cost of a reply, and whether a cache gave it; what nobody says is None.

    Args:
        message: With `usage_metadata`, or without.
        output: `llm_output` of models that give a text, with `token_usage`.
    """
    said = getattr(message, "usage_metadata", None) or {}
    cost = said.get("total_cost")
    if cost == 0 and "total_cost" in said:  # how LangChain marks what its cache gave
        return Usage(0, 0, 0, 0.0), True
    details = said.get("input_token_details") or {}
    counts = (output or {}).get("token_usage") or {}
    usage = Usage(
        said.get("input_tokens", counts.get("prompt_tokens")),
        said.get("output_tokens", counts.get("completion_tokens")),
        details.get("cache_read"),
        float(cost) if isinstance(cost, int | float) else None,
    )
    return usage, False


def _replies(model: str, response: Any, latency_s: float, run_id: str) -> tuple[list[Reply], bool]:
    replies: list[Reply] = []
    all_cached = True
    for generation in response.generations[0] if response.generations else ():
        message = getattr(generation, "message", None)
        usage, cached = read_usage(message, response.llm_output)
        if not cached and _is_of_another_run(message, run_id):
            usage, cached = Usage(0, 0, 0, 0.0), True
        all_cached = all_cached and cached
        details = getattr(message, "response_metadata", None) or getattr(generation, "generation_info", None) or {}
        name = str(details.get("model_name") or model)
        reason = details.get("finish_reason")
        usage = usage if not replies else Usage(0, 0, 0, 0.0)  # billed together, so counted once
        replies.append(Reply(_text(generation, message), usage, name, reason, latency_s, cached))
    return replies, bool(replies) and all_cached


def _is_of_another_run(message: Any, run_id: str) -> bool:
    """Whether a message was made in an earlier run, so that a cache gave it; older versions say it in no other way."""
    name = str(getattr(message, "id", None) or "")
    return name.startswith(_OWN_IDS) and run_id not in name


def _text(generation: Any, message: Any) -> str:
    calls = getattr(message, "tool_calls", None)
    text = str(generation.text or "")
    return text if text or not calls else str([{"name": call["name"], "args": call["args"]} for call in calls])


def _plain(message: Any) -> dict[str, Any]:
    plain = {"role": _ROLES.get(message.type, message.type), "content": message.content}
    calls = getattr(message, "tool_calls", None)
    return plain | {"tool_calls": [dict(call) for call in calls]} if calls else plain


def _kind(serialized: Any) -> str:
    found = serialized or {}
    return str(found.get("name") or (found.get("id") or ["model"])[-1])


def _is_option(key: str, value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and not key.startswith("_") and "key" not in key


def _is_the_prompts_fault(error: BaseException) -> bool:
    names = [cls.__name__ for cls in type(error).__mro__]
    return any(name in _NOT_THE_SERVER for name in names) or getattr(error, "code", "") in _NOT_THE_SERVERS_CODES
