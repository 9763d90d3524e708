"""A worker that runs a subset of Python in Monty, an interpreter that can reach nothing."""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from trace_adapters.errors import (
    BudgetExceeded,
    SandboxError,
    SandboxKilled,
    SandboxTimeout,
    SandboxUnavailable,
)
from trace_adapters.sandbox.limits import Limits
from trace_adapters.sandbox.plain import HANDLE, UnsupportedValue, from_plain, pack, to_plain
from trace_adapters.sandbox.portable import CONSTRAINT, MODULES
from trace_adapters.sandboxing import MONTY

_MESSAGE_CHARS = 4_000
_LATE = "feed time limit exceeded"
_CALLS = 2**31 - 1  # the calls of one worker's life; those of one call are counted here
_FORKED = (
    "sandbox='monty' cannot run here: this process was forked from one that had used it, and Monty's threads did not "
    "come along. Start processes by multiprocessing.get_context('spawn'), or use sandbox='strict' in them."
)

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


class MontyWorker:
    """One Monty process for one source; speaks as `Worker` does. Used by one thread at a time.

    Attributes:
        key: What it has defined; None while it is fresh.
        last_used: When it ended its last call, of the monotonic clock.
        level: Always "monty".

    Raises:
        SandboxUnavailable: If pydantic-monty is not installed, or this process was forked from one that used it.
    """

    level = MONTY
    _user: ClassVar[int | None] = None  # the process that Monty's threads are in; they are started once, for good

    def __init__(self, limits: Limits) -> None:
        self.key: object = None
        self.last_used = 0.0
        self._limits = limits
        self._monty = _load()
        self._ending = contextlib.ExitStack()
        self._pool: Any = None
        self._session: Any = None
        self._timeout_s = 0.0
        self._definition: Mapping[str, Any] = {}
        self._lines: Sequence[str] = ()
        self._printed = ""
        if MontyWorker._user not in (None, os.getpid()):
            raise SandboxUnavailable(_FORKED)
        MontyWorker._user = os.getpid()
        try:
            pool = self._monty.Monty(max_processes=1, feed_duration_limit_grace=limits.grace_s)
            with _deaf_to_ctrl_c():
                self._pool = self._ending.enter_context(pool)
        except (OSError, RuntimeError, self._monty.MontyError) as error:
            raise SandboxUnavailable(f"A Monty process could not be started: {error}") from error

    def call(self, request: dict[str, Any], timeout_s: float, answer: Answer) -> dict[str, Any]:
        """Run one call, and the definition before it if the request has one; see `Worker.call`."""
        defines = "define" in request
        self._definition = request.get("define", self._definition)
        self._printed = ""
        host = _Host(answer, self._limits.callbacks)
        try:
            if self._session is None or timeout_s != self._timeout_s:
                self._open(timeout_s)
                defines = True
                self._define(host)
                defines = False
            value = self._feed(self._calling(), host, self._arguments(request))
            reply = {"value": self._outgoing(value)}
            self._require_short(reply)
        except self._monty.MontyCrashedError as error:
            host.stop()
            if error.timed_out:
                raise SandboxTimeout("The sandbox process did not answer in time.") from error
            raise SandboxKilled(f"The code's process was killed: {error}") from error
        except (self._monty.MontyError, UnsupportedValue, ValueError, TypeError) as error:
            host.stop()
            return {"error": self._describe(error, host, is_spoiled=defines)}
        host.stop()
        return reply

    def kill(self) -> None:
        """End the process."""
        with contextlib.suppress(Exception):
            self._ending.close()

    def forget(self) -> None:
        """Let go of a process that belongs to the parent of this forked process, without ever freeing it.

        Monty waits on its pipes by tokio, whose epoll instance a fork shares (tokio-rs/tokio issue 4301). To free a
        pipe here would take it off the parent's watch: the parent then waits for its process for ever, at its exit.
        """
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _open(self, timeout_s: float) -> None:
        limits = {
            "max_feed_duration_secs": timeout_s,
            "max_memory": self._limits.memory_mb * 2**20,
            "max_suspensions": _CALLS,
        }
        if self._session is not None:
            self._session.__exit__(None, None, None)
        session = self._pool.checkout(limits=limits, os_policy={"random_start": {"seed": 0}, "sleep": "zero"})
        self._session = self._ending.enter_context(session)
        self._timeout_s = timeout_s

    def _define(self, host: _Host) -> None:
        definition = self._definition
        text = definition["text"]
        self._lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._feed(_prelude(definition, _names(text)), host, _read(definition["constants"]))
        self._feed(text, host, {})

    def _calling(self) -> str:
        name = self._definition["name"]
        call = f"{name}(*_args, **_kwargs)"
        return f"await {call}" if f"async def {name}(" in self._definition["text"] else call

    def _arguments(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"_args": _read(request["args"]), "_kwargs": _read(request["kwargs"])}

    def _feed(self, code: str, host: _Host, inputs: dict[str, Any]) -> Any:
        uses = self._definition["uses"]
        lookup = {f"_host_{name}" if is_async else name: host.function(name) for name, is_async in uses.items()}
        return self._session.feed_run(code, inputs=inputs, external_lookup=lookup, print_callback=self._print)

    def _print(self, _stream: str, text: str) -> None:
        self._printed = (self._printed + text)[-self._limits.stdout_chars :]

    def _outgoing(self, value: Any) -> Any:
        try:
            return to_plain(value)
        except UnsupportedValue as error:
            what = f"a value of type {value.name}" if hasattr(value, "name") else error
            raise UnsupportedValue(
                f"{what} cannot leave the sandbox; use text, numbers, lists, tuples, sets or dicts"
            ) from None

    def _require_short(self, reply: dict[str, Any]) -> None:
        size = len(pack(reply))
        if size > self._limits.result_bytes:
            raise ValueError(f"the result is {size} bytes of JSON; at most {self._limits.result_bytes} are allowed")

    def _describe(self, error: Exception, host: _Host, is_spoiled: bool) -> dict[str, Any]:
        inner = error.exception() if isinstance(error, self._monty.MontyError) else error
        kind, message = type(inner).__name__, str(inner)
        if isinstance(inner, UnsupportedValue):
            kind = "TypeError"
        if isinstance(inner, (ModuleNotFoundError, NotImplementedError)):
            message = f"{message}. {CONSTRAINT}"
        short = str(inner)[:_MESSAGE_CHARS]
        frames = error.traceback() if hasattr(error, "traceback") else []
        is_time_up = kind == "TimeoutError" and message.startswith(_LATE)
        return {
            "type": kind,
            "bases": [base.__name__ for base in getattr(builtins, kind, Exception).__mro__[1:]],
            "is_builtin": True,
            "message": message[:_MESSAGE_CHARS],
            "args": to_plain(list(inner.args)) if kind == type(inner).__name__ and message == short else None,
            "place": self._place(frames),
            "host_error": host.number_of(kind, message),
            "stdout": self._printed,
            "is_time_up": is_time_up,
            "is_spoiled": is_spoiled or is_time_up or kind == "MemoryError",
        }

    def _place(self, frames: Sequence[Any]) -> list[Any] | None:
        """The innermost line of the source; it was the second thing that the session was fed."""
        lines = [frame.line for frame in frames if frame.filename == "<python-input-1>"]
        if not lines or not 1 <= lines[-1] <= len(self._lines):
            return None
        return [lines[-1], self._lines[lines[-1] - 1]]


