"""Engines that follow a script, behind TextGrad's own protocol."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

shims = pytest.importorskip("trace_adapters_textgrad.shims")  # the first to import TextGrad, so that no ./logs is made
tg = shims.tg


class Engine(shims.EngineLM):  # type: ignore[misc]
    """Answers with a function of (prompt, system prompt); keeps what it was asked."""

    def __init__(self, answer: Callable[[Any, Any], str], model_string: str = "stub") -> None:
        self.answer = answer
        self.model_string = model_string
        self.is_multimodal = True
        self.asked: list[tuple[Any, Any]] = []
        self.lock = threading.Lock()

    def generate(self, content: Any, system_prompt: Any = None, **_: Any) -> str:
        with self.lock:
            self.asked.append((content, system_prompt))
        return self.answer(content, system_prompt)

    def __call__(self, content: Any, system_prompt: Any = None, **options: Any) -> str:
        return self.generate(content, system_prompt, **options)


def _is_update(system_prompt: Any) -> bool:
    """Whether this is a question of our optimizer."""
    return "You improve a program from the trace" in str(system_prompt)


def _proposing(**values: str) -> Callable[[Any, Any], str]:
    """Answers of an optimizer's model that give these values; anything else is answered "fine"."""

    def answer(prompt: Any, system_prompt: Any) -> str:
        if not _is_update(system_prompt):
            return "fine"
        given = "".join(f'<value name="{name}">\n{value}\n</value>\n' for name, value in values.items())
        return f"<reasoning>\nSay it better.\n</reasoning>\n{given}"

    return answer


def _numbered(name: str) -> Callable[[Any, Any], str]:
    """Answers that give a new value at every update: `version 1`, `version 2`, …"""
    count = iter(range(1, 10_000))

    def answer(prompt: Any, system_prompt: Any) -> str:
        if not _is_update(system_prompt):
            return f"fine {len(re.findall('[a-z]', str(prompt)))}"
        return f'<reasoning>\nMore.\n</reasoning>\n<value name="{name}">\nversion {next(count)}\n</value>'

    return answer


@pytest.fixture
def engine() -> Callable[..., Engine]:
    """`engine(answer)`: an engine that answers with a function of (prompt, system prompt), or always the same."""
    return lambda answer="fine", **options: Engine(answer if callable(answer) else lambda *_: answer, **options)


@pytest.fixture
def is_update() -> Callable[[Any], bool]:
    return _is_update


@pytest.fixture
def proposing() -> Callable[..., Callable[[Any, Any], str]]:
    return _proposing


@pytest.fixture
def numbered() -> Callable[[str], Callable[[Any, Any], str]]:
    return _numbered


@pytest.fixture(autouse=True)
def _no_global_engine() -> Iterator[None]:
    """Each test begins without TextGrad's global engine."""
    tg.config.SingletonBackwardEngine().set_engine(None, override=True)
    yield
    tg.config.SingletonBackwardEngine().set_engine(None, override=True)
