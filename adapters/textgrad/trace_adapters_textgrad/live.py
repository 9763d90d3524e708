"""Which losses belong to which optimizer: `Variable.backward`, taken over where one of ours is alive."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from trace_adapters import SettingError
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.operations import ancestors_of, backward_calls, foreign_backward
from trace_adapters_textgrad.telling import tell


class SparedPass:
    """A backward pass of TextGrad that was not made: one, however many optimizers took the loss."""

    def __init__(self, calls: int) -> None:
        self._calls = calls

    def count(self) -> int:
        """The model calls that it would have made; 0 where they have been counted."""
        calls, self._calls = self._calls, 0
        return calls


class Owner(Protocol):
    """What takes losses instead of TextGrad's backward pass."""

    parameters: Sequence[Any]

    def capture(self, loss: Any, spared: SparedPass) -> None: ...


_lock = threading.RLock()
_owners: WeakKeyDictionary[Any, None] = WeakKeyDictionary()  # in the order in which they were made
_rivals: WeakSet[Any] = WeakSet()  # TextGrad's own optimizers that are alive
_installed = False


def own(owner: Owner) -> None:
    """Give an owner the losses that depend on what its `parameters` are by then, as long as it lives.

    From the first time on `Variable.backward` looks for owners; without one it is TextGrad's.
    """
    with _lock:
        _install()
        _owners[owner] = None


def _install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    _rivals.update(found for found in gc.get_objects() if shims.Optimizer in type(found).__mro__)
    shims.replace_method(shims.Optimizer, "__init__", _noticing)
    shims.replace_method(shims.Variable, "backward", _dispatching)


def _noticing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        with _lock:
            _rivals.add(self)

    return initialize


def _dispatching(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def backward(self: Any, engine: Any = None) -> Any:
        graph = ancestors_of([self])
        owners = _owners_of(graph)
        if not owners:
            return original(self, engine)
        own_function = foreign_backward(graph)
        if own_function is not None:
            tell(
                f"The loss has a backward function of the program's own, {own_function}: TextGrad's backward pass is "
                "run, and step() learns from the gradients that it leaves."
            )
            return original(self, engine)
        if _rival_of(graph) is not None:
            gc.collect()  # one that nobody holds any more is none
        rival = _rival_of(graph)
        if rival is not None:
            raise SettingError(
                f"A {type(rival).__module__}.{type(rival).__name__} is alive that trains Variables of this loss, too; "
                "it would get no gradients, because backward() is taken over. Make it a trace_adapters_textgrad.TGD, "
                "or delete it."
            )
        spared = SparedPass(backward_calls(graph))
        for owner in owners:
            owner.capture(self, spared)
        return None

    return backward


def _owners_of(graph: set[Any]) -> list[Any]:
    with _lock:
        alive = list(_owners)
    return [owner for owner in alive if not graph.isdisjoint(owner.parameters)]


def _rival_of(graph: set[Any]) -> Any:
    with _lock:
        alive = list(_rivals)
    return next((r for r in alive if getattr(r, "asks_itself", True) and not graph.isdisjoint(r.parameters)), None)
