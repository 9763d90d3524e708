"""The subset of Python that Monty runs."""

from __future__ import annotations

import ast

from trace_adapters.errors import CodeError

# Of pydantic-monty 1.4; a module that a later version adds is refused here until it is listed.
MODULES = (
    "asyncio", "base64", "bisect", "collections", "copy", "csv", "dataclasses", "datetime", "decimal", "functools",
    "hashlib", "itertools", "json", "math", "random", "re", "time", "typing", "unicodedata",
)  # fmt: skip
CONSTRAINT = (
    "It runs in Monty, a subset of Python: no generators (yield), no `del`, no classes that inherit, no property or "
    "static method, no `super`, `globals` or `format_map`, no files, and of the standard library only "
    f"{', '.join(MODULES)}."
)
_REFUSED = {
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.Delete: "del",
    ast.AsyncFor: "async for",
    ast.TryStar: "except*",
}


def check_portable(text: str) -> None:
    """Refuse a source that Monty cannot run, before it is tried.

    Raises:
        CodeError: Naming the line.
    """
    for node in ast.walk(ast.parse(text)):
        what = _refusal(node)
        if what is not None:
            raise CodeError(f"Line {getattr(node, 'lineno', '?')} uses {what}. {CONSTRAINT}")


def _refusal(node: ast.AST) -> str | None:
    if type(node) in _REFUSED:
        return f"`{_REFUSED[type(node)]}`"
    if isinstance(node, ast.ClassDef) and (node.bases or node.keywords):
        return f"a class {node.name!r} that inherits"
    named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        named = [node.module or ""]
    unknown = [name for name in named if name not in (*MODULES, "__future__")]
    return f"the module {unknown[0]!r}" if unknown else None
