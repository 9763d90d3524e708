"""A program with its learned values as a readable Python file."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from trace_adapters import saving
from trace_adapters.errors import DataError
from trace_adapters.lines import split_lines
from trace_adapters.nodes import Parameter
from trace_adapters.recording import Bundle

Edit = tuple[int, int, str]  # start and end in the text, what stands there instead
_EVERYTHING = "*"  # what `from module import *` makes


def export_module(cls: type, parameters: Mapping[str, Parameter], path: Path) -> None:
    """Write a class of a module, and what it needs of that module, with the parameters' values.

    Raises:
        DataError: If the class is not at the top level of a module whose source can be read, or the file cannot be
            written.
    """
    text = _module_source(cls)
    tree = ast.parse(text)
    needed = _needed(tree, cls.__name__)
    if needed is None:
        raise DataError(f"{cls.__qualname__} is not at the top level of {cls.__module__}; move it there to export it.")
    edits, done = _learned_functions(cls, needed, parameters, text)
    edits += _absolute_imports(needed, edits, sys.modules[cls.__module__].__package__, text)
    more, set_in_place = _literals(needed, parameters, done, text)
    rest = {k: p.data for k, p in parameters.items() if k not in done | set_in_place}
    parts = [f'"""{cls.__name__} of {cls.__module__} with learned values; written by Module.export."""\n']
    parts += _pieces(needed, text, [*edits, *more])
    if rest:
        parts.append(_setter(cls.__name__, rest))
    code = "\n".join(parts)
    ast.parse(code)
    saving.write_text(path, code)


def _module_source(cls: type) -> str:
    module = sys.modules.get(cls.__module__)
    try:
        return inspect.getsource(module)  # type: ignore[arg-type]
    except (OSError, TypeError) as error:
        raise DataError(f"The source of {cls.__module__}, where {cls.__name__} stands, cannot be read.") from error


def _needed(tree: ast.Module, name: str) -> list[ast.stmt] | None:
    """The statements at the top of a module that a class needs, directly or not, in their order."""
    makers: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for made in _made_by(statement):
            makers.setdefault(made, []).append(statement)
    if not any(isinstance(s, ast.ClassDef) for s in makers.get(name, [])):
        return None
    wanted = [name, _EVERYTHING]
    found: set[ast.stmt] = set()
    while wanted:
        for statement in makers.get(wanted.pop(), []):
            if statement not in found:
                found.add(statement)
                wanted += [n.id for n in ast.walk(statement) if isinstance(n, ast.Name)]
    future = [s for s in tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
    return [s for s in tree.body if s in found or s in future]


def _made_by(statement: ast.stmt) -> list[str]:
    """The names that a statement binds, or whose values it may change."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).partition(".")[0] for alias in statement.names]
    places = (ast.Name, ast.Subscript)  # `Agent.__init__ = ...` of an earlier export is not taken along
    made = [_stem(n) for n in ast.walk(statement) if isinstance(n, places) and isinstance(n.ctx, ast.Store)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):  # TABLE.update(...)
        made += [_stem(statement.value.func)] if isinstance(statement.value.func, ast.Attribute) else []
    inner = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]
    return made + [name for child in inner for name in _made_by(child)]


def _stem(place: ast.expr) -> str:
    """The name with which `name.attribute[key]` begins; empty if it begins otherwise."""
    while isinstance(place, (ast.Attribute, ast.Subscript)):
        place = place.value
    return place.id if isinstance(place, ast.Name) else ""


def _absolute_imports(needed: Sequence[ast.stmt], edits: Sequence[Edit], package: str | None, text: str) -> list[Edit]:
    """Replacements of relative imports: the file will stand outside of the package."""
    found = []
    for node in (node for statement in needed for node in ast.walk(statement)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        start, end = _span(text, node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)
        if not any(first <= start and end <= last for first, last, _ in edits):
            module = resolve_name("." * node.level + (node.module or ""), package)
            found.append((start, end, ast.unparse(ast.ImportFrom(module, node.names, 0))))
    return found


def _learned_functions(
    cls: type, needed: Sequence[ast.stmt], parameters: Mapping[str, Parameter], text: str
) -> tuple[list[Edit], set[str]]:
    """Replacements of the class's trainable methods, and the keys that they settle."""
    edits: list[Edit] = []
    done: set[str] = set()
    definition = next(s for s in needed if isinstance(s, ast.ClassDef) and s.name == cls.__name__)
    methods = {m.name: m for m in definition.body if isinstance(m, (ast.FunctionDef, ast.AsyncFunctionDef))}
    for key, parameter in parameters.items():
        bundled = [n for n, v in vars_of(cls).items() if isinstance(v, Bundle) and v.learned and _is_of(parameter, v)]
        if len(bundled) != 1 or bundled[0] not in methods or list(_owners(parameters, parameter)) != [key]:
            continue
        method = methods[bundled[0]]
        start, end = _span(text, method.lineno, 0, method.end_lineno, None)
        source = ast.get_source_segment(text, method)
        if source is None or not _has_one_definition(str(parameter.data)):
            continue
        edits.append((start, end, textwrap.indent(str(parameter.data).rstrip(), " " * method.col_offset)))
        done.add(key)
    return edits, done


def vars_of(cls: type) -> dict[str, Any]:
    """The attributes of a class and its bases, the most derived first."""
    return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}


