"""Functions whose source is a value: the user's own text runs here, a learned text in the sandbox."""

from __future__ import annotations

import ast
import inspect
import math
import re
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from trace_adapters import code
from trace_adapters.errors import CodeError, SettingError
from trace_adapters.lines import split_lines
from trace_adapters.sandboxing import IN_PROCESS, MONTY, chosen_sandbox, note_level, require_sandbox
from trace_adapters.source_compiling import plain_function

TRUST = ("sandbox", IN_PROCESS)
KEPT = 256  # learned sources of one function that are kept ready in this process


def require_terms(trust: str, timeout_s: float, sandbox: str | None) -> None:
    """Refuse terms under which no learned source can run; see `LearnedFunction`.

    Raises:
        SettingError: If `trust` or `sandbox` is unknown, both are given, or `timeout_s` is not above 0 and finite.
    """
    if trust not in TRUST:
        raise SettingError(f"trust is {' or '.join(map(repr, TRUST))}, got {trust!r}.")
    if not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
        raise SettingError(f"timeout_s is a finite number of seconds above 0, got {timeout_s!r}.")
    require_sandbox(sandbox)
    if trust == IN_PROCESS and sandbox is not None:
        raise SettingError(f'trust="in-process" runs code in no sandbox; leave out sandbox={sandbox!r}.')


