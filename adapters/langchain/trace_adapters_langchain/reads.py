"""Which items of its input a function reads, found in its source; nothing is put in the input's place."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_METHODS_OF_VALUES = frozenset(name for kind in (str, tuple, int, float) for name in dir(kind)) | {
    "get",
    "keys",
    "items",
}
_BUILTINS = frozenset(
    {"abs", "all", "any", "bool", "dict", "float", "int", "isinstance", "len", "list", "max", "min", "repr", "round"}
    | {"set", "sorted", "str", "sum", "tuple", "type", "zip", "enumerate", "range"}
)
_SEES_ALL = frozenset({"locals", "vars", "eval", "exec", "globals", "dir"})


def items_read(source: str) -> frozenset[str] | None:
    """The keys that a function reads of its first argument, if it does nothing else with it.

    Every use of the argument must be `x["key"]`, `x.get("key")` or `"key" in x`; then the result cannot depend on other
    items. The argument itself never leaves such a function, so no proxy is needed to be sure.

    Args:
        source: One `def`.

    Returns:
        The keys; None if the function may read anything.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    functions = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if len(functions) != 1 or len(tree.body) != 1:
        return None
    arguments = [*functions[0].args.posonlyargs, *functions[0].args.args]
    if not arguments:
        return None
    return _keys_of(functions[0], arguments[0].arg)


def runs_nothing(source: str) -> bool:
    """Whether a function certainly runs no chain itself, so that what ran inside is a chain that it returned.

    It may call methods that change nothing, by names that no runnable has, and functions that are built in.

    Args:
        source: One `def`.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    if any(isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom, ast.With, ast.AsyncWith)) for node in ast.walk(tree)):
        return False
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return all(
        call.attr in _METHODS_OF_VALUES if isinstance(call, ast.Attribute) else _is_builtin(call) for call in calls
    )


def _is_builtin(call: ast.expr) -> bool:
    return isinstance(call, ast.Name) and call.id in _BUILTINS


def _keys_of(function: ast.AST, argument: str) -> frozenset[str] | None:
    keys: set[str] = set()
    explained: set[ast.AST] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id in _SEES_ALL:
            return None
        for key, name in _reads_in(node, argument):
            keys.add(key)
            explained.add(name)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == argument and node not in explained:
            return None
    return frozenset(keys)


def _reads_in(node: ast.AST, argument: str) -> Iterator[tuple[str, ast.AST]]:
    """(key, the name that is explained by reading it)."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        if _is_argument(node.value, argument) and _is_key(node.slice):
            yield node.slice.value, node.value  # type: ignore[attr-defined]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        if _is_argument(node.func.value, argument) and node.args and _is_key(node.args[0]):
            yield node.args[0].value, node.func.value  # type: ignore[attr-defined]
    elif _is_membership(node) and _is_argument(node.comparators[0], argument):  # type: ignore[attr-defined]
        yield node.left.value, node.comparators[0]  # type: ignore[attr-defined]


def _is_membership(node: ast.AST) -> bool:
    is_in = isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn))
    return is_in and _is_key(node.left)  # type: ignore[attr-defined]


def _is_argument(node: ast.AST, argument: str) -> bool:
    return isinstance(node, ast.Name) and node.id == argument


def _is_key(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
