"""Models that answer with a function of what they are asked, without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

_LOCK = threading.Lock()


class AnsweringModel(BaseChatModel):
    """Answers with `answer(text of the messages)`; `asked` are the texts."""

    answer: Callable[[str], str]
    asked: list[str]

    @property
    def _llm_type(self) -> str:
        return "answering"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text = "\n".join(f"{message.type}: {message.content}" for message in messages)
        with _LOCK:
            self.asked.append(text)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.answer(text)))])

    def __deepcopy__(self, memo: Any) -> AnsweringModel:
        return self


@pytest.fixture
def answering() -> Callable[..., AnsweringModel]:
    """`model = answering(lambda text: ...)`."""
    return lambda answer: AnsweringModel(answer=answer, asked=[])