class LearnedFunction:
    """A function with what a new source for it must satisfy and where that may run.

    Args:
        function: A Python function whose source can be read.
        uses: What a learned source may call in the host, as callables or name -> callable. Names of the
            function's own scope (`call_llm`) or attributes of `self` for methods (`self.call_llm`).
        trust: "sandbox" runs learned sources in a worker process; "in-process" runs them here, with all that
            the function's module can reach. The original source always runs here: it is the user's own.
        timeout_s: Wall-clock limit of one call in the sandbox.
        sandbox: "auto": what the platform holds, with a warning where that is less than on Linux; "strict": all of
            it or nothing; "bwrap": inside bubblewrap, too; "monty": a subset of Python, on every platform. Default:
            what `choosing_sandbox` says around the call, else "auto".

    Raises:
        CodeError: If the source cannot be read, or is not all that a call runs: a decorator would be lost, or names of
            the function around it, which it changes.
        SettingError: As `require_terms` says, or if `uses` is no mapping and something in it has no name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
        trust: str = "sandbox",
        timeout_s: float = 5.0,
        sandbox: str | None = None,
    ) -> None:
        require_terms(trust, timeout_s, sandbox)
        self.function = function
        self.uses = _named_uses(uses)
        self.trust = trust
        self.timeout_s = timeout_s
        self.sandbox = sandbox
        _refuse_decorated(function)
        self.source = code.read_source(function, uses=tuple(self.uses))
        _refuse_outer_changes(function, self.source.text)
        self.spec = self.source.spec
        self.is_async = inspect.iscoroutinefunction(function)
        self.is_generator = inspect.isgeneratorfunction(function)
        self.is_async_generator = inspect.isasyncgenfunction(function)
        self._functions: dict[str, Callable[..., Any]] = {}

    @property
    def name(self) -> str:
        return self.source.name

    def __deepcopy__(self, memo: dict[int, Any]) -> LearnedFunction:
        return self  # what stands in a file does not differ between copies

    def __reduce__(self) -> Any:
        return _restore, (name_of(self.function), self.uses, self.trust, self.timeout_s, self.sandbox)

    def check(self, text: Any) -> None:
        """Raise `CodeError` with the reason if `text` cannot stand in for the function."""
        code.check_source(text, self.spec)
        if self.sandbox == MONTY and text != self.source.text:
            from trace_adapters.sandbox.portable import check_portable

            check_portable(text)

    @property
    def constraint(self) -> str:
        """What a new source must satisfy, in words: its form on the first line, then what it may use, if limited."""
        words = [f"Python source with one function `{self.spec.header}`; helpers may stand beside it."]
        words += self._reach() if self.trust != IN_PROCESS else []
        if self.sandbox != MONTY:
            return "\n".join(words)
        from trace_adapters.sandbox.portable import CONSTRAINT

        return "\n".join([*words, CONSTRAINT])

    def _reach(self) -> list[str]:
        """What a new source finds around it in the sandbox, if that is not all that the function's own finds."""
        source, said = self.source, []
        if self.uses:
            said.append(f"It may call {_listed(self.uses)}, which the program provides.")
        if source.unavailable:
            given = [name for name in source.imports if re.search(rf"\b{name}\b", source.text)]
            given += [name for name in source.constants if name not in given]
            if given:
                said.append(f"It may use {_listed(given)}, which {'is' if len(given) == 1 else 'are'} given.")
            one = len(source.unavailable) == 1
            said.append(
                f"{_listed(source.unavailable)} {'is' if one else 'are'} not there when it runs: do not use "
                f"{'it' if one else 'them'}; write what you need of {'it' if one else 'them'} into the source."
            )
        return [" ".join(said)] if said else []

    def call(self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, bound: bool = False) -> Any:
        """Call the function as `text` has it; the caller awaits the result of an async function.

        In the sandbox a generator runs to its end before its first chunk is given.

        Args:
            text: The source, checked.
            args: Positional arguments.
            kwargs: Keyword arguments.
            bound: Whether the first argument is the object of a method; in the sandbox it has only the object's
                plain attributes and, as methods, what `uses` declares.
        """
        if text == self.source.text:
            return self.function(*args, **kwargs)
        if self.trust == IN_PROCESS:
            note_level(self.name, IN_PROCESS)
            return self._loaded(text)(*args, **kwargs)
        if self.is_async:
            return self._call_in_sandbox_async(text, args, kwargs, bound)
        if self.is_async_generator:
            return self._stream_from_sandbox(text, args, kwargs, bound)
        result = self._call_in_sandbox(text, args, kwargs, bound)
        return (chunk for chunk in result) if self.is_generator else result

    def _call_in_sandbox(self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool) -> Any:
        from trace_adapters.sandbox import default_pool  # a process pool that most programs never need

        pool = default_pool(self.sandbox or chosen_sandbox())
        try:
            return pool.run(*self._request(text, args, kwargs, bound), **self._terms(args, bound))
        finally:
            note_level(self.name, pool.known_level)

    def _loaded(self, text: str) -> Callable[..., Any]:
        loaded = self._functions.get(text)
        if loaded is None:
            loaded = code.load_function(text, self.name, self.function)
            if len(self._functions) >= KEPT:
                self._functions.clear()
            self._functions[text] = loaded
        return loaded

    async def _call_in_sandbox_async(
        self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool
    ) -> Any:
        from trace_adapters.sandbox import default_pool

        pool = default_pool(self.sandbox or chosen_sandbox())
        try:
            return await pool.arun(*self._request(text, args, kwargs, bound), **self._terms(args, bound))
        finally:
            note_level(self.name, pool.known_level)

    async def _stream_from_sandbox(
        self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool
    ) -> AsyncIterator[Any]:
        for chunk in await self._call_in_sandbox_async(text, args, kwargs, bound):
            yield chunk

    def _request(
        self, text: str, args: Sequence[Any], kwargs: Mapping[str, Any], bound: bool
    ) -> tuple[str, str, Sequence[Any], Mapping[str, Any]]:
        entry = self.name
        if bound:
            entry = f"_call_{self.name}"
            methods = "".join(f"    me.{use} = {use}\n" for use in self.uses)
            define, wait = ("async def", "await ") if self.is_async else ("def", "")
            text += _SELF_CALL.format(define=define, entry=entry, methods=methods, wait=wait, name=self.name)
            args = [_plain_state(args[0]), *args[1:]]
        if self.is_generator or self.is_async_generator:
            form = _ASYNC_STREAM_CALL if self.is_async_generator else _STREAM_CALL
            text += form.format(entry=f"_all_of_{self.name}", name=entry)
            entry = f"_all_of_{self.name}"
        return text, entry, args, kwargs

    def _terms(self, args: Sequence[Any], bound: bool) -> dict[str, Any]:
        uses = dict(self.uses)
        if bound:
            uses = {name: getattr(args[0], name, use) for name, use in uses.items()}
        return {
            "imports": self.source.imports,
            "constants": self.source.constants,
            "uses": uses,
            "timeout_s": self.timeout_s,
        }


def _named_uses(uses: Any) -> dict[str, Callable[..., Any]]:
    """What a learned source may call, by name."""
    try:
        return dict(uses) if isinstance(uses, Mapping) else {use.__name__: use for use in uses}
    except (AttributeError, TypeError):
        raise SettingError(
            f"uses= takes functions, or a mapping {{'name': function}} for those without a name; got {uses!r}."
        ) from None


def _listed(names: Iterable[str]) -> str:
    *first, last = (f"`{name}`" for name in names)
    return f"{', '.join(first)} and {last}" if first else last


