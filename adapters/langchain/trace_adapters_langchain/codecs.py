"""How LangChain's values travel into the sandbox and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, messages_from_dict
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue

from trace_adapters.extend import register_codec


def register_codecs() -> None:
    """Let learned functions take and return messages, documents and prompts, and take pydantic models.

    Code in the sandbox sees their fields, as attributes and as items; messages have `.text` too. Models come back as
    mappings, for the sandbox cannot be asked which class to make.
    """
    register_codec(BaseMessage, _message_fields, _revive_message)
    register_codec(Document, lambda one: {"page_content": one.page_content, "metadata": one.metadata}, _revive_document)
    register_codec(PromptValue, _prompt_fields, _revive_prompt)
    register_codec(pydantic.BaseModel, _fields, lambda fields: fields)


def _fields(model: Any) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}


def _message_fields(message: Any) -> dict[str, Any]:
    fields: dict[str, Any] = message.model_dump(mode="json")
    content = message.content
    parts = [content] if isinstance(content, str) else [p if isinstance(p, str) else p.get("text", "") for p in content]
    return {**fields, "text": "".join(parts)}


def _revive_message(fields: Any) -> Any:
    kind = _mapping(fields, "message").get("type")
    data = {name: value for name, value in fields.items() if name not in ("type", "text")}
    return messages_from_dict([{"type": kind, "data": data}])[0]


def _revive_document(fields: Any) -> Any:
    fields = _mapping(fields, "document")
    return Document(page_content=str(fields.get("page_content", "")), metadata=dict(fields.get("metadata") or {}))


def _prompt_fields(prompt: Any) -> dict[str, Any]:
    return {
        "text": prompt.to_string(),
        "messages": None if isinstance(prompt, StringPromptValue) else prompt.to_messages(),
    }


def _revive_prompt(fields: Any) -> Any:
    messages = _mapping(fields, "prompt").get("messages")
    if messages is None:
        return StringPromptValue(text=str(fields.get("text", "")))
    return ChatPromptValue(messages=list(messages))


def _mapping(fields: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(fields, Mapping):
        raise ValueError(f"the fields of a {what} must be a mapping from names, got {fields!r:.100}")
    return fields
