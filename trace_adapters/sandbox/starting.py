"""Worker processes are started: plainly, or inside bubblewrap."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import Future

from trace_adapters.errors import SandboxUnavailable
from trace_adapters.sandboxing import BWRAP

_HERE = os.path.dirname(os.path.abspath(__file__))

# The worker finds its own modules through stand-in packages, so that the host's packages stay out of its reach.
_BOOT = """
import sys, types
for name, path in {packages!r}:
    package = types.ModuleType(name)
    package.__path__ = [path]
    sys.modules[name] = package
from trace_adapters.sandbox.worker import main
main()
"""


def start_process(sandbox: str) -> subprocess.Popen[bytes]:
    """Start a worker that waits for its settings on its standard input.

    Raises:
        SandboxUnavailable: If bubblewrap is asked for and not installed, there is no Python to start, or the machine
            gives no process.
    """
    if not sys.executable:
        raise SandboxUnavailable("There is no Python interpreter to start (sys.executable is empty).")
    packages = [("trace_adapters", os.path.dirname(_HERE)), ("trace_adapters.sandbox", _HERE)]
    python = os.path.realpath(sys.executable) if sandbox == BWRAP else sys.executable
    command = [python, "-s", "-P", "-S", "-X", "utf8", "-c", _BOOT.format(packages=packages)]
    try:
        return _starter.start([*_wrapping(python), *command] if sandbox == BWRAP else command)
    except OSError as error:
        raise SandboxUnavailable(
            f"A sandbox process could not be started: {error.strerror or error}. Raise that limit of the machine "
            "(ulimit -a), or use fewer workers."
        ) from error


def _wrapping(python: str) -> list[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxUnavailable(
            "sandbox='bwrap' needs bubblewrap, which is not installed: install the package bubblewrap of your "
            "system (Linux only), or choose another sandbox."
        )
    shown = [python, _HERE, *_runtime()]
    binds = [word for path in dict.fromkeys(shown) for word in ("--ro-bind-try", path, path)]
    return [
        bwrap,
        "--unshare-all",
        "--die-with-parent",
        "--clearenv",
        *("--setenv", "PYTHONHASHSEED", "0"),
        *binds,
        *("--dev", "/dev"),
        *("--chdir", "/"),
        "--",
    ]


def _runtime() -> list[str]:
    """What an interpreter is made of: its standard library, and the shared libraries of the system."""
    paths = [os.path.dirname(os.path.abspath(os.__file__)), sysconfig.get_config_var("LIBDIR") or "/usr/lib"]
    return [*paths, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"]


class _Starter:
    """Starts processes from one thread that never ends.

    Linux kills a worker when the *thread* that started it ends; that shall mean: when the host ends.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[list[str], Future[subprocess.Popen[bytes]]]] | None = None

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._waiting is None:
                self._waiting = queue.SimpleQueue()
                threading.Thread(target=_serve_starts, args=(self._waiting,), daemon=True, name="sandbox").start()
        started: Future[subprocess.Popen[bytes]] = Future()
        self._waiting.put((command, started))
        return started.result()


def _serve_starts(waiting: queue.SimpleQueue[tuple[list[str], Future[subprocess.Popen[bytes]]]]) -> None:
    while True:
        command, started = waiting.get()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd=os.path.abspath(os.sep),
                env=_environment(),
                start_new_session=True,
            )
        except BaseException as error:
            started.set_exception(error)
        else:
            started.set_result(process)


def _environment() -> dict[str, str]:
    """Nothing of the host's, and one order of sets in every worker, so that a run can be repeated."""
    environment = {"PYTHONHASHSEED": "0"}
    if sys.platform == "win32" and "SYSTEMROOT" in os.environ:  # without it, Python does not start there
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    return environment


_starter = _Starter()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_starter.forget)
