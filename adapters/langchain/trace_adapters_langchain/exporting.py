"""A plain chain as a Python module that needs nothing but langchain-core."""

from __future__ import annotations

import inspect
import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import pydantic
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda

from trace_adapters import CodeError
from trace_adapters.extend import read_source, write_text
from trace_adapters_langchain.chains import children, shape_of
from trace_adapters_langchain.functions import with_def

_ARGUMENT_NAMES = {"BaseChatModel": "model", "BaseLLM": "model", "BaseTool": "tool", "BaseRetriever": "retriever"}

_MADE_FROM_MESSAGES = {"input_types"}  # a chat prompt says itself what its placeholders take: types, no expressions


def export_module(chain: Runnable[Any, Any], path: str | os.PathLike[str]) -> list[str]:
    """Write a Python module with a function `build` that makes the chain.

    Prompts, functions and the way they are put together stand in the module. What cannot be written down (models,
    tools, retrievers, functions that use more than the standard library) are arguments of `build`.

    Args:
        chain: A plain chain.
        path: A file name that ends in ".py".

    Returns:
        The names of the arguments.

    Raises:
        DataError: If the file cannot be written.
    """
    writer = _Writer()
    made = writer.write(chain)
    arguments = ", ".join(writer.arguments)
    parts = [
        f'"""A chain; `build({arguments})` makes it. Needs langchain-core only."""',
        "from __future__ import annotations",
        "\n".join(
            f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(writer.imports.items())
        ),
        *writer.definitions,
        f"def build({arguments}):\n" + textwrap.indent(_notes(writer.notes) + f"return {made}", "    ") + "\n",
    ]
    text = "\n\n".join(part for part in parts if part)
    compile(text, str(path), "exec")
    write_text(Path(path), text)
    return list(writer.arguments)


class _Unwritable(Exception):
    """Something that no expression makes."""


