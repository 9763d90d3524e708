"""The samples of one question: which come from the cache, which are asked, with which seeds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trace_adapters.errors import SettingError
from trace_adapters.lm.cache import ReplyCache, cache_key, get_reply
from trace_adapters.lm.ledger import Question, report
from trace_adapters.lm.replies import Reply


@dataclass(frozen=True)
class Samples:
    """The samples of one call: `found` in the cache, `missing` to be asked (sample indexes)."""

    found: dict[int, Reply]
    missing: tuple[int, ...]
    keys: dict[int, str]

    def complete(self, replies: Sequence[Reply], cache: ReplyCache | None) -> list[Reply]:
        """All replies in order of the samples; the new ones are kept in the cache."""
        fresh = dict(zip(self.missing, replies, strict=True))
        if cache is not None:
            for index, reply in fresh.items():
                cache.put(self.keys[index], [reply])
        everything = self.found | fresh
        return [everything[index] for index in sorted(everything)]


def look_up(question: Question, n: int, cache: ReplyCache | None, endpoint: str) -> Samples:
    """Sort the samples of a call into known and unknown ones, and report the known ones."""
    if not isinstance(n, int) or n < 1:
        raise SettingError(f"expected n >= 1 replies, got n={n!r}")
    if not isinstance(question.sample_index, int) or question.sample_index < 0:
        raise SettingError(f"expected sample_index >= 0, got {question.sample_index!r}")
    indexes = range(question.sample_index, question.sample_index + n)
    if cache is None:
        return Samples({}, tuple(indexes), {})
    keys = {index: cache_key(replace(question, sample_index=index), endpoint) for index in indexes}
    found = {index: reply for index, key in keys.items() if (reply := get_reply(cache, key)) is not None}
    if found:
        report(replace(question, sample_index=min(found)), list(found.values()), time.time(), 0.0, cached=True)
    return Samples(found, tuple(index for index in indexes if index not in found), keys)


def sample_seed(seed: int, sample_index: int) -> int:
    """The seed of one sample: `seed` itself for the first, else 31 bits of a hash of both.

    So samples differ, and each can be had again without the others.
    """
    if sample_index == 0:
        return seed
    digest = hashlib.sha256(f"{seed}:{sample_index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
