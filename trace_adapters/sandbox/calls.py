"""One call of a source in the sandbox, with the functions of the host that it may call."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from trace_adapters.errors import BudgetExceeded, SandboxError
from trace_adapters.sandbox.codecs import read_value, write_value
from trace_adapters.showing import str_of

in_callback: contextvars.ContextVar[bool] = contextvars.ContextVar("in_sandbox_callback", default=False)
callback_loop: contextvars.ContextVar[asyncio.AbstractEventLoop | None] = contextvars.ContextVar(
    "sandbox_callback_loop", default=None
)


class SandboxCall:
    """One source with what surrounds it, and the functions of the host that it may call now."""

    def __init__(
        self,
        text: str,
        name: str,
        imports: Mapping[str, str],
        constants: Mapping[str, Any],
        uses: Mapping[str, Callable[..., Any]],
    ) -> None:
        self._text = text
        self._name = name
        self._imports = imports
        self._constants = constants
        self._uses = uses
        self._errors: list[BaseException] = []
        self._lent: list[Any] = []
        flags = tuple(_is_async(function) for function in uses.values())
        around = repr(constants) if constants else ""
        self.key = (text, name, tuple(imports.items()), around, tuple(uses), flags)

    def definition(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return {
            "text": self._text,
            "filename": f"<trace_adapters {digest}>",
            "name": self._name,
            "imports": dict(self._imports),
            "constants": self.write(dict(self._constants)),
            "uses": {name: _is_async(function) for name, function in self._uses.items()},
        }

    def write(self, value: Any) -> Any:
        """Write a value of the host for the worker; see `write_value`."""
        return write_value(value, self._lent)

    def read(self, value: Any) -> Any:
        """Read a value of the worker's; see `read_value`."""
        return read_value(value, self._lent)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call a function of the host for the worker."""
        function = self._uses.get(str(request["callback"]))
        if function is None:
            raise SandboxError(f"The code called {request['callback']!r}, which uses= does not declare.")
        args, kwargs = self.read(request.get("args")), self.read(request.get("kwargs"))
        token = in_callback.set(True)
        try:
            return {"value": self.write(_settle(function(*args, **kwargs)))}
        except BudgetExceeded:  # the code may not go on as if nothing had happened
            raise
        except Exception as error:
            self._errors.append(error)
            described = {"type": type(error).__name__, "message": str_of(error), "number": len(self._errors) - 1}
            return {"error": described}
        finally:
            in_callback.reset(token)

    def host_error(self, number: Any) -> BaseException | None:
        """The exception of a host function that the code did not catch."""
        known = isinstance(number, int) and 0 <= number < len(self._errors)
        return self._errors[number] if known else None


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _settle(value: Any) -> Any:
    """Wait for what an async function of the host gives: in the loop of `arun`, or in one of its own."""
    if not inspect.isawaitable(value):
        return value
    if _has_running_loop():
        if inspect.iscoroutine(value):
            value.close()
        raise SandboxError(
            "An async function in uses= cannot be awaited here, inside a running event loop. Use arun()."
        )

    async def wait() -> Any:
        return await value

    coroutine: Coroutine[Any, Any, Any] = wait()
    loop = callback_loop.get()
    if loop is None:
        return asyncio.run(coroutine)
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
