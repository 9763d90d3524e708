"""Values of parts that stand where no tree leads: each is read where it is used, from what holds there."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any

from langchain_core.runnables.config import ensure_config

from trace_adapters import AdapterError, Parameter
from trace_adapters.extend import keyed

BOUND = "__trace_adapters_values"  # in a config's `configurable`; names that begin so are kept out of tracers' metadata

_watching: ContextVar[Watch | None] = ContextVar("trace_adapters_langchain_watch", default=None)


class Watch:
    """Notes which parts were read, while a candidate was being run, where the candidate's values do not reach."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    def check(self) -> None:
        """Complain if there were any.

        Raises:
            AdapterError: With the names.
        """
        if self.lost:
            raise AdapterError(
                f"{', '.join(sorted(self.lost))} was read in a thread that does not carry the context of the run: the "
                "candidate's values were not used there. Hand the work to the thread as ta.carry_context(function), or "
                "use LangChain's ContextThreadPoolExecutor, which does so."
            )


class Overlay:
    """Parameters whose values are read where they are used.

    The innermost `ta.using` wins, then what `bind` wrote into the config of the run, then the parameters' own values.

    Args:
        name: What the part is called in messages.
        parameters: By key.
    """

    def __init__(self, name: str, parameters: Mapping[str, Parameter]) -> None:
        self.name = name
        self.parameters = dict(parameters)
        self._own = {key: Context().run(parameter.read) for key, parameter in self.parameters.items()}
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()

    def bound_values(self, config: Any = None) -> dict[str, Any]:
        """Key -> value that a learned runnable brought along, for parameters that no `ta.using` sets here."""
        self._note()
        bound = (ensure_config(config).get("configurable") or {}).get(BOUND) or {}
        return {key: value for key, value in bound.items() if key in self.parameters and not self._is_set(key)}

    def is_changed(self) -> bool:
        """Whether any value here is not the part's own."""
        return bool(self.bound_values()) or any(map(self._is_set, self.parameters))

    def _is_set(self, key: str) -> bool:
        return self.parameters[key].read() is not self._own[key]

    def _note(self) -> None:
        """Tell those who watch, if their run does not reach here."""
        if self._watches and _watching.get() is None:
            with self._lock:
                for watch in self._watches:
                    watch.lost.add(self.name)

    def add(self, watch: Watch) -> None:
        """Let someone know of readings that miss the context."""
        with self._lock:
            self._watches.add(watch)

    def remove(self, watch: Watch) -> None:
        """The opposite of `add`."""
        with self._lock:
            self._watches.discard(watch)


class Ambient:
    """Several overlays as one optimization sees them.

    Attributes:
        parameters: Of all of them, by key.
    """

    def __init__(self, overlays: Iterable[Overlay]) -> None:
        self._overlays = tuple(overlays)
        self.parameters = keyed(p for overlay in self._overlays for p in overlay.parameters.values())

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Watch the readings of one run."""
        watch = Watch()
        for overlay in self._overlays:
            overlay.add(watch)
        token = _watching.set(watch)
        try:
            yield watch
        finally:
            _watching.reset(token)
            for overlay in self._overlays:
                overlay.remove(watch)


def taken(trainable: Any) -> tuple[tuple[str, ...], list[Overlay]]:
    """What the user named, as names and as parts with an overlay of their own."""
    alone = isinstance(trainable, str) or not isinstance(trainable or (), Iterable)
    listed = [trainable] if alone else list(trainable or ())
    names = tuple(one for one in listed if not hasattr(one, "overlays"))
    return names, [overlay for one in listed for overlay in getattr(one, "overlays", ())]


def bind(runnable: Any, values: Mapping[Parameter, Any]) -> Any:
    """A runnable under which parts with an overlay have these values; a graph stays a graph."""
    return runnable.with_config(configurable={BOUND: {parameter.key: value for parameter, value in values.items()}})
