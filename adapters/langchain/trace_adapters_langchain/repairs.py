"""A chain of our own on which LangChain's events name the right parents and places; nothing is patched.

LangChain reports the run of a bound step (`.bind()`, `.with_config()`, `.with_retry()`) inside a branch, a map or a
nested batch as a child of the run further out, because merging two configs prefers the ambient parent to the given
one. And it does not say which item of a map, or which attempt of a retry, a run belongs to. On a copy of the chain,
bindings, retries and maps are of subclasses that say so.
"""

from __future__ import annotations

import functools
import uuid
from typing import Any

from langchain_core.runnables.config import patch_config, var_child_runnable_config

from trace_adapters_langchain.chains import rebuilt, shape_of
from trace_adapters_langchain.leaves import makes_one_run
from trace_adapters_langchain.recording import listening


def repaired(chain: Any) -> Any:
    """The chain with its bindings, retries and maps replaced; the chain itself if it has none."""
    return rebuilt(chain, _repair)


def place(runnable: Any, config: Any, manager: Any, number: int) -> Any:
    """Give the run that begins with `config` an id, and tell those who record it that it is number so-and-so.

    Not where a runnable gives its config to several runs: two with one id would be one.
    """
    recorders = listening(manager)
    if recorders and makes_one_run(runnable):
        config["run_id"] = run_id = uuid.uuid4()
        for recorder in recorders:
            recorder.know(run_id, place=number)
    return config


class _Bound:
    """A binding that keeps the parent run it was given."""

    def _merge_configs(self, *configs: Any) -> Any:
        given = configs[0].get("callbacks") if configs and configs[0] else None
        if getattr(given, "parent_run_id", None) is None:
            return super()._merge_configs(*configs)  # type: ignore[misc]
        token = var_child_runnable_config.set(None)  # else the ambient parent would win
        try:
            return super()._merge_configs(*configs)  # type: ignore[misc]
        finally:
            var_child_runnable_config.reset(token)


class _Retried(_Bound):
    """A retry whose attempts are numbered."""

    def _patch_config(self, config: Any, run_manager: Any, retry_state: Any) -> Any:
        patched = super()._patch_config(config, run_manager, retry_state)  # type: ignore[misc]
        return place(self.bound, patched, run_manager, retry_state.attempt_number)  # type: ignore[attr-defined]


class _Mapped:
    """A map whose items are numbered."""

    def _invoke(self, inputs: Any, run_manager: Any, config: Any, **kwargs: Any) -> Any:
        return self.bound.batch(list(inputs), self._configs(inputs, run_manager, config), **kwargs)  # type: ignore[attr-defined]

    async def _ainvoke(self, inputs: Any, run_manager: Any, config: Any, **kwargs: Any) -> Any:
        configs = self._configs(inputs, run_manager, config)
        return await self.bound.abatch(list(inputs), configs, **kwargs)  # type: ignore[attr-defined]

    def _configs(self, inputs: Any, run_manager: Any, config: Any) -> list[Any]:
        return [
            place(self.bound, patch_config(config, callbacks=run_manager.get_child()), run_manager, number)  # type: ignore[attr-defined]
            for number, _ in enumerate(inputs)
        ]


_REPAIRS = {"binding": _Bound, "retry": _Retried, "each": _Mapped}


def _repair(_: Any, runnable: Any) -> Any:
    shape = shape_of(runnable)
    repair = _REPAIRS.get(shape.kind) if shape is not None else None
    if repair is None or isinstance(runnable, repair):
        return runnable
    copied = runnable.model_copy()
    copied.__class__ = _repaired_class(type(runnable), repair)
    return copied


@functools.lru_cache(maxsize=128)
def _repaired_class(cls: type, repair: type) -> type:
    return type(cls.__name__, (repair, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})
