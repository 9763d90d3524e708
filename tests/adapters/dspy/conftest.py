"""Task models that follow a script, in the way that the installed DSPy takes them."""

from __future__ import annotations

import importlib.util
import itertools
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

dspy = pytest.importorskip("dspy")

Handler = Callable[[str], Mapping[str, Any] | str]
HAS_ENGINES = importlib.util.find_spec("dspy.lm15") is not None


class Script:
    """Answers with a function of the last message: fields, or the text as it is. Counts its calls."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.prompts: list[str] = []
        self.lock = threading.Lock()

    def answer(self, messages: list[tuple[str, str]]) -> str:
        with self.lock:
            self.prompts.append("\n".join(text for _, text in messages))
        reply = self.handler(messages[-1][1])
        if isinstance(reply, str):
            return reply
        return "".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in reply.items()) + "[[ ## completed ## ]]"


def _engine_lm(script: Script, **options: Any) -> Any:
    from dspy.lm15 import Message, Response, TextPart, Usage, response_to_events

    class Engine:
        def complete(self, request: Any) -> Any:
            system = request.system if isinstance(request.system, str) else ""
            text = script.answer([("system", system), *((m.role, m.text or "") for m in request.messages)])
            usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
            message = Message.assistant([TextPart(text)])
            return Response(id=None, model="scripted", message=message, finish_reason="stop", usage=usage)

        def stream(self, request: Any) -> Any:
            return response_to_events(self.complete(request))

    class AsyncEngine:
        async def complete(self, request: Any) -> Any:
            return Engine().complete(request)

    return dspy.LM("scripted/model", engine=Engine(), async_engine=AsyncEngine(), num_retries=0, **options)


def _subclass_lm(script: Script, **options: Any) -> Any:
    class ScriptedLM(dspy.BaseLM):  # type: ignore[misc, name-defined]
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            messages = messages or [{"role": "user", "content": prompt}]
            text = script.answer([(message["role"], message["content"]) for message in messages])
            message = types.SimpleNamespace(content=text, tool_calls=None)
            choice = types.SimpleNamespace(message=message, finish_reason="stop")
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            return types.SimpleNamespace(choices=[choice], usage=usage, model="scripted")

        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            return self.forward(prompt, messages, **kwargs)

        def launch(self) -> None: ...

        def kill(self) -> None: ...

        def __deepcopy__(self, memo: Any) -> Any:
            return self

    return ScriptedLM("scripted/model", **options)


@pytest.fixture
def scripted() -> Callable[..., Any]:
    """`lm = scripted(handler)`: a task model; `lm.script.prompts` are what it was asked.

    With `typed=False` one that takes messages, as all did before DSPy 3.4.
    """

    def make(handler: Handler, typed: bool = HAS_ENGINES, **options: Any) -> Any:
        script = Script(handler)
        options.setdefault("cache", False)
        lm = _engine_lm(script, **options) if typed else _subclass_lm(script, **options)
        lm.script = script
        return lm

    return make


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    """Each test has DSPy's settings to itself."""
    with dspy.context(lm=None, adapter=None, trace=[], callbacks=[]):
        yield


@pytest.fixture
def numbered() -> Callable[[], int]:
    return itertools.count().__next__
