"""Workers that are kept for the sources they run."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import functools
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from trace_adapters.errors import SandboxError, SandboxTimeout, SandboxUnavailable
from trace_adapters.sandbox.calls import SandboxCall, callback_loop, in_callback
from trace_adapters.sandbox.failures import read_failure, with_place
from trace_adapters.sandbox.limits import Limits
from trace_adapters.sandbox.workers import FULL_LEVEL, AnyWorker, start_worker, warn_once
from trace_adapters.sandboxing import AUTO, MONTY, STRICT, require_sandbox

_MOST_THREADS = 1_024


class SandboxPool:
    """Worker processes, each for one source, so that one candidate cannot poison another.

    Safe for threads. A process forked from the host starts with an empty pool of its own.

    Args:
        max_workers: Most processes at a time. A caller waits for a free one; a call made from inside a callback
            never waits, so that nested calls cannot block each other.
        limits: What each worker may use up.
        sandbox: "auto": as much as the platform holds, with a warning where that is less than on Linux; "strict":
            that of Linux or none; "bwrap": inside bubblewrap, too; "monty": a subset of Python, on every platform.

    Raises:
        SettingError: If `sandbox` is none of these.
    """

    _threads: ThreadPoolExecutor | None

    def __init__(self, max_workers: int = 32, limits: Limits | None = None, *, sandbox: str = AUTO) -> None:
        if max_workers < 1:
            raise ValueError(f"max_workers is at least 1, got {max_workers!r}.")
        require_sandbox(sandbox)
        self._sandbox = sandbox
        self._max_workers = max_workers
        self._limits = limits or Limits()
        self._level: str | None = None
        self._rooms: list[int] = []  # the calls of each `room_for` that is open
        self._forget()
        _pools.add(self)

    def __enter__(self) -> SandboxPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(
        self,
        source_text: str,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        imports: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        uses: Mapping[str, Callable[..., Any]] | None = None,
        timeout_s: float = 5.0,
        memory_mb: int | None = None,
    ) -> Any:
        """Call the function `name` of a source text in a worker process.

        Args:
            source_text: Python source that defines `name`, async or not.
            name: The function.
            args: Its arguments; plain values, objects with a codec, or others, which the code can only pass on to
                `uses` or return.
            kwargs: Its keyword arguments.
            imports: Names of the standard library that the source finds: alias -> "module" or "module:name".
            constants: Plain values that it finds.
            uses: Functions of the host that it may call; they run in the calling thread. What they raise reaches the
                code, and, uncaught, the caller as it was.
            timeout_s: Wall-clock limit of the code, without the time of `uses`.
            memory_mb: Address space of the worker; the pool's limit by default.

        Raises:
            SandboxTimeout: It ran longer than `timeout_s`.
            SandboxKilled: Its process died.
            SandboxUnavailable: This machine does not have the pool's sandbox.
            SandboxError: An argument or the result cannot travel, or the sandbox does not work.
            Exception: What the code raised, with `.trace_adapters_place` and `.trace_adapters_stdout`.
        """
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ValueError(f"timeout_s is a positive number of seconds, got {timeout_s!r}.")
        call = SandboxCall(source_text, name, imports or {}, constants or {}, uses or {})
        request = {"args": call.write(list(args)), "kwargs": call.write(dict(kwargs or {}))}
        memory = memory_mb or self._limits.memory_mb
        worker = self._take((memory, call.key), memory)
        try:
            if worker.key is None:
                self._note_level(worker.level)
                request["define"] = call.definition()
                worker.key = (memory, call.key)
            reply = worker.call(request, timeout_s, call.answer)
        except SandboxTimeout:
            self._discard(worker)
            message = f"The code ran longer than {timeout_s:g} s and its process was killed."
            raise with_place(SandboxTimeout(message), None, "") from None
        except BaseException:
            self._discard(worker)
            raise
        return self._outcome(worker, call, reply, timeout_s)

    async def arun(self, *args: Any, **options: Any) -> Any:
        """Do what `run` does without blocking the event loop; async functions in `uses` are awaited in it."""
        loop = asyncio.get_running_loop()
        token = callback_loop.set(loop)
        try:
            call = functools.partial(contextvars.copy_context().run, self.run, *args, **options)
            return await loop.run_in_executor(self._threads_of_loops(), call)
        finally:
            callback_loop.reset(token)

    @property
    def known_level(self) -> str | None:
        """What `level` says, or None before the first worker has started."""
        return self._level

    def level(self) -> str:
        """What confines a worker on this machine.

        "monty", "process", "rlimits", or what holds of "namespace" (or "bwrap"), "seccomp" and "landlock", joined by
        "+". Where seccomp and landlock hold, files, network and processes are out of reach; a namespace also hides
        which files there are.

        Raises:
            SandboxUnavailable: This machine does not have the pool's sandbox.
        """
        if self._level is None:
            worker = self._take(None, self._limits.memory_mb)
            try:
                self._note_level(worker.level)
            except BaseException:
                self._discard(worker)
                raise
            self._give_back(worker)
        assert self._level is not None
        return self._level

    @contextlib.contextmanager
    def room_for(self, calls: int) -> Iterator[None]:
        """Let so many calls run side by side in the block, however small the pool is; idle workers end with it."""
        with self._changed:
            self._rooms.append(calls)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._rooms.remove(calls)
                surplus = [self._pop_oldest() for _ in range(min(self._count - self._room(), self._idle_count()))]
            for worker in surplus:
                worker.kill()

    def close(self) -> None:
        """End all idle workers. The pool can be used again."""
        with self._changed:
            idle = [worker for workers in self._idle.values() for worker in workers]
            self._idle.clear()
            self._count -= len(idle)
            self._changed.notify_all()
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)
        for worker in idle:
            worker.kill()

    def _threads_of_loops(self) -> ThreadPoolExecutor:
        """Threads of its own: those of the loop are few, and calls within callbacks of calls could use them up."""
        with self._changed:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="sandbox-call")
            return self._threads

    def _outcome(self, worker: AnyWorker, call: SandboxCall, reply: Mapping[str, Any], timeout_s: float) -> Any:
        described = reply.get("error")
        if described is None:
            self._give_back(worker)
            return call.read(reply.get("value"))
        if not isinstance(described, dict):
            self._discard(worker)
            raise SandboxError("The sandbox process sent an error that cannot be read; it was stopped.")
        try:
            error = read_failure(described, call.host_error(described.get("host_error")), timeout_s)
        except (KeyError, TypeError, ValueError, IndexError) as mistake:
            self._discard(worker)
            raise SandboxError("The sandbox process sent an error that cannot be read.") from mistake
        if described.get("is_time_up") or described.get("is_spoiled"):
            self._discard(worker)
        else:
            self._give_back(worker)
        raise error

    def _take(self, key: object, memory_mb: int) -> AnyWorker:
        evicted = None
        with self._changed:
            while True:
                for wanted in (key, None):
                    if self._idle.get(wanted) and (wanted is not None or memory_mb == self._limits.memory_mb):
                        return self._pop(wanted)
                if self._count < self._room() or in_callback.get():
                    break
                if self._idle:
                    evicted = self._pop_oldest()
                    break
                self._changed.wait()
            self._count += 1
        if evicted is not None:
            evicted.kill()
        try:
            return start_worker(self._sandbox, _with_memory(self._limits, memory_mb))
        except BaseException:
            self._release()
            raise

    def _room(self) -> int:
        """How many workers there may be now."""
        return max(self._max_workers, *self._rooms, 0)

    def _pop(self, key: object) -> AnyWorker:
        workers = self._idle[key]
        worker = workers.pop()
        if not workers:
            del self._idle[key]
        return worker

    def _pop_oldest(self) -> AnyWorker:
        oldest = min(self._idle, key=lambda key: self._idle[key][0].last_used)
        workers = self._idle[oldest]
        worker = workers.pop(0)
        if not workers:
            del self._idle[oldest]
        self._count -= 1
        return worker

    def _idle_count(self) -> int:
        return sum(map(len, self._idle.values()))

    def _give_back(self, worker: AnyWorker) -> None:
        worker.last_used = time.monotonic()
        with self._changed:
            self._idle.setdefault(worker.key, []).append(worker)
            self._changed.notify()

    def _discard(self, worker: AnyWorker) -> None:
        worker.kill()
        self._release()

    def _release(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify()

    def _note_level(self, level: str) -> None:
        if self._level is not None:
            return
        if level != MONTY and not level.endswith(FULL_LEVEL):
            if self._sandbox == STRICT:
                raise SandboxUnavailable(
                    f"sandbox='strict' asks for {FULL_LEVEL!r}, and this machine confines code by {level!r} only. Use "
                    "a newer Linux kernel, sandbox='monty', or sandbox='auto' for what there is."
                )
            warn_once(level)
        self._level = level

    def _forget(self) -> None:
        for workers in getattr(self, "_idle", {}).values():
            for worker in workers:
                worker.forget()
        self._changed = threading.Condition()
        self._idle: dict[object, list[AnyWorker]] = {}
        self._count = 0
        self._threads = None


_pools: weakref.WeakSet[SandboxPool] = weakref.WeakSet()
_default: dict[str, SandboxPool] = {}
_default_lock = threading.Lock()


def default_pool(sandbox: str = AUTO) -> SandboxPool:
    """The pool of this process for a sandbox, made on first use."""
    with _default_lock:
        if sandbox not in _default:
            _default[sandbox] = SandboxPool(sandbox=sandbox)
        return _default[sandbox]


def _with_memory(limits: Limits, memory_mb: int) -> Limits:
    return limits if limits.memory_mb == memory_mb else replace(limits, memory_mb=memory_mb)


def _after_fork() -> None:
    global _default_lock
    _default_lock = threading.Lock()
    for pool in list(_pools):
        pool._forget()


@atexit.register
def _close_all() -> None:
    for pool in list(_pools):
        with contextlib.suppress(Exception):
            pool.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
