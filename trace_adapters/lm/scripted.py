"""A language model that answers from a script: the public test double."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trace_adapters.errors import ScriptExhausted, SettingError
from trace_adapters.lm.ledger import Question, recorded
from trace_adapters.lm.messages import Messages, count_tokens, join_messages, read_messages
from trace_adapters.lm.replies import Profile, Reply, Usage


@dataclass(frozen=True)
class ScriptedCall:
    """One call that a scripted model got."""

    messages: list[dict[str, Any]]
    n: int
    role: str
    sample_index: int
    options: Mapping[str, Any]

    @property
    def prompt(self) -> str:
        """The messages as one text."""
        return join_messages(self.messages)


class ScriptedLM:
    """Answers from a list, in order, or with a function.

    Token counts are the estimates of `count_tokens`, the cost is 0, unless a `Reply` says otherwise.

    Args:
        script: A list of replies, or a function of the messages that returns one. A reply is a text, a ready `Reply`,
            or an exception to be raised. A function may also name `role`, `sample_index` or `options` as arguments.
            Functions are called without a lock, from the caller's thread.
        model: What it is called in records.
        profile: "small" to be asked as small models are.
        supports_grammar: Whether it is asked with grammars; it does not obey them.

    Attributes:
        calls: Every call so far, in order.
    """

    def __init__(
        self,
        script: Sequence[str | Reply | Exception] | Callable[..., str | Reply | Exception],
        *,
        model: str = "scripted",
        profile: Profile = "strong",
        supports_grammar: bool = False,
    ) -> None:
        if isinstance(script, str):
            raise SettingError(
                f"expected a list of replies or a function of the messages, got the text {script!r}; write [{script!r}]"
            )
        self.model = model
        self.profile: Profile = profile
        self.supports_grammar = supports_grammar
        self.calls: list[ScriptedCall] = []
        self._handler = script if callable(script) else None
        self._wanted = _wanted_arguments(script) if callable(script) else frozenset()
        self._replies = [] if callable(script) else _listed(script)
        self._next = 0
        self._lock = threading.Lock()

    def __call__(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]:
        """Take the next n replies.

        Raises:
            ScriptExhausted: If the list has fewer left.
        """
        if not isinstance(n, int) or n < 1:
            raise SettingError(f"expected n >= 1 replies, got n={n!r}")
        call = ScriptedCall(read_messages(messages), n, role, sample_index, options)
        question = Question(role, self.model, call.messages, options, sample_index)
        with self._lock:
            self.calls.append(call)
        return recorded(question, lambda: [self._reply(call, position) for position in range(n)])

    async def acall(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]:
        """The same, for callers that await."""
        return self(messages, n=n, role=role, sample_index=sample_index, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedLM:
        return self

    def _reply(self, call: ScriptedCall, position: int) -> Reply:
        started = time.perf_counter()
        reply = self._handle(call, position) if self._handler else self._take(call)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, Reply):
            return reply
        if not isinstance(reply, str):
            raise SettingError(f"expected a scripted reply to be a text, a Reply or an exception, got {reply!r}")
        usage = Usage(count_tokens(call.prompt) if position == 0 else 0, count_tokens(reply), 0, 0.0)
        return Reply(reply, usage, self.model, "stop", time.perf_counter() - started)

    def _handle(self, call: ScriptedCall, position: int) -> str | Reply | Exception:
        assert self._handler is not None
        available = {"role": call.role, "sample_index": call.sample_index + position, "options": call.options}
        return self._handler(call.messages, **{name: available[name] for name in self._wanted})

    def _take(self, call: ScriptedCall) -> str | Reply | Exception:
        with self._lock:
            if self._next < len(self._replies):
                self._next += 1
                return self._replies[self._next - 1]
        raise ScriptExhausted(
            f"expected at most {len(self._replies)} replies to be asked of this script, got call {len(self.calls)} "
            f"({call.prompt[:80]!r}…); give more replies or a function"
        )


def _wanted_arguments(handler: Callable[..., Any]) -> frozenset[str]:
    try:
        names = set(inspect.signature(handler).parameters)
    except (TypeError, ValueError):
        names = set()
    return frozenset(names & {"role", "sample_index", "options"})


def _listed(script: Any) -> list[str | Reply | Exception]:
    try:
        return list(script)
    except TypeError as error:
        raise SettingError(f"expected a list of replies or a function of the messages, got {script!r}") from error