class _Host:
    """The functions of the host during one call."""

    def __init__(self, answer: Answer, callbacks: int) -> None:
        self._answer = answer
        self._left = self._most = callbacks
        self._raised: list[tuple[int, str, str]] = []
        self._end: BaseException | None = None

    def function(self, name: str) -> Callable[..., Any]:
        def call_host(*args: Any, **kwargs: Any) -> Any:
            self.stop()
            try:
                return self._ask(name, args, kwargs)
            except (SandboxError, BudgetExceeded) as error:  # the code may not go on as if nothing had happened
                self._end = error
                raise

        return call_host

    def stop(self) -> None:
        """Raise what ended the call while the host answered."""
        if self._end is not None:
            raise self._end

    def number_of(self, kind: str, message: str) -> int | None:
        """The number of the host's own exception that came through the code."""
        return next((n for n, *known in reversed(self._raised) if known == [kind, message]), None)

    def _ask(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self._left -= 1
        if self._left < 0:
            raise SandboxError(f"The code called the program more than {self._most} times in one call.")
        request = {"callback": name, "args": to_plain(list(args)), "kwargs": to_plain(dict(kwargs))}
        reply = self._answer(request)
        described = reply.get("error")
        if described is None:
            return _read(reply["value"])
        kind = getattr(builtins, described["type"], RuntimeError)
        kind = kind if isinstance(kind, type) and issubclass(kind, Exception) else RuntimeError
        error: Exception = RuntimeError(described["message"])
        with contextlib.suppress(Exception):
            error = kind(described["message"])
        self._raised.append((described["number"], type(error).__name__, str(error)))
        raise error


def _load() -> Any:
    try:
        import pydantic_monty  # an extra: only those who ask for it have it
    except ImportError as error:
        raise SandboxUnavailable(
            "sandbox='monty' needs the package pydantic-monty: pip install 'trace-adapters[monty]'."
        ) from error
    return pydantic_monty


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes that a Ctrl-C in the terminal does not reach: a run in flight would seem to have crashed."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # of this thread; what it starts inherits it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prelude(definition: Mapping[str, Any], used: set[str]) -> str:
    """What stands around a source: imports that it uses, and async functions of the host."""
    lines = []
    for alias, source in definition["imports"].items():
        module, _, attribute = source.partition(":")
        if alias in used and module in MODULES:
            lines.append(f"from {module} import {attribute} as {alias}" if attribute else f"import {module} as {alias}")
    for name, is_async in definition["uses"].items():
        if is_async:
            lines.append(f"async def {name}(*args, **kwargs):\n    return _host_{name}(*args, **kwargs)")
    return "\n".join(lines) or "None"


def _names(text: str) -> set[str]:
    try:
        return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    except SyntaxError:
        return set()


def _read(value: Any) -> Any:
    """A value of the protocol as Python has it; objects of the host are their fields."""
    return from_plain(value, _fields)


def _fields(codec: str, content: Any) -> Any:
    if codec == HANDLE:
        raise SandboxError("Objects without a codec cannot be lent to Monty: pass plain data, or register_codec().")
    return content
