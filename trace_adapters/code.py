"""The source of a function as a value."""

from __future__ import annotations

import __future__

import ast
import builtins
import copy
import dis
import functools
import hashlib
import inspect
import linecache
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trace_adapters.errors import CodeError
from trace_adapters.source_checks import (
    AnyFunctionDef,
    CodeSpec,
    check_source,
    parameters_text,
    parse_source,
    syntax_message,
)

__all__ = [
    "CodeSpec", "SourceCode", "annotate", "check_source", "compile_source", "error_place", "load_function",
    "read_source", "source_filename",
]  # fmt: skip

MAX_CONSTANT_CHARS = 16_384
_FILENAME_START = "<trace_adapters "
_FLAGS = __future__.annotations.compiler_flag  # annotations may name what exists for type checkers only


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
        imports: What the function's module imported from the standard library: alias -> "module" or "module:attribute".
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
        CodeError: If there is no `def` to be read: a lambda, builtin, partial, class, or code typed at a prompt.
    """
    plain = _plain_function(function)
    lines = _file_lines(plain)
    node, is_method = _find_definition(plain, "".join(lines))
    if is_method:
        _check_no_private_names(node)
    text = _own_text(node, lines)
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    names += [arguments.vararg.arg] if arguments.vararg else []
    names += [a.arg for a in arguments.kwonlyargs] + ([arguments.kwarg.arg] if arguments.kwarg else [])
    around = {**plain.__globals__, **_closure_values(plain)}
    used = _used_names(plain.__code__) | _default_names(node)
    imports = {name: source for name, value in around.items() if (source := _stdlib_source(name, value)) is not None}
    constants = {n: copy.deepcopy(around[n]) for n in sorted(used) if n in around and _is_constant(n, around[n])}
    known = imports.keys() | constants.keys() | vars(builtins).keys() | {node.name, "__name__"} | set(uses)
    return SourceCode(
        text=text,
        name=node.name,
        arguments=tuple(names),
        spec=CodeSpec(
            name=node.name,
            parameters=parameters_text(arguments),
            doc=ast.get_docstring(node) or "",
            is_async=isinstance(node, ast.AsyncFunctionDef),
            uses=uses,
        ),
        filename=plain.__code__.co_filename,
        first_line=node.lineno,
        imports=dict(sorted(imports.items())),
        constants=constants,
        unavailable=tuple(sorted(used - known)),
    )


@functools.lru_cache(maxsize=4096)
def compile_source(text: str) -> types.CodeType:
    """Compile a source text, once; tracebacks show its lines.

    Raises:
        CodeError: If the text is no valid Python.
    """
    return _compile(text)


def load_function(text: str, name: str, namespace: Mapping[str, Any] | Callable[..., Any]) -> types.FunctionType:
    """Make the function `name` of a source text in this process.

    The text's own imports, constants and other functions stay private to the result. Nothing is written to `namespace`.

    Args:
        text: Checked source. It runs with all rights of this process.
        name: The function to return.
        namespace: The original function, whose globals and closure are shared live; or a dict of globals.

    Raises:
        CodeError: If the text does not compile, or does not define `name`.
        Exception: Whatever the text's top level raises.
    """
    if callable(namespace):
        original = _plain_function(namespace)
        around, cells = original.__globals__, dict(zip(original.__code__.co_freevars, original.__closure__ or ()))
    else:
        around, cells = (namespace if isinstance(namespace, dict) else dict(namespace)), {}
    code = _compile_maker(text, name, tuple(sorted(cells)))
    make = types.FunctionType(code, around, closure=tuple(cells[free] for free in code.co_freevars))
    function = make()
    if not isinstance(function, types.FunctionType):
        raise CodeError(f"Expected {name!r} to be a function, got {function!r}. Define it with `def`.")
    function.__qualname__ = name
    return function


def source_filename(text: str) -> str:
    """The name under which tracebacks show a compiled source text."""
    return f"{_FILENAME_START}{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}>"


def error_place(exception: BaseException, source: str | SourceCode | None = None) -> tuple[int, str] | None:
    """Find the line of a trainable function's source at which `exception` was raised.

    Args:
        exception: Raised in this process, or brought back from the sandbox.
        source: Look only in this text; a `SourceCode` also finds lines of the original file. Without it, in every
            text that was compiled here, the innermost frame first.

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
    lines = _split_lines(text)
    if place is None or not 1 <= place[0] <= len(lines):
        return text
    index = place[0] - 1
    lines[index] = f"{lines[index].rstrip()}   # <--- {' '.join(message.split())}"
    return "\n".join(lines)


