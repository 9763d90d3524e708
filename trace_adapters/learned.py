"""Functions whose source is a value: the user's own text runs here, a learned text in the sandbox."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trace_adapters import code
from trace_adapters.errors import SettingError

TRUST = ("sandbox", "in-process")


class LearnedFunction:
    """A function with what a new source for it must satisfy and where that may run.

    Args:
        function: A Python function whose source can be read.
        uses: What a learned source may call in the host, as callables or name -> callable. Names of the
            function's own scope (`call_llm`) or attributes of `self` for methods (`self.call_llm`).
        trust: "sandbox" runs learned sources in a worker process; "in-process" runs them here, with all that
            the function's module can reach. The original source always runs here: it is the user's own.
        timeout_s: Wall-clock limit of one call in the sandbox.

    Raises:
        CodeError: If the source cannot be read.
        SettingError: If `trust` is unknown.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
        trust: str = "sandbox",
        timeout_s: float = 5.0,
    ) -> None:
        if trust not in TRUST:
            raise SettingError(f"trust is {' or '.join(map(repr, TRUST))}, got {trust!r}.")
        self.function = function
        self.uses = dict(uses) if isinstance(uses, Mapping) else {use.__name__: use for use in uses}
        self.trust = trust
        self.timeout_s = timeout_s
        self.source = code.read_source(function, uses=tuple(self.uses))
        self.spec = self.source.spec
        self.is_async = inspect.iscoroutinefunction(function)

    @property
    def name(self) -> str:
        return self.source.name

    def check(self, text: Any) -> None:
        """Raise `CodeError` with the reason if `text` cannot stand in for the function."""
        code.check_source(text, self.spec)

    def call(self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function as `text` has it; the caller awaits the result of an async function."""
        if text == self.source.text:
            return self.function(*args, **kwargs)
        if self.trust == "in-process":
            return code.load_function(text, self.name, self.function)(*args, **kwargs)
        if self.is_async:
            return self._call_in_sandbox_async(text, args, kwargs)
        from trace_adapters.sandbox import run  # a process pool that most programs never need

        return run(*self._request(text, args, kwargs), **self._terms(args))

    async def _call_in_sandbox_async(self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        from trace_adapters.sandbox import arun

        return await arun(*self._request(text, args, kwargs), **self._terms(args))

    def _request(
        self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[str, str, Sequence[Any], Mapping[str, Any]]:
        if not self.takes_self:
            return text, self.name, args, kwargs
        entry = f"_call_{self.name}"
        return (
            text + _SELF_CALL.format(entry=entry, name=self.name),
            entry,
            [_plain_state(args[0]), *args[1:]],
            kwargs,
        )

    def _terms(self, args: Sequence[Any]) -> dict[str, Any]:
        uses = dict(self.uses)
        if self.takes_self:
            uses = {name: getattr(args[0], name, use) for name, use in uses.items()}
        return {
            "imports": self.source.imports,
            "constants": {
                **self.source.constants,
                **({"_used_names": sorted(uses)} if self.takes_self else {}),
            },
            "uses": uses,
            "timeout_s": self.timeout_s,
        }

    @property
    def takes_self(self) -> bool:
        """Whether the first argument is an object whose learned methods see only its plain attributes."""
        return bool(self.source.arguments) and self.source.arguments[0] == "self"


# A learned method runs away from its object. In the worker, `self` has the object's plain attributes and,
# as methods, what `uses=` declares.
_SELF_CALL = textwrap.dedent(
    """

    def {entry}(_state, *args, **kwargs):
        class Self:
            pass
        me = Self()
        me.__dict__.update(_state)
        for name in _used_names:
            me.__dict__[name] = globals()[name]
        return {name}(me, *args, **kwargs)
    """
)


def _plain_state(instance: Any) -> dict[str, Any]:
    attributes = getattr(instance, "__dict__", {})
    return {name: value for name, value in attributes.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (str, int, float, bool))
