"""The source of a function as a value."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import linecache
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trace_adapters.errors import CodeError
from trace_adapters.source_checks import AnyFunctionDef, CodeSpec, check_source, parameters_text
from trace_adapters.source_compiling import (
    SOURCE_FILENAME_START,
    compile_source,
    load_function,
    plain_function,
    source_filename,
    split_lines,
)
from trace_adapters.source_surroundings import closure_values, read_constants, read_imports, used_names

__all__ = [
    "CodeSpec",
    "SourceCode",
    "annotate",
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
    lines = _file_lines(plain)
    node, is_method = _find_definition(plain, "".join(lines))
    if is_method:
        _check_no_private_names(node)
    around = {**plain.__globals__, **closure_values(plain)}
    used = used_names(plain.__code__) | _default_names(node)
    imports, constants = read_imports(around), read_constants(around, used)
    known = imports.keys() | constants.keys() | vars(builtins).keys() | {node.name, "__name__"} | set(uses)
    return SourceCode(
        text=_own_text(node, lines),
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


def annotate(text: str, place: tuple[int, str] | None, message: str) -> str:
    """Write `message` beside the failing line: `    x = a[1]   # <--- IndexError: list index out of range`.

    A place of None, or one outside of the text, gives the text unchanged.
    """
    lines = split_lines(text)
    if place is None or not 1 <= place[0] <= len(lines):
        return text
    index = place[0] - 1
    lines[index] = f"{lines[index].rstrip()}   # <--- {' '.join(message.split())}"
    return "\n".join(lines)


def _file_lines(function: types.FunctionType) -> list[str]:
    code = function.__code__
    if code.co_name == "<lambda>":
        raise CodeError(
            f"A lambda (line {code.co_firstlineno} of {code.co_filename}) cannot be trained: it has no "
            f"`def` with a name. Write it as a function."
        )
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise CodeError(
            f"The source of {function.__qualname__!r} cannot be read: there is no file {code.co_filename!r}. "
            f"Functions typed at a prompt, or made by exec, keep no source; write the function in a file or "
            f"in a notebook cell."
        )
    return lines


def _find_definition(function: types.FunctionType, text: str) -> tuple[AnyFunctionDef, bool]:
    code = function.__code__
    for node, in_class in _definitions(text):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if node.name == code.co_name and first == code.co_firstlineno and _same_parameters(node, code):
            return node, in_class
    raise CodeError(
        f"The source of {function.__qualname__!r} is not at line {code.co_firstlineno} of "
        f"{code.co_filename!r} any more. The file was changed after it was imported; start the program again."
    )


def _same_parameters(node: AnyFunctionDef, code: types.CodeType) -> bool:
    written = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    compiled = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if len(written) != len(compiled):
        return False
    return all(w == c or w.startswith("__") for w, c in zip(written, compiled, strict=True))


@functools.lru_cache(maxsize=16)
def _definitions(text: str) -> tuple[tuple[AnyFunctionDef, bool], ...]:
    found: list[tuple[AnyFunctionDef, bool]] = []
    waiting: list[tuple[ast.AST, bool]] = [(_parse_file(text), False)]
    while waiting:
        node, in_class = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append((node, in_class))
        inner = isinstance(node, ast.ClassDef) or (in_class and not isinstance(node, ast.Module))
        waiting.extend(
            (child, inner) for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)
        )
    return tuple(found)


def _parse_file(text: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise CodeError(
            f"The file of the function is no plain Python ({error}). In a notebook, put the function in "
            f"a cell without magics; elsewhere, start the program again if the file was changed."
        ) from error


def _check_no_private_names(node: AnyFunctionDef) -> None:
    for inner in ast.walk(node):
        name = (
            inner.attr
            if isinstance(inner, ast.Attribute)
            else inner.id
            if isinstance(inner, ast.Name)
            else ""
        )
        if name.startswith("__") and not name.endswith("__"):
            raise CodeError(
                f"The method {node.name!r} uses the private name {name!r}, which has another name outside "
                f"of its class. Rename it to {name[1:]!r}."
            )


def _own_text(node: AnyFunctionDef, lines: list[str]) -> str:
    last = node.end_lineno or node.lineno
    end = last
    for number, line in enumerate(
        lines[last:], start=last + 1
    ):  # comments at the end of the body belong to it
        stripped = line.lstrip()
        if stripped.startswith("#") and len(line) - len(stripped) > node.col_offset:
            end = number
        elif stripped:
            break
    fixed = _lines_inside_strings(node)
    own = (
        line if number in fixed else _dedent(line, node.col_offset)
        for number, line in enumerate(lines[node.lineno - 1 : end], start=node.lineno)
    )
    return "".join(own).rstrip() + "\n"


def _lines_inside_strings(node: AnyFunctionDef) -> set[int]:
    first = node.body[0]
    doc = first.value if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else None
    strings = (
        inner
        for inner in ast.walk(node)
        if isinstance(inner, ast.JoinedStr)
        or (isinstance(inner, ast.Constant) and isinstance(inner.value, str | bytes))
    )
    return {
        number
        for string in strings
        if string is not doc
        for number in range(string.lineno + 1, (string.end_lineno or string.lineno) + 1)
    }


def _dedent(line: str, columns: int) -> str:
    indent = len(line) - len(line.lstrip(" \t"))
    return line[min(indent, columns) :]


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