def _plain_function(function: Any) -> types.FunctionType:
    wrapped = inspect.unwrap(function) if callable(function) else function
    plain = getattr(wrapped, "__func__", wrapped)  # bound methods, staticmethod, classmethod
    if isinstance(plain, types.FunctionType):
        return plain
    if inspect.isclass(plain):
        kind, advice = "a class", "Give one of its methods, or a function that uses it."
    elif isinstance(plain, functools.partial):
        kind, advice = "a functools.partial", "Give a function written with `def` that calls it."
    elif inspect.isroutine(plain):
        kind, advice = "built in or written in C", "Give a function written with `def` that calls it."
    elif callable(plain):
        kind, advice = f"an object of type {type(plain).__name__}", "Give its `__call__` method, or a function."
    else:
        kind, advice = f"{type(plain).__name__}, which cannot be called", "Give a function written with `def`."
    raise CodeError(f"Expected a Python function with source, got {plain!r:.120}, which is {kind}. {advice}")


def _file_lines(function: types.FunctionType) -> list[str]:
    code = function.__code__
    if code.co_name == "<lambda>":
        raise CodeError(
            f"A lambda (line {code.co_firstlineno} of {code.co_filename}) cannot be trained: it has no `def` with a "
            f"name. Write it as a function."
        )
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise CodeError(
            f"The source of {function.__qualname__!r} cannot be read: there is no file {code.co_filename!r}. Functions "
            f"typed at a prompt, or made by exec, keep no source; write the function in a file or a notebook cell."
        )
    return lines


def _find_definition(function: types.FunctionType, text: str) -> tuple[AnyFunctionDef, bool]:
    code = function.__code__
    for node, in_class in _definitions(text):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if node.name == code.co_name and first == code.co_firstlineno and _same_parameters(node, code):
            return node, in_class
    raise CodeError(
        f"The source of {function.__qualname__!r} is not at line {code.co_firstlineno} of {code.co_filename!r} any "
        f"more. The file was changed after it was imported; start the program again."
    )


def _same_parameters(node: AnyFunctionDef, code: types.CodeType) -> bool:
    written = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    compiled = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return len(written) == len(compiled) and all(w == c or w.startswith("__") for w, c in zip(written, compiled))


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
            f"The file of the function is no plain Python ({error}). In a notebook, put the function in a cell without "
            f"magics; elsewhere, start the program again if the file was changed."
        ) from error


