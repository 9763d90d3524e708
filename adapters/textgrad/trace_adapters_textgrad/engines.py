"""Language models across the border: TextGrad's engines as ours, ours as an engine."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Sequence
from typing import Any

import trace_adapters as ta
from trace_adapters import AdapterError
from trace_adapters.extend import LanguageModel
from trace_adapters_textgrad import shims


def as_lm(engine: Any, *, name: str | None = None) -> LanguageModel:
    """An engine of TextGrad, or what else can answer, as a model that optimizers ask.

    Args:
        engine: An `EngineLM`; a name, which TextGrad's `get_engine` reads; or anything that `ta.as_lm` takes: a
            `ta.LM`, a client of the `openai` SDK (with `name`), a function of a prompt.
        name: What the model is called in records.

    Raises:
        AdapterError: If it can answer nothing.
    """
    if isinstance(engine, Engine):
        return engine.lm
    return ta.as_lm(_engine_named(engine) if isinstance(engine, str) else engine, name=name)


def as_engine(lm: Any, *, name: str | None = None) -> Any:
    """A model as an engine of TextGrad; what TextGrad itself can ask stays as it is.

    Args:
        lm: Anything that `ta.as_lm` takes but a name, which TextGrad reads in its own way. An engine, a callable that
            takes a `system_prompt`, a name and None are returned as they are.
        name: The model of a client of the `openai` SDK.
    """
    if lm is None or isinstance(lm, (str, *shims.ENGINES)) or _takes_system_prompt(lm):
        return lm
    return Engine(ta.as_lm(lm, name=name))


class Engine(shims.EngineLM):  # type: ignore[misc]
    """A model of ours behind TextGrad's protocol; keeps nothing on disk.

    Attributes:
        lm: The model.
        model_string: Its name.
    """

    is_multimodal = True

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.model_string = lm.model

    def generate(self, content: Any, system_prompt: str | None = None, **options: Any) -> str:
        """Answer a prompt, or a list of texts and pictures (as bytes)."""
        messages = [
            {"role": "system", "content": system_prompt or self.system_prompt},
            {"role": "user", "content": content if isinstance(content, str) else _parts(content)},
        ]
        return str(self.lm(messages, **options)[0].text)

    def __call__(self, content: Any, system_prompt: str | None = None, **options: Any) -> str:
        return self.generate(content, system_prompt, **options)


def _engine_named(name: str) -> Any:
    try:
        return shims.tg.get_engine(name)
    except ValueError as error:
        raise AdapterError(
            f"TextGrad makes no engine of the name {name!r}: {error}. Give ta.LM({name!r}, base_url=...), or the name "
            f"'experimental:{name}' for its engine on litellm."
        ) from error


def _takes_system_prompt(lm: Any) -> bool:
    try:
        return not isinstance(lm, type) and "system_prompt" in inspect.signature(lm).parameters
    except (TypeError, ValueError):
        return False


def _parts(content: Sequence[Any]) -> list[dict[str, Any]]:
    return [_picture(item) if isinstance(item, bytes) else {"type": "text", "text": str(item)} for item in content]


def _picture(data: bytes) -> dict[str, Any]:
    kind = "png" if data.startswith(b"\x89PNG") else "gif" if data.startswith(b"GIF8") else "jpeg"
    address = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": address}}
