"""Parameters that a DSPy module declares beside its predictors: texts and functions."""

from __future__ import annotations

import inspect
import re
import string
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from trace_adapters import AdapterError, CodeError, ParameterError, UntrustedCode
from trace_adapters.extend import LearnedFunction, Operation
from trace_adapters_dspy import observe
from trace_adapters_dspy.shims import DspyParameter

_FIELD = re.compile(r"\w*([.\[].*)?", re.DOTALL)  # what str.format takes for a field's name
_MEANT_AS_FIELD = re.compile(r"(?<!\{)\{([^\W\d]\w*)\}(?!\}\})")
Part = tuple[str, str, str | None]  # of a template: a field's name, its format, its conversion


class Text(DspyParameter):  # type: ignore[misc]
    """A text that the program uses and optimizers may change; an attribute of a `dspy.Module`.

    Use it as a string: `str(text)`, an f-string, `text.format(question=...)`, `==`. It is saved with the program.

    Args:
        value: The text to start from. Fields in braces (`{question}`) must stay in every new value. Conversions and
            formats (`{question!r}`, `{question:>9}`), attributes and indexes are allowed in a new one only as they
            stand here.
        description: What the text is for, shown to optimizers.
        fields: The fields that must stay, instead of those found in `value`; () for a text whose braces are not
            fields, e.g. JSON.

    Raises:
        ParameterError: If `value` is no text, lacks one of `fields`, or has fields beside braces that are none.
    """

    def __init__(self, value: str, description: str = "", fields: Sequence[str] | None = None) -> None:
        if not isinstance(value, str):
            raise ParameterError(f"A Text needs a str, got {value!r}.")
        self.description = description
        self.initial = value
        self.fields = _own_fields(value) if fields is None else tuple(fields)
        self._free = fields is not None and not self.fields
        self.stage = uuid.uuid4().hex
        self._value = value
        self.check(value)

    @property
    def value(self) -> str:
        """The text in force."""
        return self._value

    @value.setter
    def value(self, text: str) -> None:
        self.check(text)
        self._value = text

    def check(self, text: Any) -> None:
        """Raise `ParameterError` with the reason if `text` cannot stand in for the first value."""
        if not isinstance(text, str):
            raise ParameterError(f"Expected a text, got {text!r}.")
        if self.initial.strip() and not text.strip():
            raise ParameterError("The text is empty.")
        if self._free:
            return
        known = _parts_of(self.initial)
        try:
            parts = _read_parts(text)
        except ValueError as error:
            if not self.fields:
                return
            raise ParameterError(
                f"The template cannot be read: {error}. Write braces that are no field twice: {{{{ and }}}}."
            ) from error
        if self.fields:
            self._check_names({name for name, _, _ in parts})
        strong = [part for part in parts if part not in known and _does_more(part, self.fields)]
        if strong and (self.fields or known):
            shown = ", ".join(_written(part) for part in strong)
            raise ParameterError(
                f"The template does more with a field than its first value: {shown}. Write only the field's name in "
                "braces."
            )

    def _check_names(self, found: set[str]) -> None:
        missing = [name for name in self.fields if name not in found]
        if missing:
            raise ParameterError(f"The template lost {_braced(missing)}; keep every field: {_braced(self.fields)}.")
        extra = sorted(found.difference(self.fields))
        if extra:
            raise ParameterError(
                f"The template has unknown fields {_braced(extra)}; there are only {_braced(self.fields)}."
            )

    def format(self, *args: Any, **fields: Any) -> str:
        """`str.format`, recorded."""
        inputs = {f"field_{number}": value for number, value in enumerate(args)} | fields
        operation = Operation("format", "Fill the fields of a template.")
        with observe.calling(operation, inputs, ("template", self)) as call:
            text: str = call.returned(self._value.format(*args, **fields))
        return text

    def reset(self) -> None:
        """Keep the text: other optimizers reset predictors before they begin, not what was learned here."""

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        return {"text": self._value}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.value = state["text"]

    def __str__(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Text({self._value!r})"

    def __format__(self, spec: str) -> str:
        return format(self._value, spec)

    def __eq__(self, other: object) -> bool:
        return self._value == (other._value if isinstance(other, Text) else other)

    __hash__ = object.__hash__  # mutable: found by identity, like every DSPy parameter


class Function(DspyParameter):  # type: ignore[misc]
    """A function whose source optimizers may change; an attribute of a `dspy.Module`, called like the function.

    A source that an optimizer wrote runs in a sandbox. It is saved with the program; after `program.load` a
    source that is not the function's own runs only with consent: `trust()`, or `tad.load(..., allow_code=True)`.

    Args:
        function: A plain or async Python function whose source can be read; no lambda, no method, nothing decorated.
        uses: Host functions that a new source may call, as callables or name -> callable.
        trust: "sandbox", or "in-process" to run new sources here with all that the function's module reaches.
        description: What the function is for, shown to optimizers; default its docstring.
        timeout_s: Wall-clock limit of one call in the sandbox.
        sandbox: "auto", "strict" (all that Linux has, or nothing runs), "bwrap" (inside bubblewrap) or "monty" (a
            subset of Python, on every platform). Default: what the optimization says, else "auto".

    Raises:
        CodeError: If the source cannot be read, or is not all that a call runs: a decorator would be lost.
        AdapterError: If `function` is a method.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
        trust: str = "sandbox",
        description: str = "",
        timeout_s: float = 5.0,
        sandbox: str | None = None,
    ) -> None:
        if inspect.ismethod(function):
            raise AdapterError(
                f"Function() takes a plain function, got the method {function.__qualname__}; define it outside "
                "the class and pass what it needs of `self` as arguments."
            )
        self._learned = LearnedFunction(function, uses=uses, trust=trust, timeout_s=timeout_s, sandbox=sandbox)
        self.description = description or inspect.getdoc(function) or ""
        self.stage = uuid.uuid4().hex
        self._source = self._learned.source.text
        self._trusted = True
        self._describe()

    def _describe(self) -> None:
        function = self._learned.function
        self.__name__ = self._learned.name
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.__signature__ = inspect.signature(function)
        self._operation = Operation(self.__name__, self.description)

    @property
    def source(self) -> str:
        """The source in force."""
        return self._source

    @source.setter
    def source(self, text: str) -> None:
        self.check(text)
        self._source, self._trusted = text, True

    @property
    def initial(self) -> str:
        """The function's own source."""
        return self._learned.source.text

    @property
    def header(self) -> str:
        """The `def` line that every source must have."""
        return str(self._learned.spec.header)

    @property
    def constraint(self) -> str:
        """What every source must satisfy, in words."""
        return self._learned.constraint

    @property
    def trusted(self) -> bool:
        """Whether the source in force may run."""
        return self._trusted

    def trust(self) -> Function:
        """Allow a loaded source to run; returns the function itself."""
        self._trusted = True
        return self

    def check(self, text: Any) -> None:
        """Raise `CodeError` with the reason if `text` cannot stand in for the function; never runs it."""
        if not isinstance(text, str):
            raise CodeError(f"Expected the source of {self.__name__} as a text, got {text!r}.")
        self._learned.check(text)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._trusted:
            raise UntrustedCode(
                f"The source of {self.__name__!r} was loaded from a file and is not the program's own. Read it "
                f"(print its `.source`; tad.diff shows what changed), then allow it: `.trust()`, or "
                f"tad.load(program, path, allow_code=True)."
            )
        if self._learned.is_async:
            return self._acall(args, kwargs)
        with self._recorded(args, kwargs) as call:
            return call.returned(self._learned.call(self._source, args, kwargs))

    async def _acall(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        with self._recorded(args, kwargs) as call:
            return call.returned(await self._learned.call(self._source, args, kwargs))

    def _recorded(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if observe.active() is None:
            return observe.UNRECORDED
        inputs = self._bind(args, kwargs)
        return observe.calling(self._operation, inputs, ("__code__", self), self._learned.source)

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self.__signature__.bind(*args, **kwargs)
        except TypeError:  # the call itself will raise it
            return {f"argument_{number}": value for number, value in enumerate(args)} | dict(kwargs)
        bound.apply_defaults()
        named: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self.__signature__.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                named.update({f"{name}_{number}": item for number, item in enumerate(value)})
            elif kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            else:
                named[name] = value
        return named

    def as_tool(self) -> Any:
        """A `dspy.Tool` that calls this function; `dspy.Tool(function)` would not find the arguments."""
        shown = dspy.Tool(self._learned.function)
        return dspy.Tool(self, name=self.__name__, desc=shown.desc, args=shown.args, arg_types=shown.arg_types)

    def reset(self) -> None:
        """Keep the source: other optimizers reset predictors before they begin, not what was learned here."""

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        return {"name": self.__name__, "source": self._source}

    def load_state(self, state: Mapping[str, Any]) -> None:
        text = state["source"]
        if text == self._source:
            return
        self.check(text)
        self._source, self._trusted = text, text == self.initial

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(self.__dict__)
        return twin

    def __repr__(self) -> str:
        learned = "" if self._source == self.initial else ", learned"
        return f"Function({self.__name__}{self.__signature__}{learned})"


def _read_parts(text: str) -> list[Part]:
    """The fields of a template, in order; `ValueError` if its braces do not pair."""
    found = string.Formatter().parse(text)
    return [(name, form or "", conversion) for _, name, form, conversion in found if name is not None]


def _own_fields(text: str) -> tuple[str, ...]:
    """The fields of a template; none if the braces in it are something else.

    Raises:
        ParameterError: If it has both, so that it could not be filled.
    """
    try:
        names = [name for name, _, _ in _read_parts(text)]
    except ValueError:
        names = [" "]
    if all(_FIELD.fullmatch(name) for name in names):
        return tuple(dict.fromkeys(names)) if all(name[:1].isidentifier() for name in names) else ()
    meant = dict.fromkeys(_MEANT_AS_FIELD.findall(text))
    if meant:
        raise ParameterError(
            f"The text has fields, {_braced([*meant])}, and braces that are none. Write braces that are no field "
            "twice: {{ and }}; or give fields=() if the text is never filled by .format()."
        )
    return ()


def _parts_of(text: str) -> list[Part]:
    """The fields of a template; none if the braces in it are something else."""
    try:
        parts = _read_parts(text)
    except ValueError:
        return []
    return parts if all(_FIELD.fullmatch(name) for name, _, _ in parts) else []


def _does_more(part: Part, fields: Sequence[str]) -> bool:
    name, form, conversion = part
    inside = name not in fields and ("." in name or "[" in name)
    return bool(_FIELD.fullmatch(name)) and bool(inside or form or conversion)


def _written(part: Part) -> str:
    name, form, conversion = part
    return "{" + name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"


def _braced(names: Sequence[str]) -> str:
    return ", ".join("{" + name + "}" for name in names)
