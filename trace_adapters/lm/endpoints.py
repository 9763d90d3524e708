"""Where a model is served: an address somewhere, or one that is opened on first use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from trace_adapters.errors import ModelUnavailable

OPENAI_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Address:
    """What a client needs to reach a server."""

    base_url: str
    api_key: str


class Endpoint(Protocol):
    """A place that serves one model."""

    @property
    def identity(self) -> str:
        """What a cached reply depends on: stable across processes."""

    def open(self) -> Address:
        """Make sure that the server is there; cheap when it is. Thread-safe."""

    def is_lost(self, address: Address) -> bool:
        """Whether the server at `address` is gone and `open` would bring a new one."""

    def close(self) -> None:
        """Let go of the server."""


@dataclass(frozen=True)
class RemoteEndpoint:
    """An OpenAI-compatible server that somebody else runs."""

    base_url: str | None
    api_key: str | None

    @property
    def url(self) -> str:
        """The address given, else that in OPENAI_BASE_URL, else OpenAI's."""
        return (self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")

    @property
    def identity(self) -> str:
        return self.url

    def open(self) -> Address:
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        if key is None and self.url == OPENAI_URL:
            raise ModelUnavailable(
                "no API key for OpenAI: set OPENAI_API_KEY, give LM(..., api_key=...), name your own server with "
                'LM(..., base_url=...), or use the embedded model LM("local")'
            )
        return Address(self.url, key or "none")

    def is_lost(self, address: Address) -> bool:
        return False

    def close(self) -> None:
        """Nothing is held."""
