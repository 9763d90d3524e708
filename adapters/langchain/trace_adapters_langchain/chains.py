"""What a chain is made of: the runnables inside each composite, the same composite with others inside."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import (
    Runnable,
    RunnableAssign,
    RunnableBinding,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import DynamicRunnable, RunnableConfigurableAlternatives
from langchain_core.runnables.retry import RunnableRetry
from langchain_core.runnables.router import RouterRunnable

Slot = tuple[str, Any]
"""A place in a composite: what it is for, then which one: ("step", 0), ("key", "question"), ("condition", 1)."""


@dataclass(frozen=True)
class Shape:
    """How one kind of composite holds its runnables.

    Attributes:
        kind: "sequence", "parallel", "assign", "branch", "fallbacks", "retry", "each", "binding", "dynamic", "router".
        read: composite -> slot -> runnable.
        write: composite, slot -> runnable -> a copy with those inside.
    """

    kind: str
    read: Callable[[Any], dict[Slot, Runnable[Any, Any]]]
    write: Callable[[Any, Mapping[Slot, Runnable[Any, Any]]], Runnable[Any, Any]]


def shape_of(runnable: Any) -> Shape | None:
    """How a composite holds its runnables; None for a leaf, and for a class that runs its parts its own way."""
    return _shape_of_class(type(runnable))


def children(runnable: Any) -> dict[Slot, Runnable[Any, Any]]:
    """Slot -> runnable; empty for a leaf."""
    shape = shape_of(runnable)
    return shape.read(runnable) if shape is not None else {}


def with_children(runnable: Any, changed: Mapping[Slot, Runnable[Any, Any]]) -> Any:
    """A copy of a composite in which some slots hold other runnables; the composite itself if nothing changes."""
    shape = shape_of(runnable)
    if shape is None or not changed:
        return runnable
    return shape.write(runnable, {**shape.read(runnable), **changed})


def walk(runnable: Any, path: tuple[Slot, ...] = ()) -> Iterator[tuple[tuple[Slot, ...], Any]]:
    """(path, runnable) of a chain and everything inside, composites before their parts."""
    yield path, runnable
    for slot, child in children(runnable).items():
        yield from walk(child, (*path, slot))


def rebuilt(runnable: Any, change: Callable[[Any, Any], Any], done: dict[int, Any] | None = None) -> Any:
    """A chain in which `change` was applied to every part, innermost first; parts that stay the same are shared.

    Args:
        runnable: The chain, which is not touched.
        change: Called with each part, and with what it is after its own parts were changed; returns what stands there
            instead.
        done: `id` of a part -> what became of it; a part that stands in two places changes once.
    """
    done = {} if done is None else done
    if id(runnable) not in done:
        parts = children(runnable)
        new = {slot: rebuilt(child, change, done) for slot, child in parts.items()}
        changed = {slot: child for slot, child in new.items() if child is not parts[slot]}
        made = change(runnable, with_children(runnable, changed))
        done[id(runnable)] = made
    return done[id(runnable)]


def model_copy(model: Any, **fields: Any) -> Any:
    """A copy of a pydantic model with some fields changed and nothing cached: tracers are told the new prompt."""
    copied = model.model_copy(update=fields)
    for name in _cached_names(type(model)):
        copied.__dict__.pop(name, None)
    return copied


def lambda_copy(runnable: RunnableLambda[Any, Any], **functions: Any) -> RunnableLambda[Any, Any]:
    """A copy of a `RunnableLambda` with `func` or `afunc` changed."""
    copied = copy.copy(runnable)
    copied.__dict__.pop("deps", None)
    copied.__dict__.update(functions, _repr=None)
    return copied


def is_plain(runnable: Any, cls: type) -> bool:
    """Whether a runnable runs as LangChain's own class does."""
    return isinstance(runnable, cls) and getattr(type(runnable), "invoke", None) is getattr(cls, "invoke", None)


@functools.lru_cache(maxsize=512)
def _cached_names(cls: type) -> tuple[str, ...]:
    found = {n for base in cls.__mro__ for n, v in vars(base).items() if isinstance(v, functools.cached_property)}
    return tuple(found)


