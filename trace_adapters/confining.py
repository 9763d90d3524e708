"""Learned code of a study in its sandbox: asked for before the start, recorded as it held."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from trace_adapters.errors import SettingError
from trace_adapters.nodes import Parameter
from trace_adapters.sandboxing import AUTO, MONTY, choosing_sandbox, noting_levels, require_sandbox
from trace_adapters.study.study import Study

EVENT = "sandbox"


def check_sandbox(sandbox: str | None, parameters: Iterable[Parameter]) -> None:
    """Refuse a sandbox that this machine does not have, before anything runs.

    Raises:
        SettingError: If it is no sandbox for a whole study.
        SandboxUnavailable: If there is code to learn and the machine cannot confine it so.
    """
    require_sandbox(sandbox)
    if sandbox == MONTY:
        raise SettingError(
            "sandbox='monty' runs a subset of Python, which each function must ask for: bundle(trainable=True, "
            "sandbox='monty'); for a whole study there are 'auto', 'strict' and 'bwrap'."
        )
    if sandbox not in (None, AUTO) and _has_code(parameters):
        from trace_adapters.sandbox import default_pool  # processes that most studies do not need

        default_pool(sandbox).level()


@contextmanager
def confining(study: Study, sandbox: str | None, parameters: Iterable[Parameter], workers: int) -> Iterator[None]:
    """Run learned functions of the block in a sandbox, `workers` at a time, and note in the study what held.

    The study gets an event "sandbox" with `level` and `asked` when code first runs at a level.
    """
    with ExitStack() as stack:
        stack.enter_context(choosing_sandbox(sandbox))
        stack.enter_context(noting_levels(_Log(study, sandbox)))
        if _has_code(parameters):
            from trace_adapters.sandbox import default_pool

            stack.enter_context(default_pool(sandbox or AUTO).room_for(workers))
        yield


def levels(study: Study) -> list[str]:
    """What confined learned code in a study, in the order in which it first ran."""
    return list(dict.fromkeys(str(event.payload["level"]) for event in study.events(EVENT)))


class _Log:
    def __init__(self, study: Study, asked: str | None) -> None:
        self._study = study
        self._asked = asked
        self._known = {(event.payload["level"], event.payload["asked"]) for event in study.events(EVENT)}
        self._lock = threading.Lock()

    def __call__(self, function: str, level: str) -> None:
        if (level, self._asked) in self._known:
            return
        with self._lock:
            if (level, self._asked) not in self._known:
                self._known.add((level, self._asked))
                self._study.record_event(EVENT, {"level": level, "asked": self._asked, "function": function})


def _has_code(parameters: Iterable[Parameter]) -> bool:
    return any(parameter.kind == "code" for parameter in parameters)
