"""The model in its three roles, and what each role cost."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from textgrad.engine import EngineLM

import trace_adapters as ta
from trace_adapters.extend import CallRecord, LanguageModel, record_calls

FORWARD, JUDGE, UPDATE = "forward", "judge", "optimizer"
JUDGE_TOKENS = 100


class Engine(EngineLM):  # type: ignore[misc]
    """A model behind TextGrad's protocol, in one role: greedy, with short replies, and without a cache on disk."""

    def __init__(self, lm: LanguageModel, role: str, max_tokens: int) -> None:
        self.lm = lm
        self.role = role
        self.max_tokens = max_tokens
        self.model_string = lm.model

    def generate(self, content: Any, system_prompt: str | None = None, **options: Any) -> str:
        """Answer a prompt; options of the caller, TextGrad's own defaults among them, are not passed on."""
        messages = [{"role": "user", "content": str(content)}]
        if system_prompt:
            messages.insert(0, {"role": "system", "content": system_prompt})
        reply = self.lm(messages, role=self.role, temperature=0.0, max_tokens=self.max_tokens)[0]
        return str(reply.text)

    def __call__(self, content: Any, system_prompt: str | None = None, **options: Any) -> str:
        return self.generate(content, system_prompt, **options)


@dataclass(frozen=True)
class Engines:
    """One model as the program's model, as a judge, and as what answers an optimizer.

    Attributes:
        lm: The model itself, for the optimizers that ask it directly.
    """

    lm: LanguageModel
    student: Engine
    judge: Engine
    teacher: Engine

    @classmethod
    def of(cls, lm: Any, forward_tokens: int = 100, update_tokens: int = 200) -> Engines:
        """All of one model, with limits of the replies to the program and to an optimizer."""
        model = ta.as_lm(lm)
        return cls(
            model,
            Engine(model, FORWARD, forward_tokens),
            Engine(model, JUDGE, JUDGE_TOKENS),
            Engine(model, UPDATE, update_tokens),
        )


class Tally:
    """Calls, tokens and seconds by role, and what became of the updates.

    Attributes:
        updates: How many were tried.
        changed: How many of them changed the value.
        failures: What those raised that failed, or why they were not used.
    """

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.tokens: dict[str, tuple[int, int]] = {}
        self.updates = 0
        self.changed = 0
        self.failures: list[str] = []
        self.update_s = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count the model calls made here."""
        with record_calls(self._count):
            yield

    def _count(self, call: CallRecord) -> None:
        with self._lock:
            self.calls[call.role] = self.calls.get(call.role, 0) + 1
            read, written = self.tokens.get(call.role, (0, 0))
            usage = call.usage
            self.tokens[call.role] = (read + (usage.prompt_tokens or 0), written + (usage.completion_tokens or 0))

    def attempt(self, optimizer: Any, loss: Any, engines: Engines, variable: Any) -> None:
        """Try one backward pass and one step; a step that fails leaves the value as it was, as a result of its own.

        Raises:
            ModelError: If the model cannot be asked.
        """
        before, began = variable.value, time.monotonic()
        self.updates += 1
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The parameters are unchanged")  # kept below
                loss.backward(engines.teacher)
                optimizer.step()
        except IndexError as error:  # TextGrad's optimizer meets a reply without its tags
            self.failures.append(f"IndexError: {error}")
        finally:
            self.update_s += time.monotonic() - began
        rejected = getattr(getattr(optimizer, "last", None), "rejected", ())
        if variable.value != before:
            self.changed += 1
        elif rejected:
            self.failures.append("\n".join(rejected))

    def facts(self) -> dict[str, Any]:
        """What is written down."""
        return {
            "calls": self.calls,
            "tokens": self.tokens,
            "updates": self.updates,
            "changed": self.changed,
            "failures": self.failures,
            "update_s": round(self.update_s, 1),
        }