def _check_no_private_names(node: AnyFunctionDef) -> None:
    for inner in ast.walk(node):
        name = inner.attr if isinstance(inner, ast.Attribute) else inner.id if isinstance(inner, ast.Name) else ""
        if name.startswith("__") and not name.endswith("__"):
            raise CodeError(
                f"The method {node.name!r} uses the private name {name!r}, which has another name outside of its "
                f"class. Rename it to {name[1:]!r}."
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
        if isinstance(inner, ast.JoinedStr) or (isinstance(inner, ast.Constant) and isinstance(inner.value, str | bytes))
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


def _closure_values(function: types.FunctionType) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # a variable of the enclosing function that has no value yet
            continue
    return values


def _used_names(code: types.CodeType) -> set[str]:
    used = set(code.co_freevars)
    for inner in _with_inner_code(code):
        stored = {i.argval for i in dis.get_instructions(inner) if i.opname == "STORE_NAME"}
        used |= {i.argval for i in dis.get_instructions(inner) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")} - stored
    return used - {"__module__", "__qualname__"}


def _with_inner_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _with_inner_code(constant)


def _default_names(node: AnyFunctionDef) -> set[str]:
    defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    return {inner.id for default in defaults for inner in ast.walk(default) if isinstance(inner, ast.Name)}


def _stdlib_source(name: str, value: Any) -> str | None:
    if name.startswith("__"):
        return None
    if isinstance(value, types.ModuleType):
        known = sys.modules.get(value.__name__) is value and _is_stdlib(value.__name__)
        return value.__name__ if known else None
    if not (isinstance(value, type) or inspect.isroutine(value) or type(value).__module__ == "typing"):
        return None
    module, attribute = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(attribute, str) or not _is_stdlib(module):
        return None
    return f"{module}:{attribute}" if getattr(sys.modules.get(module), attribute, None) is value else None


def _is_stdlib(module: str) -> bool:
    root = module.partition(".")[0]
    return root in sys.stdlib_module_names and root != "builtins"


def _is_constant(name: str, value: Any) -> bool:
    return not name.startswith("__") and _plain_size(value, MAX_CONSTANT_CHARS) <= MAX_CONSTANT_CHARS


def _plain_size(value: Any, most: int) -> int:
    """Count characters and items of plain data; more than `most` for anything else or too deep."""
    if value is None or type(value) in (bool, int, float):
        return 8
    if type(value) is str:
        return len(value)
    if isinstance(value, re.Pattern):
        return len(value.pattern)
    if type(value) in (list, tuple, set, frozenset, dict):
        size = 2
        for item in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            size += 1 + (_plain_size(item, most - size - 64) if most > size else 0)
            if size > most:
                break
        return size
    return most + 1


def _compile(text: str) -> types.CodeType:
    _register(text)
    return _compile_tree(parse_source(text), text)


def _compile_tree(tree: ast.Module, text: str) -> types.CodeType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return compile(tree, source_filename(text), "exec", flags=_FLAGS, dont_inherit=True)
    except SyntaxError as error:
        raise CodeError(syntax_message(error)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise CodeError(f"The source cannot be compiled: {error or type(error).__name__}. Write simpler code.") from error


@functools.lru_cache(maxsize=4096)
def _compile_maker(text: str, name: str, free: tuple[str, ...]) -> types.CodeType:
    """Compile a function of no arguments that runs the text in a scope of its own and returns its `name`.

    The text becomes the body of a function, so that what it defines lives in closure cells, not in the globals it shares.
    """
    _register(text)
    tree = parse_source(text)
    if not any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name for node in tree.body):
        raise CodeError(f"Expected a top-level function {name!r}, but the source does not define it. Keep its name.")
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    outer = ast.parse(f"def outer({', '.join(free)}):\n  def make():\n    return {name}\n  return make").body[0]
    assert isinstance(outer, ast.FunctionDef) and isinstance(outer.body[0], ast.FunctionDef)
    outer.body[0].body[:0] = [node for node in tree.body if node not in future]
    module = _compile_tree(ast.Module([*future, outer], []), text)
    outer_code = next(c for c in module.co_consts if isinstance(c, types.CodeType))
    return next(c for c in outer_code.co_consts if isinstance(c, types.CodeType))


def _register(text: str) -> None:
    filename = source_filename(text)
    lines = [line + "\n" for line in _split_lines(text)]
    linecache.cache[filename] = (len(text), None, lines, filename)


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
        if not filename.startswith(_FILENAME_START):
            return None
        number, text = line, "".join(linecache.getlines(filename))
    else:
        text = source if isinstance(source, str) else source.text
        if filename != source_filename(text):
            return None
        number = line
    lines = _split_lines(text)
    return (number, lines[number - 1]) if 1 <= number <= len(lines) else None


def _split_lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