@dataclass(frozen=True)
class Named:
    """A function of a module, by name: how a function travels in a pickle when something decorates it."""

    module: str
    path: str

    def find(self) -> Any:
        """What stands under that name now; None if nothing does."""
        if "<" in self.path:
            return None
        found: Any = sys.modules.get(self.module) or import_module(self.module)
        for part in self.path.split("."):
            found = getattr(found, part, None)
        return found


def name_of(function: Any) -> Any:
    """The name under which another process finds a function or what decorates it, else the function itself."""
    named = Named(str(getattr(function, "__module__", "")), str(getattr(function, "__qualname__", "<>")))
    plain = getattr(function, "function", function)
    found = named.find() if named.module in sys.modules else None
    return named if found is not None and getattr(found, "function", found) is plain else function


def find_named(function: Any) -> Any:
    """What `name_of` named."""
    return function.find() if isinstance(function, Named) else function


def failing_line(function: Callable[..., Any], error: BaseException) -> tuple[tuple[int, str] | None, str | None]:
    """The line of a function, from its `def` on, at which an exception passed through it; its source."""
    plain = getattr(inspect.unwrap(function), "__func__", function)
    body = getattr(plain, "__code__", None)
    number, current = None, error.__traceback__
    while current is not None:
        number = current.tb_lineno if current.tb_frame.f_code is body else number
        current = current.tb_next
    if body is None or number is None:
        return None, None
    try:
        lines, first = inspect.getsourcelines(plain)
    except (OSError, TypeError):
        return None, None
    start = next((n for n, line in enumerate(lines) if line.lstrip().startswith(("def ", "async def "))), 0)
    text = textwrap.dedent("".join(lines[start:])).rstrip()
    place, shown = number - first - start + 1, split_lines(text)
    return ((place, shown[place - 1]) if 1 <= place <= len(shown) else None), text


def _refuse_decorated(function: Any) -> None:
    """Raise `CodeError` if the function's own `def` is only a part of what a call runs.

    A decorator that gave the function itself back has nothing to lose; one that put another in its place says
    so by `__wrapped__`.
    """
    plain = function.__func__ if isinstance(function, staticmethod | classmethod) else function
    if not hasattr(plain, "__wrapped__"):
        return
    name = getattr(plain, "__qualname__", repr(plain))
    raise CodeError(
        f"{name!r} cannot be trained: it is decorated, its source is that of the function inside, and a learned "
        "source would run without the decorator's work. Put that work into the function, or decorate outside: "
        "train the plain function, and put the decorator above the line, or around the call, of what trains it."
    )


def _refuse_outer_changes(function: Any, text: str) -> None:
    """Raise `CodeError` if the function gives new values to names of the function around it."""
    plain = plain_function(function)
    free = plain.__code__.co_freevars
    nodes = ast.walk(ast.parse(text)) if free else ()
    outer = sorted({name for node in nodes if isinstance(node, ast.Nonlocal) for name in node.names if name in free})
    if outer:
        raise CodeError(
            f"{plain.__qualname__!r} cannot be trained: it changes {_listed(outer)} of the function around it "
            "(`nonlocal`), which a learned source cannot reach. Keep the value in an object, or return it."
        )


def _restore(
    function: Any, uses: Mapping[str, Any], trust: str, timeout_s: float, sandbox: str | None = None
) -> LearnedFunction:
    found = find_named(function)
    learned = getattr(found, "learned", None)
    if isinstance(learned, LearnedFunction):
        return learned
    return LearnedFunction(found, uses=uses, trust=trust, timeout_s=timeout_s, sandbox=sandbox)


# A learned method runs away from its object. In the worker, `self` has the object's plain attributes and,
# as methods, what `uses=` declares.
_SELF_CALL = """

{define} {entry}(_state, *args, **kwargs):
    class Self:
        pass
    me = Self()
    for name, value in _state.items():
        setattr(me, name, value)
{methods}    return {wait}{name}(me, *args, **kwargs)
"""


# A stream cannot leave the worker while it runs: it is run to its end there.
_STREAM_CALL = """

def {entry}(*args, **kwargs):
    return list({name}(*args, **kwargs))
"""
_ASYNC_STREAM_CALL = """

async def {entry}(*args, **kwargs):
    return [chunk async for chunk in {name}(*args, **kwargs)]
"""


def _plain_state(instance: Any) -> dict[str, Any]:
    attributes = getattr(instance, "__dict__", {})
    return {name: value for name, value in attributes.items() if _is_plain(value) and not name.startswith("__")}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (str, int, float, bool))
