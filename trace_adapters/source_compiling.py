"""Source texts made into functions of this process."""

from __future__ import annotations
import __future__

import ast
import functools
import hashlib
import inspect
import linecache
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

from trace_adapters.errors import CodeError
from trace_adapters.lines import split_lines
from trace_adapters.source_checks import parse_source, syntax_message

SOURCE_FILENAME_START = "<trace_adapters "
_FLAGS = __future__.annotations.compiler_flag  # annotations may name what exists for type checkers only


@functools.lru_cache(maxsize=4096)
def compile_source(text: str) -> types.CodeType:
    """Compile a source text, once; tracebacks show its lines.

    Raises:
        CodeError: If the text is no valid Python.
    """
    return _compile(text)


def load_function(text: str, name: str, namespace: Mapping[str, Any] | Callable[..., Any]) -> types.FunctionType:
    """Make the function `name` of a source text in this process.

    The text's own imports, constants and other functions stay private to the result; nothing is written to
    `namespace`.

    Args:
        text: Checked source. It runs with all rights of this process.
        name: The function to return.
        namespace: The original function, whose globals and closure are shared live; or a dict of globals.

    Raises:
        CodeError: If the text does not compile, or does not define `name`.
        Exception: Whatever the text's top level raises.
    """
    if callable(namespace):
        original = plain_function(namespace)
        around = original.__globals__
        cells = dict(zip(original.__code__.co_freevars, original.__closure__ or (), strict=False))
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
    return f"{SOURCE_FILENAME_START}{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}>"


def plain_function(function: Any) -> types.FunctionType:
    """The function behind a method, static method or `functools.wraps` wrapper.

    Raises:
        CodeError: If it has no Python code of its own.
    """
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
        kind, advice = (
            f"an object of type {type(plain).__name__}",
            "Give its `__call__` method, or a function.",
        )
    else:
        kind, advice = (
            f"{type(plain).__name__}, which cannot be called",
            "Give a function written with `def`.",
        )
    raise CodeError(f"Expected a Python function with source, got {plain!r:.120}, which is {kind}. {advice}")


def _compile(text: str) -> types.CodeType:
    _register(text)
    return _compile_tree(parse_source(text), text)


def _compile_tree(tree: ast.Module, text: str) -> types.CodeType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            code = compile(tree, source_filename(text), "exec", flags=_FLAGS, dont_inherit=True)
            return cast("types.CodeType", code)
    except SyntaxError as error:
        raise CodeError(syntax_message(error)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise CodeError(f"The source cannot be compiled: {error!r}. Write simpler code.") from error


@functools.lru_cache(maxsize=4096)
def _compile_maker(text: str, name: str, free: tuple[str, ...]) -> types.CodeType:
    """Compile a function of no arguments that runs the text in a scope of its own and returns its `name`.

    The text becomes the body of a function, so that what it defines lives in closure cells and not in
    the globals that it shares.
    """
    _register(text)
    tree = parse_source(text)
    if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}:
        raise CodeError(f"Expected a top-level function {name!r}; the source does not define it. Keep its name.")
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    frame = f"def outer({', '.join(free)}):\n  def make():\n    return {name}\n  return make"
    _OwnGlobals(tree).visit(tree)
    outer = cast("ast.FunctionDef", ast.parse(frame).body[0])
    make = cast("ast.FunctionDef", outer.body[0])
    make.body[:0] = [node for node in tree.body if node not in future]
    module = _compile_tree(ast.Module([*future, outer], []), text)
    outer_code = next(c for c in module.co_consts if isinstance(c, types.CodeType))
    return next(c for c in outer_code.co_consts if isinstance(c, types.CodeType))


class _OwnGlobals(ast.NodeTransformer):
    """Lets `global` mean the text's own top level where that binds the name; else the shared globals, as it says."""

    def __init__(self, tree: ast.Module) -> None:
        self._bound = {name for statement in tree.body for name in _bound_by(statement)}

    def visit_Global(self, node: ast.Global) -> list[ast.stmt]:
        own = [name for name in node.names if name in self._bound]
        shared = [name for name in node.names if name not in self._bound]
        made: list[ast.stmt] = [ast.Nonlocal(own)] if own else []
        made += [ast.Global(shared)] if shared else []
        return [ast.copy_location(statement, node) for statement in made]


def _bound_by(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and type(node.ctx) is ast.Store]


def _register(text: str) -> None:
    filename = source_filename(text)
    lines = [line + "\n" for line in split_lines(text)]
    linecache.cache[filename] = (len(text), None, lines, filename)
