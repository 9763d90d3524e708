"""What a worker process gives up before it runs code: resources, files, system calls."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

from trace_adapters.sandbox.landlock import allow_only_reading
from trace_adapters.sandbox.seccomp import allow_only_computing

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CPU_SECONDS = 3_600  # a worker whose host has died in a way that nobody noticed ends after this


def confine(memory_mb: int, host_pid: int | None) -> str:
    """Give up what the platform lets a process give up.

    Args:
        memory_mb: Address space that stays.
        host_pid: The process with which this one must end; None where something else sees to that.

    Returns:
        What now holds: "seccomp+landlock", "seccomp", "landlock", "rlimits" or "process".
    """
    has_limits = _limit_resources(memory_mb)
    if not sys.platform.startswith("linux"):
        return "rlimits" if has_limits else "process"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if host_pid is not None and os.getppid() != host_pid:
        os._exit(0)  # the host died before it could be watched
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return "rlimits"
    reading = allow_only_reading(libc, _readable())
    computing = allow_only_computing(libc)
    held = [name for name, holds in (("seccomp", computing), ("landlock", reading)) if holds]
    return "+".join(held) or "rlimits"


def _limit_resources(memory_mb: int) -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    bounds = {
        "RLIMIT_AS": memory_mb * 2**20,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NOFILE": 32,
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": _CPU_SECONDS,
        "RLIMIT_NPROC": 0,
    }
    for name, bound in bounds.items():
        limit = getattr(resource, name, None)
        if limit is not None:
            with contextlib.suppress(ValueError, OSError):  # macOS refuses some; a lower one may already hold
                resource.setrlimit(limit, (bound, bound))
    return True


def _readable() -> list[str]:
    """The standard library without what users have installed into it, and the time zones."""
    home = os.path.dirname(os.path.abspath(os.__file__))
    entries = [entry.path for entry in os.scandir(home) if entry.name not in ("site-packages", "dist-packages")]
    return [*entries, "/usr/share/zoneinfo"]
