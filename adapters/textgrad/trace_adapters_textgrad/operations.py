"""What made a Variable: the operation and its named arguments, read from `grad_fn` and `predecessors`."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from trace_adapters_textgrad.matching import fields_in_format, order_in_join
from trace_adapters_textgrad.naming import name_of_function, name_of_role
from trace_adapters_textgrad.variables import CodeVariable

CODE_ARGUMENT = "__code"
_FUNCTION_ROLE = "Output of the string-based function with purpose"
_DEFAULT_ROLES = ("response from the language model", "Language Model Response")
_LLM = "A language model answers the prompt."
_CONTEXTS = ("input_content", "summation", "aggregated_variable")


@dataclass(frozen=True)
class Argument:
    """One argument of a call.

    Attributes:
        used: The text that the call was made with, where TextGrad keeps it; None where it does not.
    """

    name: str
    variable: Any
    used: str | None = None


@dataclass(frozen=True)
class Made:
    """How a Variable was made.

    Attributes:
        name: Of the operation.
        shown: The name that the result itself should have, if its role says one.
    """

    name: str
    description: str
    arguments: tuple[Argument, ...]
    shown: str | None = None
    language_model: bool = False


def how_made(variable: Any, rank: Callable[[Any], Any] = str) -> Made | None:
    """How a Variable was made; None if it has no predecessors.

    Argument names are exact for functions and language model calls, and numbered for what is not known. Their order
    is that of the call, as far as values can tell; among equal values `rank` decides, never the order of a set.
    """
    sources = sorted(variable.predecessors, key=rank)
    if not sources and not children_of(variable):
        return None
    grad_fn = variable.grad_fn
    if isinstance(grad_fn, partial):
        return _joined("add", "", "x y: texts put together.", variable, sources)
    backward = getattr(grad_fn, "backward_fn", None)
    known = getattr(grad_fn, "kwargs", None) or {}
    owner = getattr(backward, "__self__", None)
    if isinstance(known.get("inputs"), dict):
        return _function(variable, owner, known, sources)
    if "input_content" in known:
        return _multimodal(variable, owner, known, sources)
    if "prompt" in known and "system_prompt" in known:
        return _asked(variable, owner, known, sources)
    if "summation" in known:
        return _joined("sum", "\n", "The texts, one a line.", variable, sources)
    if "aggregated_variable" in known:
        return _joined("aggregate", "\n", "The texts, one a line.", variable, sources)
    return Made("compute", "Made from these in a way that is not known.", _numbered(sources), _shown(variable))


def children_of(variable: Any) -> set[Any]:
    """The Variables that a Variable was made from; the context of a function may name more than `predecessors`."""
    inputs = (getattr(variable.grad_fn, "kwargs", None) or {}).get("inputs")
    named = [value for value in inputs.values() if hasattr(value, "predecessors")] if isinstance(inputs, dict) else []
    return {*variable.predecessors, *named}


def ancestors_of(variables: Iterable[Any]) -> set[Any]:
    """Everything that Variables depend on, themselves included; no recursion."""
    found: set[Any] = set()
    stack = list(variables)
    while stack:
        variable = stack.pop()
        if variable not in found:
            found.add(variable)
            stack += children_of(variable)
    return found


def backward_calls(variables: Iterable[Any]) -> int:
    """Model calls that TextGrad's own backward pass would make at these Variables."""
    total = 0
    for variable in variables:
        known = getattr(variable.grad_fn, "kwargs", None) or {}
        if not variable.requires_grad:
            continue
        if known.keys() & {"inputs", "prompt", "input_content"}:
            total += sum(bool(source.requires_grad) for source in variable.predecessors)
        elif "aggregated_variable" in known:
            total += 1
    return total


def foreign_backward(variables: Iterable[Any]) -> str | None:
    """The name of a backward function that is not TextGrad's, where nothing else tells how a Variable was made."""
    unknown = [v for v in variables if v.requires_grad and not _says_how(getattr(v.grad_fn, "kwargs", None) or {})]
    functions = [_backward_function(variable.grad_fn) for variable in unknown]
    foreign = {f for f in functions if f is not None and str(f.__module__).partition(".")[0] != "textgrad"}
    return min((f.__qualname__ for f in foreign), default=None)


def judged_parts(loss: Any, ends: Container[Any], rank: Callable[[Any], Any] = str) -> list[Any]:
    """The Variables that a loss adds up, also by sums of sums, in order; itself if it is no sum, or in `ends`."""
    parts: dict[Any, None] = {}
    stack = [loss]
    while stack:
        variable = stack.pop()
        known = getattr(variable.grad_fn, "kwargs", None) or {}
        if variable in ends or not known.keys() & {"summation", "aggregated_variable"}:
            parts[variable] = None
            continue
        made = how_made(variable, rank)
        stack += [] if made is None else [argument.variable for argument in reversed(made.arguments)]
    return list(parts)


def _says_how(known: Mapping[str, Any]) -> bool:
    """Whether what a context keeps is that of an operation that `how_made` recognizes."""
    asked = {"prompt", "system_prompt"} <= known.keys()
    return asked or isinstance(known.get("inputs"), dict) or not known.keys().isdisjoint(_CONTEXTS)


