"""Python functions of a chain as text: taken from their file, lambdas too, and put back as functions."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trace_adapters import CodeError
from trace_adapters.extend import LearnedFunction, load_function, read_source, require_terms
from trace_adapters_langchain.codecs import register_codecs

_RUNNER_ARGUMENTS = ("config", "run_manager")  # LangChain gives these to functions that ask for them


register_codecs()


@dataclass(frozen=True)
class Terms:
    """Where learned sources run.

    Attributes:
        uses: What they may call in the host: callables, or name -> callable.
        trust: "sandbox", or "in-process" to run them here with all that the function's module reaches.
        timeout_s: Wall-clock limit of one call in the sandbox.
        sandbox: "auto", "strict", "bwrap", "monty", or None for what the optimization says.
    """

    uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = field(default=())
    trust: str = "sandbox"
    timeout_s: float = 5.0
    sandbox: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot hold, also where no function is trained."""
        require_terms(self.trust, self.timeout_s, self.sandbox)


def learned_function(function: Callable[..., Any], name: str, terms: Terms) -> LearnedFunction:
    """A function of a chain as one whose source may change.

    Args:
        function: Plain or async, with a `def` or a lambda.
        name: The name that a lambda gets.
        terms: Where learned sources run.

    Raises:
        CodeError: If its source cannot be read, or a learned source could not be called as LangChain calls it.
    """
    if isinstance(function, functools.partial) or not inspect.isfunction(function):
        raise CodeError(f"{function!r} has no source of its own; write a function with `def` that calls it.")
    if terms.trust == "sandbox":
        asked = [given for given in _RUNNER_ARGUMENTS if given in inspect.signature(function).parameters]
        if asked:
            raise CodeError(
                f"{function.__qualname__!r} asks LangChain for `{asked[0]}`, which cannot go into the sandbox; take it "
                'out, or say trust="in-process".'
            )
    return LearnedFunction(
        with_def(function, name),
        uses=terms.uses,
        trust=terms.trust,
        timeout_s=terms.timeout_s,
        sandbox=terms.sandbox,
    )


def with_def(function: types.FunctionType, name: str) -> types.FunctionType:
    """A function as it is; a lambda as a function with a `def`, the same closure and the same globals.

    Raises:
        CodeError: If a lambda's source cannot be found.
    """
    if function.__name__ != "<lambda>":
        return function
    made = load_function(_lambda_text(function, name), name, function)
    if function.__defaults__ or function.__kwdefaults__:  # the values that were there when the lambda was made
        made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return made


def source_text(function: Any) -> str | None:
    """The text of a function or lambda as one `def`; None if it cannot be read."""
    try:
        return read_source(with_def(function, "function")).text if inspect.isfunction(function) else None
    except CodeError:
        return None


def sandboxed(
    learned: LearnedFunction, text: str, like: Callable[..., Any], *, bound: bool = False
) -> Callable[..., Any]:
    """A function that runs a learned source where the terms say, with the name and signature of another.

    Args:
        learned: The function whose source may change.
        text: The source.
        like: The other function.
        bound: Whether it is a method.
    """
    if learned.is_async_generator:

        async def call(*args: Any, **kwargs: Any) -> Any:
            async for chunk in learned.call(text, args, kwargs, bound=bound):
                yield chunk

    elif learned.is_async:

        async def call(*args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
            return await learned.call(text, args, kwargs, bound=bound)

    elif learned.is_generator:

        def call(*args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
            yield from learned.call(text, args, kwargs, bound=bound)

    else:

        def call(*args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
            return learned.call(text, args, kwargs, bound=bound)

    wrapped: Callable[..., Any] = functools.wraps(like)(call)
    wrapped.__signature__ = inspect.signature(like)  # type: ignore[attr-defined]
    del wrapped.__wrapped__  # type: ignore[attr-defined]
    return wrapped


def plain(learned: LearnedFunction, text: str) -> Callable[..., Any]:
    """A learned source as a function of this process, which sees what the original sees."""
    return load_function(text, learned.name, learned.function)


def _lambda_text(function: types.FunctionType, name: str) -> str:
    node = _find_lambda(function)
    arguments = ast.unparse(node.args)
    return f"def {name}({arguments}):\n    return {ast.unparse(node.body)}\n"


def _find_lambda(function: types.FunctionType) -> ast.Lambda:
    code = function.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    if not text:
        raise CodeError(
            f"The source of a lambda cannot be read: there is no file {code.co_filename!r}. Lambdas typed at a prompt, "
            "or made by eval, keep no source; write it in a file or in a notebook cell."
        )
    found = [node for node in _lambdas(text) if node.lineno == code.co_firstlineno and _is_compiled_to(node, code)]
    if len(found) != 1:
        raise CodeError(
            f"The source of the lambda in line {code.co_firstlineno} of {code.co_filename!r} cannot be told; if the "
            "file was changed, start the program again, else write the lambda as a function."
        )
    return found[0]


@functools.lru_cache(maxsize=16)
def _lambdas(text: str) -> tuple[ast.Lambda, ...]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise CodeError(
            f"The file of a lambda is no plain Python ({error}). In a notebook, put it in a cell without magics."
        ) from error
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Lambda))


def _is_compiled_to(node: ast.Lambda, code: types.CodeType) -> bool:
    """Whether a lambda in a file is the one that became `code`: several may stand in one line."""
    compiled = compile(ast.Expression(node), code.co_filename, "eval")
    own = next(constant for constant in compiled.co_consts if isinstance(constant, types.CodeType))
    if own.co_varnames[: own.co_argcount] != code.co_varnames[: code.co_argcount]:
        return False
    places, wanted = _places(own), _places(code)
    return places == wanted if places and wanted else (own.co_consts, own.co_names) == (code.co_consts, code.co_names)


def _places(code: types.CodeType) -> frozenset[tuple[int, ...]]:
    found = (place for place in code.co_positions() if None not in place)
    return frozenset(place for place in found if place[2] or place[3])  # type: ignore[misc]
