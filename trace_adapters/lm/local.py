"""The embedded model's client side: finds, starts and holds the server process that processes share."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import trace_adapters.errors
from trace_adapters.errors import ModelUnavailable, SettingError
from trace_adapters.lm.endpoints import Address
from trace_adapters.lm.fetching import fetch
from trace_adapters.lm.weights import Weights, find_weights, home

START_TIMEOUT_S = 300.0
GONE_TIMEOUT_S = 3.0
DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True)
class LocalSettings:
    """How the embedded model runs; docs/local-models.md has the measurements behind the defaults.

    Models with equal weights and settings share one server process.

    Attributes:
        threads: CPU threads; 0 takes one for each core this process may use, at most 8.
        slots: Requests answered at the same time; others wait. More is not faster on a CPU.
        context: Tokens of prompt and reply together, for each slot.
        batch: Prompt tokens evaluated at once.
        cache_mib: Memory for the state of prompts that no slot holds any more, so that prompts with different
            beginnings can take turns without being read anew.
        idle_s: How long the server stays when no process holds it.
    """

    threads: int = 0
    slots: int = 1
    context: int = 8192
    batch: int = 512
    cache_mib: int = 512
    idle_s: float = 5.0

    def __post_init__(self) -> None:
        least = {"threads": 0, "slots": 1, "context": 256, "batch": 32, "cache_mib": 0, "idle_s": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < minimum:
                raise SettingError(f"expected {name} >= {minimum} for a local model, got {name}={value!r}")


class LocalEndpoint:
    """Holds a lease on the server of one model; starts the server if there is none. Thread-safe."""

    def __init__(self, weights: str, settings: LocalSettings, *, fetch_missing: bool = False) -> None:
        self.settings = settings
        self._wanted = weights
        self._fetch = fetch_missing
        self._weights: Weights | None = None
        self._address: Address | None = None
        self._release: weakref.finalize[Any, Any] | None = None
        self._lock = threading.RLock()

    @classmethod
    def from_options(cls, weights: str, options: Mapping[str, Any]) -> tuple[LocalEndpoint, dict[str, Any]]:
        """Take the local settings out of the options of `LM`; return the endpoint and the options that are left."""
        rest = dict(options)
        fetch_missing = bool(rest.pop("fetch", False))
        chosen = {field.name: rest.pop(field.name) for field in fields(LocalSettings) if field.name in rest}
        return cls(weights, LocalSettings(**chosen), fetch_missing=fetch_missing), rest

    @property
    def name(self) -> str:
        """The model's name in records and requests."""
        return find_weights(self._wanted).name

    @property
    def identity(self) -> str:
        return f"local:{self._found().fingerprint}"

    @property
    def directory(self) -> Path:
        """Where the server's lease, state and log are: one place for equal weights, settings and runtime."""
        parts = [self._found().fingerprint, asdict(self.settings), _runtime_version()]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return home() / "servers" / digest[:16]

    def open(self) -> Address:
        """Hold the lease and return the server's address, starting it if need be.

        Raises:
            ModelUnavailable: No weights, no runtime, or the server does not start (the end of its log is in the
                message).
        """
        with self._lock:
            if self._address is None:
                self._address = self._connect()
            return self._address

    def is_lost(self, address: Address) -> bool:
        """Whether the server at `address` has died; then the next `open` starts one."""
        with self._lock:
            if self._address is not None and self._address != address:
                return True  # another thread noticed first
            if not _is_free(self.directory / "server.lock", GONE_TIMEOUT_S):
                return False
            self._address = None
            return True

    def close(self) -> None:
        with self._lock:
            if self._release is not None:
                self._release()
            self._address = self._release = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._wanted, self.settings, self._fetch)

    def _found(self) -> Weights:
        """The weights on disk, checked once."""
        with self._lock:
            if self._weights is None:
                weights = find_weights(self._wanted)
                if self._fetch and not weights.path.exists():
                    fetch(weights.name)
                weights.check()
                self._weights = weights
            return self._weights

    def _connect(self) -> Address:
        weights = self._found()
        _require_runtime()
        directory = self.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._release is None:
            self._release = weakref.finalize(self, os.close, _take_lease(directory / "lease"))
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            lock = _try_lock(directory / "server.lock")
            if lock is not None:
                (directory / "state.json").unlink(missing_ok=True)  # of a server that was killed
                process = self._spawn(weights, directory, lock)
                return self._wait_for(process, directory, deadline)
            state = _read_state(directory)
            if state is not None:
                return Address(state["base_url"], state["api_key"])
            time.sleep(0.05)
        raise ModelUnavailable(
            f"expected the server of {weights.name} to be ready within {START_TIMEOUT_S:.0f} s{_log_tail(directory)}"
        )

    def _spawn(self, weights: Weights, directory: Path, lock: int) -> subprocess.Popen[bytes]:
        """Start the server, which inherits the lock: nobody else can start a second one, whatever dies when."""
        arguments = ["--model", str(weights.path), "--name", weights.name, "--directory", str(directory)]
        for name, value in asdict(self.settings).items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        package_root = str(Path(trace_adapters.errors.__file__).resolve().parent.parent)
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            with open(directory / "server.log", "wb") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "trace_adapters.lm.local_server", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=directory,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                    pass_fds=(lock,),
                    start_new_session=True,
                )
        finally:
            os.close(lock)

    def _wait_for(self, process: subprocess.Popen[bytes], directory: Path, deadline: float) -> Address:
        while time.monotonic() < deadline:
            state = _read_state(directory)
            if state is not None:
                _reap_later(process)
                return Address(state["base_url"], state["api_key"])
            if process.poll() is not None:
                raise ModelUnavailable(
                    f"expected the local server of {self._wanted or 'the default model'!r} to start, got exit code "
                    f"{process.returncode}{_log_tail(directory)}"
                )
            time.sleep(0.05)
        process.kill()
        raise ModelUnavailable(
            f"expected the local server to be ready within {START_TIMEOUT_S:.0f} s{_log_tail(directory)}"
        )