class _Writer:
    """Expressions for a chain, with what they stand on.

    Attributes:
        imports: Module -> names.
        definitions: Statements of the module.
        arguments: Names of what must be given, in order.
        notes: What each of them is.
    """

    def __init__(self) -> None:
        self.imports: dict[str, set[str]] = {}
        self.definitions: list[str] = []
        self.arguments: dict[str, Any] = {}
        self.notes: list[str] = []
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []

    def write(self, value: Any) -> str:
        """An expression for a runnable; the name of an argument, if there is none."""
        shape = shape_of(value)
        kind = shape.kind if shape is not None else ""
        if kind in ("sequence", "parallel", "branch"):
            return self._composite(value, kind)
        try:
            return self._expression(value)
        except _Unwritable as error:
            return self._argument(value, str(error))

    def _composite(self, value: Any, kind: str) -> str:
        name, parts = self._import(_library_class(value)), children(value)
        if kind == "parallel":
            items = _lines(f"{key!r}: {self.write(child)}" for (_, key), child in parts.items())
            return f"{name}({{{items}}}{self._named(value)})"
        if kind == "sequence":
            return f"{name}({_lines(map(self.write, parts.values()))}{self._named(value).removeprefix(', ')})"
        pairs = [f"({self.write(condition)}, {self.write(branch)})" for condition, branch in value.branches]
        return f"{name}({', '.join([*pairs, self.write(value.default)])})"

    @staticmethod
    def _named(value: Any) -> str:
        return f", name={value.name!r}" if getattr(value, "name", None) else ""

    def _expression(self, value: Any) -> str:
        if isinstance(value, RunnableLambda):
            return self._function_step(value)
        if isinstance(value, pydantic.BaseModel):
            return self._model(value)
        if isinstance(value, Runnable):
            raise _Unwritable(type(value).__name__)
        if isinstance(value, type):
            return value.__name__ if value.__module__ == "builtins" else self._import(value)
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{self._expression(k)}: {self._expression(v)}" for k, v in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            inner = ", ".join(map(self._expression, value))
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        if value is None or isinstance(value, (str, int, float, bool)):
            return repr(value)
        if inspect.isroutine(value):  # such as a partial variable that is asked for
            return self._function_or_argument(value)
        raise _Unwritable(f"{type(value).__name__} {value!r:.60}")

    def _model(self, value: pydantic.BaseModel) -> str:
        """A call of the class of a model with the fields that were set; parts that are chains become theirs."""
        if not type(value).__module__.startswith("langchain_core.") or _is_given(value):
            raise _Unwritable(type(value).__name__)
        name = self._import(_library_class(value))
        fields = type(value).model_fields
        told = value.model_fields_set - (_MADE_FROM_MESSAGES if isinstance(value, ChatPromptTemplate) else set())
        given = {n: getattr(value, n) for n in fields if n in told and getattr(value, n) is not None}
        changed = {n: v for n, v in given.items() if not _is_default(fields[n], v)}
        shown = [f"{n}={self.write(v) if isinstance(v, Runnable) else self._field(v)}" for n, v in changed.items()]
        return f"{name}({', '.join(shown)})"

    def _field(self, value: Any) -> str:
        if isinstance(value, (list, tuple)) and any(isinstance(item, Runnable) for item in value):
            return f"[{', '.join(map(self.write, value))}]"
        return self._expression(value)

    def _function_step(self, value: RunnableLambda[Any, Any]) -> str:
        name = self._import(RunnableLambda)
        functions = {n: getattr(value, n) for n in ("func", "afunc") if getattr(value, n, None) is not None}
        given = [self._function(one) for one in functions.values()]
        first = f"{given[0]}, afunc={given[1]}" if len(given) == 2 else given[0]
        label = getattr(value, "name", None)
        own = getattr(next(iter(functions.values())), "__name__", None)
        return f"{name}({first}{'' if label in (None, own) else f', name={label!r}'})"

    def _function(self, function: Any) -> str:
        if isinstance(function, itemgetter):
            self.imports.setdefault("operator", set()).add("itemgetter")
            return f"itemgetter({', '.join(map(repr, function.__reduce__()[1]))})"
        if id(function) in self._names:
            return self._names[id(function)]
        try:
            source = read_source(with_def(function, "step")) if inspect.isfunction(function) else None
        except CodeError as error:
            raise _Unwritable(f"the function {function!r}: {error}") from error
        if source is None or source.unavailable:
            missing = f", which uses {', '.join(source.unavailable)}" if source is not None else ""
            raise _Unwritable(f"the function {getattr(function, '__name__', function)}{missing}")
        name = self._free(source.name)
        self._remember(function, name)
        around = [_import_line(alias, origin) for alias, origin in _used(source.imports, source.text).items()]
        around += [f"{constant} = {held!r}" for constant, held in source.constants.items()]
        body = "\n".join([*around, source.text.rstrip(), f"return {source.name}"])
        self.definitions.append(f"def _make_{name}():\n{textwrap.indent(body, '    ')}\n\n\n{name} = _make_{name}()\n")
        return name

    def _function_or_argument(self, function: Any) -> str:
        try:
            return self._function(function)
        except _Unwritable as error:
            return self._argument(function, str(error))

    def _argument(self, value: Any, reason: str) -> str:
        if id(value) in self._names:
            return self._names[id(value)]
        stems = [_ARGUMENT_NAMES[base.__name__] for base in type(value).__mro__ if base.__name__ in _ARGUMENT_NAMES]
        function = getattr(value, "func", None) or getattr(value, "afunc", None) or value
        stem = stems[0] if stems else getattr(function, "__name__", "step")
        name = self._free(stem if stem.isidentifier() else "step")
        self._remember(value, name)
        self.arguments[name] = value
        self.notes.append(f"{name}: {reason}")
        return name

    def _remember(self, value: Any, name: str) -> None:
        self._names[id(value)] = name
        self._kept.append(value)

    def _free(self, stem: str) -> str:
        taken = {*self._names.values(), "build"}.union(*self.imports.values())
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        return name

    def _import(self, cls: type) -> str:
        if not cls.__module__.startswith("langchain_core"):
            raise _Unwritable(cls.__qualname__)
        self.imports.setdefault(cls.__module__, set()).add(cls.__name__)
        return cls.__name__


def _library_class(value: Any) -> type:
    """LangChain's own class of a value, without type arguments (`RunnableParallel[dict[str, Any]]`)."""
    classes = type(value).__mro__
    own = (one for one in classes if one.__module__.startswith("langchain_core") and one.__name__.isidentifier())
    return next(one for one in own if not one.__name__.startswith("_"))


def _lines(parts: Iterable[str]) -> str:
    return "\n" + textwrap.indent("".join(f"{part},\n" for part in parts), "    ")


def _is_given(value: Any) -> bool:
    return any(base.__name__ in _ARGUMENT_NAMES for base in type(value).__mro__)


def _is_default(field: Any, value: Any) -> bool:
    try:
        return bool(field.get_default(call_default_factory=True) == value)
    except Exception:  # a default that needs the other fields
        return False


def _used(imports: Mapping[str, str], text: str) -> dict[str, str]:
    return {alias: origin for alias, origin in imports.items() if alias in text}


def _import_line(alias: str, origin: str) -> str:
    module, _, name = origin.partition(":")
    if name:
        return f"from {module} import {name}" + (f" as {alias}" if alias != name else "")
    return f"import {module}" + (f" as {alias}" if alias != module else "")


def _notes(notes: Sequence[str]) -> str:
    return '"""Make the chain.' + "".join(f"\n\n{json.dumps(note)[1:-1]}" for note in notes) + '\n"""\n'
