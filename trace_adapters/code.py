"""The source of a function as a value."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import linecache
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trace_adapters.lines import split_lines
from trace_adapters.source_checks import AnyFunctionDef, CodeSpec, check_source, parameters_text
from trace_adapters.source_compiling import (
    SOURCE_FILENAME_START,
    compile_source,
    load_function,
    plain_function,
    source_filename,
)
from trace_adapters.source_definitions import find_definition
from trace_adapters.source_surroundings import closure_values, read_constants, read_imports, used_names

__all__ = [
    "CodeSpec",
    "SourceCode",
    "check_source",
    "compile_source",
    "error_place",
    "load_function",
    "read_source",
    "source_filename",
    "spec_of",
]


@dataclass(frozen=True)
class SourceCode:
    """A function's own source, with what it takes from around it.

    Attributes:
        text: The `def`, dedented, without decorators, comments kept.
        name: The function's name.
        arguments: The names of its parameters, in order.
        spec: What another source must keep in order to take this one's place.
        filename: Where the text was found, as in tracebacks.
        first_line: The line of `def` in that file, from 1.
        imports: Standard library names around the function: alias -> "module" or "module:name".
        constants: Plain values of names that the function uses, deep copied.
        unavailable: Names that the function uses, which are neither; a sandbox needs them in `uses`.
    """

    text: str
    name: str
    arguments: tuple[str, ...]
    spec: CodeSpec
    filename: str
    first_line: int
    imports: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    unavailable: tuple[str, ...] = ()


def read_source(function: Callable[..., Any], *, uses: tuple[str, ...] = ()) -> SourceCode:
    """Take the source of a function, method, static method or nested function.

    Args:
        function: Written in a file, a notebook cell or by `load_function`.
        uses: Names that the program will provide; they go into the spec and are not `unavailable`.

    Raises:
        CodeError: If there is no `def` to be read: a lambda, builtin, partial, class, code typed at a prompt.
    """
    plain = plain_function(function)
    node, text = find_definition(plain)
    around = {**plain.__globals__, **closure_values(plain)}
    used = used_names(plain.__code__) | _default_names(node)
    imports, constants = read_imports(around), read_constants(around, used)
    known = imports.keys() | constants.keys() | vars(builtins).keys() | {node.name, "__name__"} | set(uses)
    return SourceCode(
        text=text,
        name=node.name,
        arguments=_argument_names(node.args),
        spec=CodeSpec(
            name=node.name,
            parameters=parameters_text(node.args),
            doc=ast.get_docstring(node) or "",
            is_async=isinstance(node, ast.AsyncFunctionDef),
            uses=uses,
        ),
        filename=plain.__code__.co_filename,
        first_line=node.lineno,
        imports=imports,
        constants=constants,
        unavailable=tuple(sorted(used - known)),
    )


def spec_of(source: SourceCode, *, uses: tuple[str, ...] = ()) -> CodeSpec:
    """What another source must keep to take the place of `source`, in a program that provides `uses`."""
    return dataclasses.replace(source.spec, uses=uses)


def error_place(exception: BaseException, source: str | SourceCode | None = None) -> tuple[int, str] | None:
    """Find the line of a trainable function's source at which `exception` was raised.

    Args:
        exception: Raised in this process, or brought back from the sandbox.
        source: Look only in this text; a `SourceCode` also finds lines of the original file. Without it, in
            every text that was compiled here. The innermost frame wins.

    Returns:
        The line number in the text, from 1, with the line; None if no frame is in it.
    """
    seen: set[int] = set()
    current: BaseException | None = exception
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        place = getattr(current, "trace_adapters_place", None) or _traceback_place(current, source)
        if place is not None:
            return (int(place[0]), str(place[1]))
        current = current.__cause__
    return None


def _argument_names(arguments: ast.arguments) -> tuple[str, ...]:
    found = [*arguments.posonlyargs, *arguments.args]
    found += [arguments.vararg] if arguments.vararg else []
    found += arguments.kwonlyargs
    found += [arguments.kwarg] if arguments.kwarg else []
    return tuple(argument.arg for argument in found)


def _default_names(node: AnyFunctionDef) -> set[str]:
    defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    return {inner.id for default in defaults for inner in ast.walk(default) if isinstance(inner, ast.Name)}


def _traceback_place(exception: BaseException, source: str | SourceCode | None) -> tuple[int, str] | None:
    place = None
    current = exception.__traceback__
    while current is not None:
        place = _line_of(current.tb_frame.f_code.co_filename, current.tb_lineno, source) or place
        current = current.tb_next
    if place is None and isinstance(exception, SyntaxError) and exception.lineno:
        place = _line_of(exception.filename or "", exception.lineno, source)
    return place


def _line_of(filename: str, line: int, source: str | SourceCode | None) -> tuple[int, str] | None:
    if isinstance(source, SourceCode) and filename == source.filename:
        number, text = line - source.first_line + 1, source.text
    elif source is None:
        if not filename.startswith(SOURCE_FILENAME_START):
            return None
        number, text = line, "".join(linecache.getlines(filename))
    else:
        text = source if isinstance(source, str) else source.text
        if filename != source_filename(text):
            return None
        number = line
    lines = split_lines(text)
    return (number, lines[number - 1]) if 1 <= number <= len(lines) else None
