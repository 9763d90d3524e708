"""A view of the file system that has nothing but a few directories, made by a process for itself."""

from __future__ import annotations

import ctypes
import os
import sys

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18
_ROOT = "/tmp"  # any directory that is everywhere; what stands in it is hidden from this process only


def show_only(libc: ctypes.CDLL, directories: list[str], hidden: list[str]) -> bool:
    """Let no other directory exist for this process: it cannot even ask which files there are.

    Needs user namespaces, as rootless containers do. The process must have one thread.

    Args:
        libc: The C library.
        directories: Absolute paths that stay where they are. Those that do not exist are left out.
        hidden: Directories below them that become empty.

    Returns:
        Whether it holds now; False where the kernel or its policy has no user namespaces.
    """
    if sys.platform != "linux":
        return False
    try:
        _enter(libc)
        shown = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in directories if os.path.isdir(path)}
        _mount(libc, "none", _ROOT, "tmpfs", 0)
        for path, descriptor in shown.items():
            os.makedirs(_ROOT + path, exist_ok=True)
            _mount(libc, f"/proc/self/fd/{descriptor}", _ROOT + path, None, _MS_BIND)
            os.close(descriptor)
        for path in hidden:
            if os.path.isdir(_ROOT + path):
                _mount(libc, "none", _ROOT + path, "tmpfs", 0)
        os.chroot(_ROOT)
        os.chdir("/")
    except OSError:
        return False
    return True


def _enter(libc: ctypes.CDLL) -> None:
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    _mount(libc, "none", "/", None, _MS_REC | _MS_PRIVATE)


def _mount(libc: ctypes.CDLL, source: str, place: str, kind: str | None, flags: int) -> None:
    named = None if kind is None else kind.encode()
    if libc.mount(os.fsencode(source), os.fsencode(place), named, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), "mount", place)