def _is_of(parameter: Parameter, bundle: Bundle) -> bool:
    return bundle.learned is not None and getattr(parameter.check, "__self__", None) is bundle.learned


def _owners(parameters: Mapping[str, Parameter], one: Parameter) -> list[str]:
    learned = getattr(one.check, "__self__", None)
    return [key for key, p in parameters.items() if getattr(p.check, "__self__", None) is learned]


def _has_one_definition(source: str) -> bool:
    """Whether a source is one function; with helpers beside it, it cannot stand in a class."""
    return len(ast.parse(source).body) == 1


def _literals(
    needed: Sequence[ast.stmt], parameters: Mapping[str, Parameter], done: set[str], text: str
) -> tuple[list[Edit], set[str]]:
    """Replacements of the literals in `node(<literal>, name="key", trainable=True)`, and the keys they settle."""
    calls: dict[str, list[ast.Call]] = {}
    for statement in needed:
        for call in ast.walk(statement):
            if isinstance(call, ast.Call) and _makes_a_node(call) and isinstance(call.args[0], ast.Constant):
                names = [k.value for k in call.keywords if k.arg == "name"] + call.args[1:2]
                if names and isinstance(names[0], ast.Constant) and isinstance(names[0].value, str):
                    calls.setdefault(names[0].value, []).append(call)
    edits: list[Edit] = []
    settled: set[str] = set()
    for key, parameter in parameters.items():
        value = parameter.data
        if key in done or len(calls.get(key, [])) != 1 or not isinstance(value, (str, int, float, bool, type(None))):
            continue
        literal = calls[key][0].args[0]
        span = _span(text, literal.lineno, literal.col_offset, literal.end_lineno, literal.end_col_offset)
        edits.append((*span, _literal(value)))
        settled.add(key)
    return edits, settled


def _makes_a_node(call: ast.Call) -> bool:
    """Whether a call is `node(...)` or `ta.node(...)` with a value; others may hold the same texts by chance."""
    return ast.unparse(call.func).rpartition(".")[2] == "node" and bool(call.args)


def _literal(value: Any) -> str:
    """A value as source text; one of several lines as it is written by hand, if it can be."""
    is_long = isinstance(value, str) and "\n" in value and '"""' not in value and "\\" not in value and value[-1] != '"'
    if is_long and all(sign.isprintable() or sign in "\n\t" for sign in value):
        return f'"""{value}"""'
    return repr(value)


def _span(text: str, line: int, column: int, end_line: int | None, end_column: int | None) -> tuple[int, int]:
    """Places in the text of what the parser found; its columns count bytes."""
    lines = [f"{row}\n" for row in split_lines(text)]
    last = lines[(end_line or line) - 1]
    start = sum(map(len, lines[: line - 1])) + len(lines[line - 1].encode()[:column].decode())
    before = sum(map(len, lines[: (end_line or line) - 1]))
    return start, before + len(last.rstrip("\n") if end_column is None else last.encode()[:end_column].decode())


def _pieces(needed: Sequence[ast.stmt], text: str, edits: Sequence[Edit]) -> list[str]:
    pieces = []
    for statement in needed:
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
        start, end = _span(text, first, 0, statement.end_lineno, None)
        inside = sorted((edit for edit in edits if start <= edit[0] and edit[1] <= end), reverse=True)
        piece = text[start:end]
        for edit_start, edit_end, new in inside:
            piece = piece[: edit_start - start] + new + piece[edit_end - start :]
        is_short = isinstance(statement, (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign))
        pieces.append(piece if is_short else f"\n{piece}\n")
    return pieces


def _setter(name: str, values: Mapping[str, Any]) -> str:
    try:
        json.dumps(values)
    except (TypeError, ValueError) as error:
        raise DataError(f"A parameter's value is no JSON and cannot be exported: {error}") from error
    lines = [f"    {key!r}: {_literal(value)}," for key, value in values.items()]
    return "\n".join(
        [
            "\n# Learned values that no literal above holds; a new object starts with them.",
            "LEARNED = {", *lines, "}", f"_make_{name} = {name}.__init__", "", "",
            f"def _make_with_learned_values(self, *args, **kwargs):\n    _make_{name}(self, *args, **kwargs)",
            f"    self.set_values(LEARNED)\n\n\n{name}.__init__ = _make_with_learned_values\n",
        ]
    )  # fmt: skip