def _backward_function(grad_fn: Any) -> Any:
    """The function that a `grad_fn` calls; None for a Variable that was not computed."""
    plain = grad_fn.func if isinstance(grad_fn, partial) else getattr(grad_fn, "backward_fn", grad_fn)
    return plain if plain is None or hasattr(plain, "__qualname__") else type(plain)


def _function(variable: Any, owner: Any, known: Any, sources: Sequence[Any]) -> Made:
    children = children_of(variable)
    purpose = str(known.get("function_purpose") or "")
    code = next((value for value in known["inputs"].values() if isinstance(value, CodeVariable)), None)
    function = code.learned.function if code is not None else getattr(owner, "fn", None)
    name = name_of_function(function, "") if function is not None else ""
    arguments = [
        Argument(CODE_ARGUMENT if isinstance(source, CodeVariable) else _argument_name(key), source)
        for key, source in known["inputs"].items()
        if source in children
    ]
    named = {argument.variable for argument in arguments}
    arguments += _numbered(source for source in sources if source not in named)
    return Made(name or name_of_role(purpose, "function"), purpose, tuple(arguments), _shown(variable))


def _asked(variable: Any, owner: Any, known: Any, sources: list[Any]) -> Made:
    prompt, said = known["prompt"], known["system_prompt"]
    system = _system_prompt(owner, said, sources, prompt)
    others = [source for source in sources if source is not system]
    arguments: list[Argument] = []
    name, description = "llm", _LLM
    template = getattr(owner, "format_string", None)
    if isinstance(template, str) and isinstance(prompt, str):
        shown = _shown(variable)
        name = f"llm_{shown}" if shown and shown != "response" else "llm_formatted"
        description = f"A language model answers this text, filled with the arguments: {template}"
        arguments = _fields(template, prompt, others, [] if system is None else [system])
    elif others or system is not None:
        inputs = others or [system]
        used = prompt if len(inputs) == 1 and isinstance(prompt, str) else None
        arguments = [
            Argument("prompt" if number == 0 else f"input_{number}", v, used) for number, v in enumerate(inputs)
        ]
    if system is not None:
        arguments.append(Argument("system_prompt", system, said if isinstance(said, str) else None))
    return Made(name, description, tuple(arguments), _shown(variable) or "response", True)


def _fields(template: str, prompt: str, others: Sequence[Any], system: Sequence[Any]) -> list[Argument]:
    """The fields of a template; the system prompt may have filled one, too."""
    sources = [*others, *system]
    values = [source.value for source in sources]
    texts = [value if isinstance(value, str) else "" for value in values]
    found = fields_in_format(template, prompt, texts)
    arguments = [Argument(_argument_name(name), sources[number], text) for name, (number, text) in found.items()]
    given = {argument.variable for argument in arguments}
    return [*arguments, *_numbered([source for source in others if source not in given], len(arguments))]


def _system_prompt(owner: Any, said: Any, sources: Sequence[Any], prompt: Any) -> Any:
    """The system prompt among the sources: by identity, else the one of that value."""
    own = getattr(owner, "system_prompt", None)
    if said is None:
        return None
    if any(source is own for source in sources):
        return own
    equal = [source for source in sources if source.value == said]
    return next((source for source in equal if len(sources) == 1 or source.value != prompt), None)


def _multimodal(variable: Any, owner: Any, known: Any, sources: list[Any]) -> Made:
    content, said = known["input_content"], known.get("system_prompt")
    system = _system_prompt(owner, said, sources, None)
    left = [source for source in sources if source is not system] or sources
    fields = list(getattr(owner, "fields", None) or [])
    arguments = []
    for number, item in enumerate(content):
        field = str(fields[number]) if number < len(fields) else ""
        text = item.removeprefix(f"{field}: ") if field and isinstance(item, str) else item
        same = next((source for source in left if source.value == text), None)
        if same is not None:
            arguments.append(Argument(_argument_name(field) if field else f"input_{number + 1}", same))
    given = {argument.variable for argument in arguments}
    arguments += _numbered([source for source in left if source not in given], len(arguments))
    if system is not None:
        arguments.append(Argument("system_prompt", system, said if isinstance(said, str) else None))
    return Made("multimodal_llm", _LLM, tuple(arguments), _shown(variable) or "response", True)


def _joined(name: str, separator: str, description: str, variable: Any, sources: list[Any]) -> Made:
    values = [source.value for source in sources]
    text = variable.value
    order = None
    if isinstance(text, str) and all(isinstance(value, str) for value in values):
        order = order_in_join(text, values, separator)
    return Made(name, description, _numbered([sources[n] for n in order] if order else sources))


def _numbered(sources: Iterable[Any], start: int = 0) -> tuple[Argument, ...]:
    return tuple(Argument(f"input_{number}", source) for number, source in enumerate(sources, start + 1))


def _argument_name(name: Any) -> str:
    text = re.sub(r"\W+", "_", str(name)).strip("_")
    return text if text and not text[0].isdigit() else f"_{text}"


def _shown(variable: Any) -> str | None:
    role = str(variable.role_description or "")
    if role.startswith(_FUNCTION_ROLE):
        return None
    return "response" if role in _DEFAULT_ROLES else name_of_role(role)
