"""The process in which code written by a model runs: its own half of the protocol."""

from __future__ import annotations
import __future__

import builtins
import contextlib
import importlib
import io
import os
import random
import signal
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from trace_adapters.sandbox.plain import HEADER, UnsupportedValue, from_plain, pack, to_plain, unpack
from trace_adapters.sandbox.reports import describe_error, revive_host_error

# Used often, or linked to system libraries that cannot be read later (zlib; `random` above brings hashlib's).
PRELOADED = (
    "collections",
    "functools",
    "itertools",
    "json",
    "math",
    "operator",
    "string",
    "textwrap",
    "zlib",
)
_FLAGS = __future__.annotations.compiler_flag
_HAS_TIMER = hasattr(signal, "setitimer")
_CHUNK = 1 << 16


class TimeUp(BaseException):
    """The call has used its time; not an Exception, so that `except Exception` does not stop it."""


class Channel:
    """Framed messages on the two private descriptors."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._buffer = b""

    def receive(self) -> dict[str, Any]:
        data = self._buffer or self._read()
        while len(data) < HEADER.size:
            data += self._read()
        size = HEADER.unpack_from(data)[0] + HEADER.size
        if len(data) < size:
            data = self._rest(data, size)
        self._buffer = data[size:]
        return unpack(data[HEADER.size : size])

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._sink, view) :]

    def _rest(self, data: bytes, size: int) -> bytes:
        parts, length = [data], len(data)
        while length < size:
            parts.append(self._read())
            length += len(parts[-1])
        return b"".join(parts)

    def _read(self) -> bytes:
        data = os.read(self._source, _CHUNK)
        if not data:
            os._exit(0)  # the host is gone; nothing of the code may run at exit
        return data


class Tail(io.TextIOBase):
    """Standard output that keeps only its end."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text = (self.text + text[-self._size :])[-self._size :]
        return len(text)


class Server:
    """Runs one source; the host gives another source another process."""

    def __init__(self, channel: Channel, limits: Mapping[str, Any]) -> None:
        self._channel = channel
        self._limits = limits
        self._output = Tail(limits["stdout_chars"])
        self._call_id = 0
        self._filename = ""
        self._lines: list[str] = []
        self._is_random = False
        self._function: Callable[..., Any] | None = None
        sys.stdout = sys.__stdout__ = sys.stderr = sys.__stderr__ = self._output  # type: ignore[misc,assignment]
        sys.stdin = sys.__stdin__ = io.StringIO("")  # type: ignore[misc,assignment]

    def serve(self) -> None:
        """Answer calls until the host closes its end."""
        while True:
            self._channel.send(self._answer(self._channel.receive()))

    def _answer(self, message: Mapping[str, Any]) -> bytes:
        self._call_id = message["id"]
        self._output.text = ""
        try:
            data = pack({"id": self._call_id, "value": self._outgoing(self._run(message))})
            if len(data) > self._limits["result_bytes"]:
                raise ValueError(
                    f"the result is {len(data)} bytes of JSON; at most {self._limits['result_bytes']} are allowed"
                )
            return data
        except BaseException as error:  # all of them: the code must not end the process's loop
            return pack({"id": self._call_id, "error": self._report(error)})

    def _run(self, message: Mapping[str, Any]) -> Any:
        _set_timer(message["timeout_s"])
        try:
            if "define" in message:
                self._define(message["define"])
            assert self._function is not None
            if self._is_random:
                random.seed(repr((message["args"], message["kwargs"])))
            result = self._function(*from_plain(message["args"]), **from_plain(message["kwargs"]))
            return _drive(result) if isinstance(result, types.CoroutineType) else result
        finally:
            _set_timer(0)

    def _define(self, definition: Mapping[str, Any]) -> None:
        text, self._filename = definition["text"], definition["filename"]
        self._lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        code = compile(text, self._filename, "exec", flags=_FLAGS, dont_inherit=True)
        names: dict[str, Any] = {"__name__": "trainable", "__builtins__": builtins}
        names.update(from_plain(definition["constants"]))
        used = _names(code)
        self._is_random = "random" in used
        names.update({alias: _import(source) for alias, source in definition["imports"].items() if alias in used})
        for name, is_async in definition["uses"].items():
            names[name] = self._host_function(name, is_async)
        exec(code, names)  # noqa: S102  (what this process is for)
        self._function = names[definition["name"]]

    def _host_function(self, name: str, is_async: bool) -> Callable[..., Any]:
        def call_host(*args: Any, **kwargs: Any) -> Any:
            remaining = _set_timer(0)
            try:
                request = {"args": self._outgoing(list(args)), "kwargs": self._outgoing(kwargs)}
                self._channel.send(pack({"id": self._call_id, "callback": name, **request}))
                answer = self._channel.receive()
            finally:
                _set_timer(remaining)
            if "error" in answer:
                raise revive_host_error(answer["error"])
            return from_plain(answer["value"])

        async def await_host(*args: Any, **kwargs: Any) -> Any:
            return call_host(*args, **kwargs)

        chosen: Callable[..., Any] = await_host if is_async else call_host
        chosen.__name__ = chosen.__qualname__ = name
        return chosen

    def _outgoing(self, value: Any) -> Any:
        try:
            return to_plain(value)
        except UnsupportedValue as error:
            raise TypeError(
                f"{error} cannot leave the sandbox; use text, numbers, lists, tuples, sets or dicts"
            ) from None

    def _report(self, error: BaseException) -> dict[str, Any]:
        return {
            **describe_error(error, self._filename, self._lines),
            "stdout": self._output.text,
            "is_time_up": isinstance(error, TimeUp),
            "is_spoiled": self._function is None or isinstance(error, MemoryError),
        }


def main() -> None:
    """Take the private descriptors, give up all rights, then serve."""
    channel = _take_channel()
    settings = channel.receive()
    try:
        level = _prepare(settings)
    except BaseException as error:
        channel.send(pack({"failed": repr(error)}))
        os._exit(1)
    channel.send(pack({"level": level}))
    Server(channel, settings).serve()


def _take_channel() -> Channel:
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    return Channel(source, sink)


def _prepare(settings: Mapping[str, Any]) -> str:
    from trace_adapters.sandbox.confinement import confine

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _HAS_TIMER:
        signal.signal(signal.SIGALRM, _time_up)
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # zlib is optional
            importlib.import_module(name)
    level = confine(settings["memory_mb"], settings["host_pid"])
    for name in [name for name in sys.modules if name.partition(".")[0] == "trace_adapters"]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    return level


def _time_up(_number: int, _frame: types.FrameType | None) -> None:
    raise TimeUp


def _set_timer(seconds: float) -> float:
    return signal.setitimer(signal.ITIMER_REAL, seconds)[0] if _HAS_TIMER else 0.0


def _drive(coroutine: Any) -> Any:
    """Run a coroutine without an event loop: it may await itself and what the host provides."""
    while True:
        try:
            awaited = coroutine.send(None)
        except StopIteration as end:
            return end.value
        if awaited is not None:
            coroutine.close()
            raise RuntimeError("in the sandbox, only functions of the program can be awaited; there is no event loop")


def _names(code: types.CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


def _import(source: str) -> Any:
    module, _, attribute = source.partition(":")
    imported = importlib.import_module(module)
    return getattr(imported, attribute) if attribute else imported