def _rebuild(weights: str, settings: LocalSettings, fetch_missing: bool) -> LocalEndpoint:
    return LocalEndpoint(weights, settings, fetch_missing=fetch_missing)


def _take_lease(path: Path) -> int:
    """Lock the lease for sharing; waits while a server that found itself idle is leaving."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def _try_lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _is_free(path: Path, timeout_s: float) -> bool:
    """Whether nobody holds the lock; a killed server may need a moment to let go of it."""
    deadline = time.monotonic() + timeout_s
    while True:
        handle = _try_lock(path)
        if handle is not None:
            os.close(handle)
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def _read_state(directory: Path) -> dict[str, Any] | None:
    """The state of a server that is ready and alive."""
    try:
        state: dict[str, Any] = json.loads((directory / "state.json").read_text())
        os.kill(state["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return state


def _reap_later(process: subprocess.Popen[bytes]) -> None:
    """Wait for the server's end in the background, so that it leaves no zombie while we live."""
    threading.Thread(target=process.wait, name="trace-adapters local server", daemon=True).start()


def _log_tail(directory: Path, lines: int = 12) -> str:
    try:
        text = (directory / "server.log").read_text(errors="replace").strip()
    except OSError:
        return ""
    return f"; the end of its log, {directory / 'server.log'}:\n" + "\n".join(text.splitlines()[-lines:])


def _runtime_version() -> str:
    try:
        return version("xllamacpp")
    except PackageNotFoundError:
        return ""


def _require_runtime() -> None:
    if not _runtime_version():
        raise ModelUnavailable(
            "expected the runtime of local models, got no package 'xllamacpp'; run: pip install 'trace-adapters[local]'"
        )
