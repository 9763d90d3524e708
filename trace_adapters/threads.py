"""Threads that a program does not wait for at its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def threads(workers: int, name: str = "trace-adapters") -> Iterator[Executor]:
    """Run jobs side by side; the end of the block waits for those that have begun, and drops the others.

    After Ctrl-C nothing is waited for, also not at the end of the program: that is why these are not the threads of
    `concurrent.futures`, which are.
    """
    pool = _Threads(workers, name)
    waits = True
    try:
        yield pool
    except KeyboardInterrupt:
        waits = False
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)


class _Threads(Executor):
    def __init__(self, workers: int, name: str) -> None:
        self._is_shut = False
        self._name = name
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._is_shut:
                raise RuntimeError("These threads have ended; they take no more jobs.")
            if len(self._threads) < self._workers:
                self._begin_another()
            self._jobs.put((future, lambda: function(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._is_shut = True
            with suppress(queue.Empty):
                while cancel_futures:
                    job = self._jobs.get_nowait()
                    if job is not None:
                        job[0].cancel()
            for _ in self._threads:
                self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _begin_another(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine gives no more
            if not self._threads:
                raise
            self._workers = len(self._threads)
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _run(*job)
            del job  # or what it holds would live until the next one


def _run(future: Future[Any], job: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = job()
    except BaseException as error:
        future.set_exception(error)
        del future, job  # the traceback of the error holds this frame
    else:
        future.set_result(result)
