"""The workers of each sandbox, with what is said of weak ones."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeAlias

from trace_adapters.sandbox.limits import Limits
from trace_adapters.sandbox.processes import Worker
from trace_adapters.sandboxing import MONTY

if TYPE_CHECKING:
    from trace_adapters.sandbox.monty import MontyWorker

FULL_LEVEL = "seccomp+landlock"
AnyWorker: TypeAlias = "Worker | MontyWorker"

_warned: set[str] = set()


def start_worker(sandbox: str, limits: Limits) -> AnyWorker:
    """Start a worker of a sandbox.

    Raises:
        SandboxUnavailable: If this machine does not have what it stands on.
    """
    if sandbox != MONTY:
        return Worker(limits, sandbox)
    from trace_adapters.sandbox.monty import MontyWorker  # its library is an extra

    return MontyWorker(limits)


def warn_once(level: str) -> None:
    """Say, once in this process, that code is confined less than it could be."""
    if level in _warned:
        return
    _warned.add(level)
    warnings.warn(
        f"Code written by a model is confined by {level!r} only on this machine, not by {FULL_LEVEL!r}: it may be "
        "able to read files or open connections. sandbox='strict' refuses that; sandbox='monty' confines a subset of "
        "Python everywhere.",
        RuntimeWarning,
        stacklevel=5,
    )