@functools.lru_cache(maxsize=512)
def _shape_of_class(cls: type) -> Shape | None:
    for base, shape in _SHAPES:
        if issubclass(cls, base) and cls.invoke is base.invoke:  # type: ignore[attr-defined]
            return shape
    return None


def _sequence_steps(runnable: Any) -> dict[Slot, Any]:
    return {("step", number): step for number, step in enumerate(runnable.steps, 1)}


def _write_sequence(runnable: Any, parts: Mapping[Slot, Any]) -> Any:
    first, *middle, last = parts.values()
    return model_copy(runnable, first=first, middle=middle, last=last)


def _write_parallel(runnable: Any, parts: Mapping[Slot, Any]) -> Any:
    return model_copy(runnable, steps__={key: child for (_, key), child in parts.items()})


def _branch_parts(runnable: Any) -> dict[Slot, Any]:
    found: dict[Slot, Any] = {}
    for number, (condition, branch) in enumerate(runnable.branches, 1):
        found["condition", number], found["branch", number] = condition, branch
    found["branch", "default"] = runnable.default
    return found


def _write_branch(runnable: Any, parts: Mapping[Slot, Any]) -> Any:
    numbers = range(1, len(runnable.branches) + 1)
    pairs = [(parts["condition", number], parts["branch", number]) for number in numbers]
    return model_copy(runnable, branches=pairs, default=parts["branch", "default"])


def _fallback_parts(runnable: Any) -> dict[Slot, Any]:
    return {("attempt", number): child for number, child in enumerate([runnable.runnable, *runnable.fallbacks], 1)}


def _write_fallbacks(runnable: Any, parts: Mapping[Slot, Any]) -> Any:
    first, *others = parts.values()
    return model_copy(runnable, runnable=first, fallbacks=others)


def _write_bound(runnable: Any, parts: Mapping[Slot, Any]) -> Any:
    return model_copy(runnable, bound=parts["bound", ""])


def _dynamic_parts(runnable: Any) -> dict[Slot, Any]:
    found: dict[Slot, Any] = {("bound", ""): runnable.default}
    if isinstance(runnable, RunnableConfigurableAlternatives):
        others = {key: other for key, other in runnable.alternatives.items() if isinstance(other, Runnable)}
        found.update({("alternative", key): other for key, other in others.items()})
    return found


def _write_dynamic(runnable: Any, parts: Mapping[Slot, Any]) -> Any:
    fields: dict[str, Any] = {"default": parts["bound", ""]}
    others = {key: child for (kind, key), child in parts.items() if kind == "alternative"}
    if others:
        fields["alternatives"] = {**runnable.alternatives, **others}
    return model_copy(runnable, **fields)


def _write_router(runnable: Any, parts: Mapping[Slot, Any]) -> Any:
    return model_copy(runnable, runnables={key: child for (_, key), child in parts.items()})


def _keyed(attribute: str) -> Callable[[Any], dict[Slot, Any]]:
    return lambda runnable: {("key", key): child for key, child in getattr(runnable, attribute).items()}


def _bound(runnable: Any) -> dict[Slot, Any]:
    return {("bound", ""): runnable.bound}


_SHAPES: tuple[tuple[type, Shape], ...] = (
    (RunnableSequence, Shape("sequence", _sequence_steps, _write_sequence)),
    (RunnableParallel, Shape("parallel", _keyed("steps__"), _write_parallel)),
    (
        RunnableAssign,
        Shape("assign", lambda r: {("mapper", ""): r.mapper}, lambda r, p: model_copy(r, mapper=p["mapper", ""])),
    ),
    (RunnableBranch, Shape("branch", _branch_parts, _write_branch)),
    (RunnableWithFallbacks, Shape("fallbacks", _fallback_parts, _write_fallbacks)),
    (RunnableRetry, Shape("retry", _bound, _write_bound)),
    (RunnableEachBase, Shape("each", _bound, _write_bound)),
    (RunnableBinding, Shape("binding", _bound, _write_bound)),
    (RunnableBindingBase, Shape("binding", _bound, _write_bound)),
    (DynamicRunnable, Shape("dynamic", _dynamic_parts, _write_dynamic)),
    (RouterRunnable, Shape("router", _keyed("runnables"), _write_router)),
)
