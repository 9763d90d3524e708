"""What a worker process gives up before it runs code: resources, files, system calls."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys

from trace_adapters.sandbox.landlock import allow_only_reading
from trace_adapters.sandbox.namespaces import show_only
from trace_adapters.sandbox.seccomp import allow_only_computing

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITIES_3 = 0x20080522
_TIME_ZONES = "/usr/share/zoneinfo"
_CPU_SECONDS = 3_600  # a worker whose host has died in a way that nobody noticed ends after this


def confine(memory_mb: int, host_pid: int | None) -> str:
    """Give up what the platform lets a process give up.

    Args:
        memory_mb: Address space that stays.
        host_pid: The process with which this one must end; None where something else sees to that.

    Returns:
        What now holds, joined by "+": of "namespace", "seccomp" and "landlock" those there are, else "rlimits", else
        "process".
    """
    if not sys.platform.startswith("linux"):
        return "rlimits" if _limit_resources(memory_mb) else "process"
    libc = ctypes.CDLL(None, use_errno=True)
    hiding = host_pid is not None and show_only(libc, [_library(), _TIME_ZONES], _installed())
    _limit_resources(memory_mb)
    libc.capset(struct.pack("=II", _CAPABILITIES_3, 0), bytes(24))  # a host that is root, or root of its namespace
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if host_pid is not None and os.getppid() != host_pid:
        os._exit(0)  # the host died before it could be watched
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return "rlimits"
    reading = allow_only_reading(libc, _readable())
    computing = allow_only_computing(libc)
    found = (("namespace", hiding), ("seccomp", computing), ("landlock", reading))
    return "+".join(name for name, holds in found if holds) or "rlimits"


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


def _library() -> str:
    return os.path.dirname(os.path.abspath(os.__file__))


def _installed() -> list[str]:
    return [f"{_library()}/site-packages", f"{_library()}/dist-packages"]


def _readable() -> list[str]:
    """The standard library without what users have installed into it, and the time zones."""
    entries = [entry.path for entry in os.scandir(_library()) if entry.path not in _installed()]
    return [*entries, _TIME_ZONES]
