"""The client of any model behind an OpenAI-compatible server, the embedded model's included."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from trace_adapters.errors import ModelError, SettingError
from trace_adapters.lm.cache import ReplyCache
from trace_adapters.lm.completions import build_request, read_replies
from trace_adapters.lm.connections import Connections, is_connection_lost, model_error
from trace_adapters.lm.endpoints import OPENAI_URL, Endpoint, RemoteEndpoint
from trace_adapters.lm.ledger import Question, arecorded, recorded
from trace_adapters.lm.messages import Messages, read_messages
from trace_adapters.lm.replies import Price, Profile, Reply
from trace_adapters.lm.sampling import Samples, look_up, sample_seed
from trace_adapters.threads import threads

REMOTE_TIMEOUT_S = 120.0
LOCAL_TIMEOUT_S = 900.0
REMOTE_RETRIES = 6
MOST_THREADS = 8  # that wait for samples of one local call


class LM:
    """A language model: `LM("gpt-4o-mini")`, `LM("name", base_url="http://host:8000/v1")`, `LM("local")`.

    `LM("local")` is the embedded model: real weights on this machine's CPU, fetched beforehand
    (`trace-adapters models fetch NAME`), in a server process that is started on first use and shared by processes.
    `LM("local:smollm2-135m")` names another known model, `LM("local:/path/to/model.gguf")` any GGUF file. See
    docs/local-models.md.

    Thread-safe; `acall` keeps one client per event loop.

    Args:
        model: The server's name of the model, or `local…`.
        base_url: Default: the variable OPENAI_BASE_URL, else OpenAI.
        api_key: Default: the variable OPENAI_API_KEY.
        temperature: Default: the server's.
        max_tokens: Limit of a reply. Default: the server's.
        timeout_s: Limit of one HTTP request, its waiting in the server's queue included. Default 120, local 900.
        max_retries: How often the SDK repeats a request after 408, 409, 429, 5xx, a timeout or a failed connection;
            it waits as Retry-After says. Default 6, local 0 (a local server that died is restarted once instead).
        price: What tokens cost. Without it costs are unknown (None); a local model costs 0.
        cache: Where replies are kept and looked up.
        profile: "strong" or "small", for optimizers. Default: "small" for local models.
        supports_grammar: Whether the server takes llama.cpp's `grammar` field. Default: only local ones.
        options: Defaults of further request fields (`seed`, `stop`, `top_p`, `json_schema`, …). Local models also
            take `fetch=True` (get missing weights now) and the fields of `LocalSettings` (`threads`, `slots`,
            `context`, …); their `seed` is 0 unless given.

    Attributes:
        base_url, api_key: What other OpenAI clients need to use the same server; asking a local model for them
            starts it.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        price: Price | None = None,
        cache: ReplyCache | None = None,
        profile: Profile | None = None,
        supports_grammar: bool | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise SettingError(f"expected the name of a model, got {model!r}")
        local = base_url is None and (model == "local" or model.startswith("local:"))
        self._endpoint: Endpoint
        if local:
            from trace_adapters.lm.local import DEFAULT_MAX_TOKENS, LocalEndpoint

            self._endpoint, options = LocalEndpoint.from_options(model.partition(":")[2], options)
            self.model = self._endpoint.name
            max_tokens = DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens
            options.setdefault("seed", 0)
        else:
            self._endpoint = RemoteEndpoint(base_url, api_key)
            self.model = model
        self._local = local
        self._options = {"temperature": temperature, "max_tokens": max_tokens, **options}
        self._price = Price(0.0, 0.0) if local and price is None else price
        self._cache = cache
        self.supports_grammar = local if supports_grammar is None else supports_grammar
        self.profile: Profile = profile or ("small" if local else "strong")
        default_timeout, default_retries = (LOCAL_TIMEOUT_S, 0) if local else (REMOTE_TIMEOUT_S, REMOTE_RETRIES)
        self._connections = Connections(
            default_timeout if timeout_s is None else timeout_s,
            default_retries if max_retries is None else max_retries,
        )

    @property
    def base_url(self) -> str:
        return self._endpoint.open().base_url

    @property
    def api_key(self) -> str:
        return self._endpoint.open().api_key

    def __call__(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]:
        """Ask for n replies.

        Several samples of one question are reproducible if a `seed` is set: sample i is asked with a seed derived
        from (seed, i). A remote server gets `n` as it is (one request); a local one is asked once for each sample.

        Raises:
            ModelUnavailable: No server, weights or key, or the server does not know the model.
            ModelError: The call failed for another reason, after the SDK's retries.
        """
        question = self._question(messages, role, sample_index, options)
        samples = look_up(question, n, self._cache, self._identity)
        if not samples.missing:
            return samples.complete([], None)
        asked = replace(question, sample_index=samples.missing[0])
        replies = recorded(asked, lambda: self._ask(question, samples))
        return samples.complete(replies, self._cache)

    async def acall(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]:
        """The same without blocking the event loop."""
        question = self._question(messages, role, sample_index, options)
        samples = look_up(question, n, self._cache, self._identity)
        if not samples.missing:
            return samples.complete([], None)
        asked = replace(question, sample_index=samples.missing[0])
        replies = await arecorded(asked, lambda: self._aask(question, samples))
        return samples.complete(replies, self._cache)

    def check(self) -> None:
        """Make sure that the model can be reached, before anything is spent.

        Starts a local model; asks a remote server for its list of models (servers without one pass).

        Raises:
            ModelUnavailable: If it cannot.
        """
        self._connections.check(self._endpoint.open())

    def close(self) -> None:
        """Let go of connections and of a local server, which stops when nobody holds it. The next call starts anew."""
        self._connections.close()
        self._endpoint.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> LM:
        return self

    def __repr__(self) -> str:
        place = "local" if self._local else self._endpoint.identity
        return f"<LM {self.model} at {place}>"

    @property
    def _identity(self) -> str:
        return self._endpoint.identity if self._cache is not None else ""

    def _question(self, messages: Messages, role: str, sample_index: int, options: Mapping[str, Any]) -> Question:
        merged = {name: value for name, value in {**self._options, **options}.items() if value is not None}
        if "grammar" in merged and not self.supports_grammar:
            raise SettingError(
                f"expected a server that takes a grammar, got model {self.model!r}; use LM('local'), json_schema=..., "
                "or LM(..., supports_grammar=True) if the server is llama.cpp's"
            )
        return Question(role, self.model, read_messages(messages), merged, sample_index)

    def _ask(self, question: Question, samples: Samples) -> list[Reply]:
        missing = samples.missing
        if not self._local:
            replies = self._send(question, missing[0], len(missing))
            while len(replies) < len(missing):
                replies += self._send(question, missing[len(replies)], 1)
            return replies[: len(missing)]
        if len(missing) == 1:
            return self._send(question, missing[0], 1)
        with threads(min(len(missing), MOST_THREADS)) as pool:
            futures = [pool.submit(copy_context().run, self._send, question, index, 1) for index in missing]
            return [reply for future in futures for reply in future.result()]

    async def _aask(self, question: Question, samples: Samples) -> list[Reply]:
        missing = samples.missing
        if not self._local:
            replies = await self._asend(question, missing[0], len(missing))
            while len(replies) < len(missing):
                replies += await self._asend(question, missing[len(replies)], 1)
            return replies[: len(missing)]
        batches = await asyncio.gather(*(self._asend(question, index, 1) for index in missing))
        return [reply for batch in batches for reply in batch]

    def _send(self, question: Question, sample_index: int, n: int) -> list[Reply]:
        started = time.perf_counter()
        request = self._request(question, sample_index, n)
        for last in (False, True):
            address = self._endpoint.open()
            try:
                response = self._connections.client(address).chat.completions.create(**request)
            except Exception as error:
                if not last and is_connection_lost(error) and self._endpoint.is_lost(address):
                    continue
                raise model_error(error, self.model, address) from error
            return read_replies(response, self._price, time.perf_counter() - started)
        raise ModelError(f"model {self.model!r} was lost twice")  # pragma: no cover - the loop returns or raises

    async def _asend(self, question: Question, sample_index: int, n: int) -> list[Reply]:
        started = time.perf_counter()
        request = self._request(question, sample_index, n)
        for last in (False, True):
            address = await asyncio.to_thread(self._endpoint.open)
            try:
                response = await self._connections.async_client(address).chat.completions.create(**request)
            except Exception as error:
                lost = not last and is_connection_lost(error)
                if lost and await asyncio.to_thread(self._endpoint.is_lost, address):
                    continue
                raise model_error(error, self.model, address) from error
            return read_replies(response, self._price, time.perf_counter() - started)
        raise ModelError(f"model {self.model!r} was lost twice")  # pragma: no cover - the loop returns or raises

    def _request(self, question: Question, sample_index: int, n: int) -> dict[str, Any]:
        options: dict[str, Any] = dict(question.options)
        if "seed" in options:
            options["seed"] = sample_seed(int(options["seed"]), sample_index)
        if "max_tokens" in options and self._endpoint.identity == OPENAI_URL:
            options["max_completion_tokens"] = options.pop("max_tokens")
        if n > 1:
            options["n"] = n
        return build_request(self.model, question.messages, options)
