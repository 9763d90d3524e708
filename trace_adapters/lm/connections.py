"""SDK clients, kept per process, address and event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from trace_adapters.errors import ModelError, ModelUnavailable
from trace_adapters.lm.endpoints import Address

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI


class Connections:
    """Makes the SDK's clients and keeps them: one for threads, one for each event loop.

    A forked process gets its own.
    """

    _client: tuple[Address, OpenAI] | None
    _async_clients: dict[asyncio.AbstractEventLoop, tuple[Address, AsyncOpenAI, AsyncGenerator[None]]]

    def __init__(self, timeout_s: float, max_retries: int) -> None:
        self._settings: dict[str, Any] = {"timeout": timeout_s, "max_retries": max_retries}
        self._lock = threading.Lock()
        self._forget()

    def client(self, address: Address) -> OpenAI:
        from openai import OpenAI

        with self._lock:
            self._notice_fork()
            if self._client is None or self._client[0] != address:
                made = OpenAI(base_url=address.base_url, api_key=address.api_key, **self._settings)
                self._client = (address, made)
            return self._client[1]

    def async_client(self, address: Address) -> AsyncOpenAI:
        from openai import AsyncOpenAI

        loop = asyncio.get_running_loop()
        with self._lock:
            self._notice_fork()
            kept = self._async_clients.get(loop)
            if kept is None or kept[0] != address:
                made = AsyncOpenAI(base_url=address.base_url, api_key=address.api_key, **self._settings)
                kept = (address, made, self._closing(made, loop))
                self._async_clients = {old: c for old, c in self._async_clients.items() if not old.is_closed()}
                self._async_clients[loop] = kept
            return kept[1]

    def _closing(self, client: AsyncOpenAI, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        """Close the client at the end of the running loop, which ends the generators that were begun in it."""

        async def until_the_loop_ends() -> AsyncGenerator[None]:
            try:
                yield
            finally:
                if loop in self._async_clients and self._async_clients[loop][1] is client:
                    del self._async_clients[loop]
                await client.close()

        closing = until_the_loop_ends()
        with suppress(StopIteration):
            closing.__anext__().send(None)
        return closing

    def check(self, address: Address) -> None:
        """Ask the server for its models.

        Raises:
            ModelUnavailable: If nobody answers or the key is refused.
        """
        import openai

        try:
            self.client(address).with_options(max_retries=0, timeout=20).models.list()
        except (openai.APIConnectionError, openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise model_error(error, None, address) from error
        except (openai.OpenAIError, ValueError):
            return  # it answers; many servers have no list of models

    def close(self) -> None:
        """Close the clients of threads; those of event loops go with their loop."""
        with self._lock:
            client = self._client
            self._forget()
        if client is not None:
            client[1].close()

    def _notice_fork(self) -> None:
        if self._owner != os.getpid():
            self._forget()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._client = None
        self._async_clients = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Connections, (self._settings["timeout"], self._settings["max_retries"])


def is_connection_lost(error: Exception) -> bool:
    """Whether a call failed because nobody listens any more, not because it took too long."""
    import openai

    return isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)


def model_error(error: Exception, model: str | None, address: Address) -> Exception:
    """What a failure of the SDK is called here; what is no failure of a call stays what it is."""
    import openai

    place = f"model {model!r} at {address.base_url}" if model else f"the server at {address.base_url}"
    if isinstance(error, openai.APITimeoutError):
        return ModelError(
            f"expected an answer from {place} in time, got a timeout; raise timeout_s or shorten the request"
        )
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        return ModelUnavailable(
            f"expected an answer from {place}, got no connection ({cause}); is it running, is base_url right?"
        )
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ModelUnavailable(
            f"expected {place} to accept the API key, got: {error.message}; set OPENAI_API_KEY or api_key=..."
        )
    if isinstance(error, openai.NotFoundError):
        return ModelUnavailable(f"expected {place} to exist, got: {error.message}; check the model's name and base_url")
    if isinstance(error, openai.APIStatusError):
        return ModelError(f"expected a reply from {place}, got status {error.status_code}: {error.message}")
    if isinstance(error, openai.OpenAIError | ValueError):
        return ModelError(f"expected a chat completion from {place}, got {type(error).__name__}: {error}")
    return error
