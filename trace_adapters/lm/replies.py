"""What a language model is called with, answers and costs: the protocol of the model seam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from trace_adapters.lm.messages import Messages

Profile = Literal["strong", "small"]
"""How much a model can be asked at once: optimizers choose their prompts by it."""


@dataclass(frozen=True)
class Usage:
    """What a call used.

    `None` is unknown, never 0. Sums count the tokens that are known; a sum of costs is unknown as soon as one
    cost is. A reply from a cache used nothing: zeros.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None = None
    cost_usd: float | None = None

    @property
    def total_tokens(self) -> int | None:
        """Prompt and completion tokens together, of those that are known."""
        return _add_known(self.prompt_tokens, self.completion_tokens)

    def __add__(self, other: Usage) -> Usage:
        unknown = self.cost_usd is None or other.cost_usd is None
        return Usage(
            _add_known(self.prompt_tokens, other.prompt_tokens),
            _add_known(self.completion_tokens, other.completion_tokens),
            _add_known(self.cached_tokens, other.cached_tokens),
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
        )


NO_USAGE = Usage(0, 0, 0, 0.0)
"""Nothing was used: the start of a sum, the usage of a cached reply."""


@dataclass(frozen=True)
class Price:
    """USD for a million tokens; `cached_prompt` is that of prompt tokens the server had cached (default: `prompt`)."""

    prompt: float
    completion: float
    cached_prompt: float | None = None

    def cost(self, usage: Usage) -> float | None:
        """The cost in USD, or None if the usage is unknown."""
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        cached = usage.cached_tokens or 0
        cached_price = self.prompt if self.cached_prompt is None else self.cached_prompt
        fresh = usage.prompt_tokens - cached
        return (fresh * self.prompt + cached * cached_price + usage.completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Reply:
    """One answer of a model.

    A server bills the n answers of one request together: then the first reply carries the usage, the others none
    (zeros), so that sums over replies are right.
    """

    text: str
    usage: Usage
    model: str
    finish_reason: str | None
    latency_s: float
    cached: bool = False
    raw: Any = None


@runtime_checkable
class LanguageModel(Protocol):
    """What every room calls: `LM`, `ScriptedLM`, or anything that `as_lm` has taken in.

    `n` replies are the samples `sample_index` … `sample_index + n - 1` of one question: asked again with the same
    index they come from the cache (if there is one), with another index they are new ones. `role` ("forward",
    "optimizer", "judge", …) is for the ledger. Options: `temperature`, `max_tokens`, `seed`, `stop`, `json_schema`,
    `grammar` (GBNF, only where `supports_grammar`).
    """

    @property
    def model(self) -> str: ...
    @property
    def supports_grammar(self) -> bool: ...
    @property
    def profile(self) -> Profile: ...

    def __call__(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]: ...

    async def acall(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]: ...


def _add_known(left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right
