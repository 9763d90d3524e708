"""One worker process, seen from the host."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from trace_adapters.errors import SandboxError, SandboxKilled, SandboxTimeout, SandboxUnavailable
from trace_adapters.sandbox.limits import Limits
from trace_adapters.sandbox.plain import HEADER, pack, unpack
from trace_adapters.sandbox.starting import start_process
from trace_adapters.sandboxing import BWRAP

_CHUNK = 1 << 16
_LONGEST_POLL_S = 1e6
_HAS_POLL = hasattr(select, "poll")

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


class Worker:
    """A worker process and the two pipes to it. Used by one thread at a time.

    Attributes:
        key: What it has defined; None while it is fresh.
        last_used: When it ended its last call, of the monotonic clock.
    """

    def __init__(self, limits: Limits, sandbox: str) -> None:
        self.key: object = None
        self.last_used = 0.0
        self._limits = limits
        self._is_wrapped = sandbox == BWRAP
        self._level: str | None = None
        self._calls = 0
        self._buffer = bytearray()
        self._process = start_process(sandbox)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._sink = self._process.stdin.fileno()
        self._source = self._process.stdout.fileno()
        if _HAS_POLL:
            os.set_blocking(self._sink, False)
            os.set_blocking(self._source, False)
            self._readable = select.poll()
            self._readable.register(self._source, select.POLLIN)
            self._writable = select.poll()
            self._writable.register(self._sink, select.POLLOUT)
        settings = {**limits.to_message(), "host_pid": None if self._is_wrapped else os.getpid()}
        with contextlib.suppress(SandboxKilled):  # said where its level is asked for
            self._send(pack(settings), time.monotonic() + limits.start_s)

    @property
    def level(self) -> str:
        """What confines the process; waits until it has started."""
        if self._level is None:
            try:
                ready = self._receive(time.monotonic() + self._limits.start_s)
            except SandboxTimeout:
                raise SandboxUnavailable(f"A sandbox process did not start in {self._limits.start_s:g} s.") from None
            except SandboxKilled as error:
                raise self._not_started(error) from error
            if "level" not in ready:
                raise SandboxUnavailable(f"A sandbox process could not be started: {ready.get('failed')}.")
            self._level = f"{BWRAP}+{ready['level']}" if self._is_wrapped else str(ready["level"])
        return self._level

    def call(self, request: dict[str, Any], timeout_s: float, answer: Answer) -> dict[str, Any]:
        """Send one call and wait for its reply; answer the callbacks on the way.

        Args:
            request: The call, without its number.
            timeout_s: Time of the code itself; what `answer` takes does not count.
            answer: Gives the reply to a callback.

        Raises:
            SandboxTimeout: The worker did not answer in time; it must be killed.
            SandboxKilled: The worker died.
            SandboxError: The worker broke the protocol; it must be killed.
        """
        self._calls += 1
        deadline = time.monotonic() + timeout_s + self._limits.grace_s
        self._send(pack({**request, "id": self._calls, "timeout_s": timeout_s}), deadline)
        callbacks = 0
        while True:
            reply = self._receive(deadline)
            if reply.get("id") != self._calls:
                raise SandboxError("The sandbox process sent a reply that was not asked for; it was stopped.")
            if "callback" not in reply:
                if self._buffer:
                    raise SandboxError("The sandbox process sent more than its reply; it was stopped.")
                return reply
            callbacks += 1
            if callbacks > self._limits.callbacks:
                raise SandboxError(f"The code called the program more than {self._limits.callbacks} times in one call.")
            paused = time.monotonic()
            data = pack(answer(reply))
            deadline += time.monotonic() - paused
            self._send(data, deadline)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # a pool that was dropped without close(), perhaps at exit
            self.kill()

    def kill(self) -> None:
        """End the process now, and take its remains away."""
        self._process.kill()
        self._close_pipes()
        self._process.wait()

    def forget(self) -> None:
        """Let go of a process that belongs to the parent of this forked process."""
        self._close_pipes()
        self._process.returncode = 0  # so that nothing here waits for it

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._sink, view) :]
                continue
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._died() from error
            self._wait(self._writable, deadline)

    def _receive(self, deadline: float) -> dict[str, Any]:
        while len(self._buffer) < HEADER.size:
            self._read(deadline)
        size = HEADER.unpack_from(self._buffer)[0] + HEADER.size
        if size > self._limits.result_bytes + _CHUNK:
            raise SandboxError(f"The code returned more than {self._limits.result_bytes} bytes. Return less.")
        while len(self._buffer) < size:
            self._read(deadline)
        data = self._buffer[HEADER.size : size]
        del self._buffer[:size]
        try:
            return unpack(data)
        except ValueError as error:
            raise SandboxError(f"The sandbox process sent what is no message: {error}.") from error

    def _read(self, deadline: float) -> None:
        data = self._read_now(deadline)
        if not data:
            raise self._died()
        self._buffer += data

    def _read_now(self, deadline: float) -> bytes:
        if _HAS_POLL:
            self._wait(self._readable, deadline)  # not in the `try`: its TimeoutError is an OSError
            return self._read_bytes()
        # Windows: the pipe cannot be polled, so a timer ends a process that is late, and the read ends with it.
        late = threading.Timer(max(0.0, deadline - time.monotonic()), self._process.kill)
        late.start()
        try:
            data = self._read_bytes()
        finally:
            late.cancel()
        if not data and time.monotonic() >= deadline:
            raise _late()
        return data

    def _read_bytes(self) -> bytes:
        try:
            return os.read(self._source, _CHUNK)
        except OSError as error:
            raise self._died() from error

    def _wait(self, events: select.poll, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not events.poll(min(remaining, _LONGEST_POLL_S) * 1000):
            raise _late()

    def _died(self) -> SandboxKilled:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return SandboxKilled("The code closed its connection to the program; its process was stopped.")
        if self._is_wrapped and code > 128:  # how bubblewrap tells a signal
            code = 128 - code
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return SandboxKilled(
                f"The code's process was killed by {name}: too much memory, too deep recursion or a crash."
            )
        return SandboxKilled(f"The code ended its process with exit status {code}. Return a value instead.")

    def _not_started(self, error: SandboxKilled) -> SandboxUnavailable:
        if self._is_wrapped:
            return SandboxUnavailable(
                "bubblewrap (bwrap) could not make a sandbox here; user namespaces are probably switched off. "
                f"Allow them, or choose another sandbox. ({error})"
            )
        return SandboxUnavailable(f"A sandbox process could not be started: {error}")


def _late() -> SandboxTimeout:
    return SandboxTimeout("The sandbox process did not answer in time.")
