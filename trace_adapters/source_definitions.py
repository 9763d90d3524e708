"""Where the `def` of a function stands in its file."""

from __future__ import annotations

import ast
import functools
import linecache
import types
import warnings

from trace_adapters.errors import CodeError
from trace_adapters.source_checks import AnyFunctionDef


def find_definition(function: types.FunctionType) -> tuple[AnyFunctionDef, str]:
    """Find the `def` of a function, and its text without decorators and indentation.

    Raises:
        CodeError: If the file cannot be read, is not what was imported, or the text would mean something else alone.
    """
    lines = _file_lines(function)
    node, in_class = _find_node(function, "".join(lines))
    if in_class:
        _check_no_private_names(node)
    return node, _own_text(node, lines)


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


def _find_node(function: types.FunctionType, text: str) -> tuple[AnyFunctionDef, bool]:
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
        waiting.extend((child, inner) for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr))
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
        name = inner.attr if isinstance(inner, ast.Attribute) else inner.id if isinstance(inner, ast.Name) else ""
        if name.startswith("__") and not name.endswith("__"):
            raise CodeError(
                f"The method {node.name!r} uses the private name {name!r}, which has another name outside "
                f"of its class. Rename it to {name[1:]!r}."
            )


def _own_text(node: AnyFunctionDef, lines: list[str]) -> str:
    last = node.end_lineno or node.lineno
    end = last
    for number, line in enumerate(lines[last:], start=last + 1):  # comments at the end of the body belong to it
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
