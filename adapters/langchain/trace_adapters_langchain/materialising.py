"""A chain and values make a chain: a plain one, with everything that did not change shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trace_adapters_langchain.chains import rebuilt
from trace_adapters_langchain.parameters import Found


def materialise(chain: Any, found: Iterable[Found], values: Mapping[str, Any], *, plain: bool) -> Any:
    """The chain with these values in place of its own.

    Args:
        chain: Never touched; parts without a changed value stand in both chains.
        found: The parameters that `values` may name.
        values: Key -> value, checked.
        plain: Whether learned code becomes plain functions of this process; else it runs where its terms say.

    Returns:
        A chain of LangChain's own kinds; `chain` itself if no value differs from its own.
    """
    changes: dict[int, list[tuple[Found, Any]]] = {}
    for one in found:
        if one.key in values and values[one.key] != one.part.value:
            changes.setdefault(id(one.owner), []).append((one, values[one.key]))
    if not changes:
        return chain

    def change(original: Any, copied: Any) -> Any:
        for one, value in changes.get(id(original), ()):
            copied = one.part.write(copied, value, plain)
        return copied

    return rebuilt(chain, change)
