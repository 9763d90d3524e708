"""A view of a reply cache in which each sample of one question has a place of its own."""

from __future__ import annotations

from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache


class SampleCache(BaseCache):
    """One sample's view of a cache; sample 0 is where everybody else looks.

    Args:
        cache: The user's own.
        index: Which sample of a question is asked for.

    Attributes:
        hit: Whether the last look-up found something.
    """

    def __init__(self, cache: BaseCache, index: int) -> None:
        self._cache = cache
        self._mark = f"---sample {index}" if index else ""
        self.hit = False

    def lookup(self, prompt: str, llm_string: str) -> Any:
        found = self._cache.lookup(prompt, llm_string + self._mark)
        self.hit = found is not None
        return found

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        self._cache.update(prompt, llm_string + self._mark, return_val)

    def clear(self, **kwargs: Any) -> None:
        self._cache.clear(**kwargs)

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        found = await self._cache.alookup(prompt, llm_string + self._mark)
        self.hit = found is not None
        return found

    async def aupdate(self, prompt: str, llm_string: str, return_val: Any) -> None:
        await self._cache.aupdate(prompt, llm_string + self._mark, return_val)

    async def aclear(self, **kwargs: Any) -> None:
        await self._cache.aclear(**kwargs)


def with_sample(model: Any, index: int) -> tuple[Any, SampleCache | None]:
    """A model that looks for one sample in its cache, with that view of the cache; itself if it has no cache.

    Args:
        model: A language model, or one with bound options.
        index: Which sample of a question is asked for.
    """
    if hasattr(model, "bound") and hasattr(model, "model_copy"):
        bound, view = with_sample(model.bound, index)
        return (model, None) if view is None else (model.model_copy(update={"bound": bound}), view)
    chosen = getattr(model, "cache", False)
    cache = chosen if isinstance(chosen, BaseCache) else get_llm_cache() if chosen is not False else None
    if cache is None:
        return model, None
    view = SampleCache(cache, index)
    return model.model_copy(update={"cache": view}), view
