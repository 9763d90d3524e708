"""The rules that the source of a trainable function must keep."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import cast

from trace_adapters.errors import CodeError

MAX_SOURCE_CHARS = 100_000

AnyFunctionDef = ast.FunctionDef | ast.AsyncFunctionDef

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_PURE_CALLS = frozenset({"re.compile", "frozenset", "set", "tuple", "list", "dict", "str", "int", "float"})
_PURE_NODES = (
    ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Starred, ast.Name, ast.Attribute,
    ast.expr_context, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator, ast.JoinedStr, ast.FormattedValue,
)  # fmt: skip


@dataclass(frozen=True)
class CodeSpec:
    """What the source of one trainable function must define.

    Attributes:
        name: The function's name.
        parameters: Its parameter list with defaults and without annotations, such as "(template, *, n=3)".
        doc: Its docstring, cleaned; "" without one.
        is_async: Whether it is an `async def`.
        uses: Names that the program provides, which the source may call and must not define.
    """

    name: str
    parameters: str
    doc: str = ""
    is_async: bool = False
    uses: tuple[str, ...] = ()

    @property
    def header(self) -> str:
        """The `def` line, without its colon."""
        return f"{'async def' if self.is_async else 'def'} {self.name}{self.parameters}"


def check_source(text: str, spec: CodeSpec) -> None:
    """Raise if `text` cannot stand for the function that `spec` describes.

    Other functions, classes, imports, constants and docstrings may stand beside the function.

    Raises:
        CodeError: With one sentence that says what to change.
    """
    tree = parse_source(text)
    function = _required_function(tree, spec)
    _check_header(function, spec)
    for statement in tree.body:
        if statement is not function:
            _check_beside(statement, spec)
    _check_compiles(text)


def parse_source(text: str) -> ast.Module:
    """Parse `text` as a module.

    Raises:
        CodeError: With the line and the text of a syntax error.
    """
    if not isinstance(text, str):
        raise CodeError(f"The source must be a string, got {type(text).__name__}: {text!r:.80}.")
    if len(text) > MAX_SOURCE_CHARS:
        raise CodeError(f"The source has {len(text)} characters, at most {MAX_SOURCE_CHARS} may be. Shorten it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(text)
    except SyntaxError as error:
        raise CodeError(syntax_message(error)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise CodeError(f"The source cannot be parsed: {error!r}. Write plain Python.") from error


def parameters_text(arguments: ast.arguments) -> str:
    """Write a parameter list with names, kinds and defaults, without annotations."""
    return f"({ast.unparse(_without_annotations(arguments))})"


def syntax_message(error: SyntaxError) -> str:
    """Say where and what a syntax error is."""
    line = (error.text or "").strip()
    where = f" in line {error.lineno}" if error.lineno else ""
    what = f"{error.msg}: {line!r}" if line else error.msg
    return f"The source has a syntax error{where}: {what}. Send valid Python."


def _required_function(tree: ast.Module, spec: CodeSpec) -> AnyFunctionDef:
    found = [node for node in tree.body if isinstance(node, _DEFINITIONS) and node.name == spec.name]
    if not found:
        names = [node.name for node in tree.body if isinstance(node, _DEFINITIONS)]
        came = f"only {', '.join(map(repr, names))}" if names else "no function"
        raise CodeError(
            f"Expected a top-level function `{spec.header}:`, but the source defines {came}. Keep its name."
        )
    if len(found) > 1:
        raise CodeError(f"The function {spec.name!r} is defined {len(found)} times. Define it once.")
    if isinstance(found[0], ast.ClassDef):
        raise CodeError(f"{spec.name!r} must be a function, not a class. Write `{spec.header}:`.")
    return found[0]


def _check_header(function: AnyFunctionDef, spec: CodeSpec) -> None:
    is_async = isinstance(function, ast.AsyncFunctionDef)
    if is_async != spec.is_async:
        must = "must be" if spec.is_async else "must not be"
        raise CodeError(f"{spec.name!r} {must} async. Write `{spec.header}:`.")
    if function.decorator_list:
        decorator = ast.unparse(function.decorator_list[0])
        raise CodeError(f"{spec.name!r} must have no decorator. Remove `@{decorator}`.")
    expected = cast("ast.FunctionDef", ast.parse(f"def {spec.name}{spec.parameters}: ...").body[0])
    if _comparable(function.args) != _comparable(expected.args):
        came = parameters_text(function.args)
        raise CodeError(
            f"The parameters of {spec.name!r} must be {spec.parameters}, got {came}. "
            "Keep the names, their order and their defaults."
        )


def _check_beside(statement: ast.stmt, spec: CodeSpec) -> None:
    line = getattr(statement, "lineno", "?")
    if not _is_allowed(statement):
        raise CodeError(
            f"Line {line}, `{_first_line(statement)}`, would run outside of {spec.name!r}. Only imports, "
            "constants, functions and classes may stand beside it; move the statement into the function."
        )
    for name in _bound_names(statement):
        if name == spec.name:
            raise CodeError(f"Line {line} gives the name {name!r} to something else. Use another name there.")
        if name in spec.uses:
            raise CodeError(f"Line {line} redefines {name!r}, which the program provides. Only call it.")


def _is_allowed(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.ImportFrom):
        return statement.level == 0 and all(alias.name != "*" for alias in statement.names)
    if isinstance(statement, (*_DEFINITIONS, ast.Import, ast.Pass)):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Assign):
        return all(_is_plain_target(target) for target in statement.targets) and _is_pure(statement.value)
    if isinstance(statement, ast.AnnAssign):
        return _is_plain_target(statement.target) and (statement.value is None or _is_pure(statement.value))
    return False


def _is_plain_target(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple):
        return all(isinstance(item, ast.Name) for item in target.elts)
    return isinstance(target, ast.Name)


def _is_pure(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        arguments = [*value.args, *(keyword.value for keyword in value.keywords)]
        return ast.unparse(value.func) in _PURE_CALLS and all(_is_pure(argument) for argument in arguments)
    if not isinstance(value, _PURE_NODES):
        return False
    return all(
        _is_pure(child) if isinstance(child, ast.expr) else isinstance(child, _PURE_NODES)
        for child in ast.iter_child_nodes(value)
    )


def _bound_names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, _DEFINITIONS):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


def _check_compiles(text: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            compile(text, "<proposal>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise CodeError(syntax_message(error)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise CodeError(f"The source cannot be compiled: {error!r}. Write simpler code.") from error


def _without_annotations(arguments: ast.arguments) -> ast.arguments:
    def bare(argument: ast.arg) -> ast.arg:
        return ast.arg(arg=argument.arg, annotation=None)

    return ast.arguments(
        posonlyargs=[bare(a) for a in arguments.posonlyargs],
        args=[bare(a) for a in arguments.args],
        vararg=bare(arguments.vararg) if arguments.vararg else None,
        kwonlyargs=[bare(a) for a in arguments.kwonlyargs],
        kw_defaults=arguments.kw_defaults,
        kwarg=bare(arguments.kwarg) if arguments.kwarg else None,
        defaults=arguments.defaults,
    )


def _comparable(arguments: ast.arguments) -> str:
    return ast.dump(_without_annotations(arguments))


def _first_line(statement: ast.stmt) -> str:
    return ast.unparse(statement).split("\n")[0][:80]
