"""The parameters of a DSPy program: found, read, checked and written to a copy; the program itself is never changed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import dspy

from trace_adapters import AdapterError, Parameter, ParameterError, SettingError
from trace_adapters.extend import check_values
from trace_adapters_dspy.copies import copy_program
from trace_adapters_dspy.observe import describe_signature, key_of
from trace_adapters_dspy.parameters import Function, Text

TRAIN = ("instructions", "code", "text")
KINDS = (*TRAIN, "demos")
_RECORDS = ("history", "callbacks", "candidate_programs", "traces", "train", "demos")
_HOLDERS = (dspy.Module, Mapping, list, tuple)


@dataclass(frozen=True)
class Declared:
    """A DSPy parameter of a program.

    Attributes:
        path: Short and readable: `predict.predict` of a chain of thought is `predict`, `steps[0]` is `steps.0`.
        attribute: The path as DSPy has it.
        owner: A `dspy.Predict`, a `Function` or a `Text`.
    """

    path: str
    attribute: str
    owner: Any


def declared(program: Any) -> list[Declared]:
    """The predictors, functions and texts of a program, in DSPy's order.

    Raises:
        AdapterError: If it is no `dspy.Module`.
    """
    if not isinstance(program, dspy.Module):
        raise AdapterError(f"Expected a dspy.Module, got {program!r}.")
    found = [
        (name, owner) for name, owner in program.named_parameters() if isinstance(owner, dspy.Predict | Function | Text)
    ]
    shorts = [_short_path(name, owner) for name, owner in found]
    counts = Counter(shorts)
    return [
        Declared(short if counts[short] == 1 else _dotted(name), name, owner)
        for short, (name, owner) in zip(shorts, found, strict=True)
    ]


def parameters(
    program: Any,
    train: Sequence[str] = TRAIN,
    include: Sequence[str] = ("*",),
    freeze: Sequence[str] = (),
) -> dict[str, Parameter]:
    """The trainable parameters of a program with their present values.

    Args:
        program: A `dspy.Module`.
        train: Kinds of parameters: "instructions" and "demos" of predictors, "code" (`Function`), "text" (`Text`).
        include: Globs; only parameters whose key matches one.
        freeze: Globs; not those whose key matches one.

    Returns:
        Key -> parameter: `<path>.instructions`, `<path>.demos`, `<path>` of a function or text.

    Raises:
        SettingError: If a kind is unknown or a glob matches nothing.
    """
    unknown = [kind for kind in train if kind not in KINDS]
    if unknown or not train or isinstance(train, str):
        raise SettingError(f"train takes a sequence of {', '.join(KINDS)}, got {train!r}.")
    every = _all_parameters(program)
    for glob in (*include, *freeze):
        if glob != "*" and not any(fnmatchcase(key, glob) for key in every):
            raise SettingError(f"No parameter matches {glob!r}; there are {', '.join(every) or 'none'}.")
    return {
        key: parameter
        for key, (kind, parameter) in every.items()
        if kind in train and _matches(key, include) and not _matches(key, freeze)
    }


def values(program: Any) -> dict[str, Any]:
    """Key -> present value of every parameter, trainable or not; demonstrations that are no JSON are left out."""
    return {key: parameter.data for key, (_, parameter) in _all_parameters(program).items()}


def apply(program: Any, candidate: Mapping[str, Any], *, shared: Mapping[int, Any] | None = None) -> Any:
    """A copy of a program with the values of a candidate; what the candidate does not name stays as it is.

    Args:
        program: Never changed; its copy shares language models with it, and what cannot be copied, e.g. connections.
        candidate: Parameter key -> value.
        shared: What copies share, if it is known already.

    Raises:
        ParameterError: If a key is unknown or a value does not fit.
        AdapterError: If the program refuses to be copied.
    """
    every = {key: parameter for key, (_, parameter) in _all_parameters(program).items()}
    check_values(every, {key: value for key, value in candidate.items() if _changes(every, key, value)})
    twin = copy_program(program, shared)
    for found in declared(twin):
        owner = found.owner
        if isinstance(owner, Text):
            owner.value = candidate.get(found.path, owner.value)
        elif isinstance(owner, Function):
            if candidate.get(found.path, owner.source) != owner.source:
                owner.source = candidate[found.path]
        else:
            _write_predictor(found, candidate, every)
    return twin


def paths(program: Any) -> dict[int | str, str]:
    """`id` of each predictor, function, text and module -> path; `stage` too, where no two have the same."""
    found: dict[int | str, str] = {}
    for path, module in _modules(program):
        found[id(module)] = path
    owners = declared(program)
    stages = Counter(one.owner.stage for one in owners)
    for one in owners:
        found[id(one.owner)] = one.path
        if stages[one.owner.stage] == 1:
            found[one.owner.stage] = one.path
    return found


def _all_parameters(program: Any) -> dict[str, tuple[str, Parameter]]:
    owners = declared(program)
    tools = _tool_names(program)
    found: dict[str, tuple[str, Parameter]] = {}
    for one in owners:
        if isinstance(one.owner, Text):
            found[one.path] = ("text", _text(one))
        elif isinstance(one.owner, Function):
            found[one.path] = ("code", _code(one))
        else:
            key = key_of(one.path, "instructions")
            found[key] = ("instructions", _instructions(one, key, tools.get(id(one.owner), ())))
            examples = _read_demos(one.owner)
            if examples is not None:
                key = key_of(one.path, "demos")
                found[key] = ("demos", _demos(one, key, examples))
    return found


def _text(one: Declared) -> Parameter:
    fields = ", ".join("{" + name + "}" for name in one.owner.fields)
    constraint = f"A text with the fields {fields}, each at least once." if fields else ""
    about = one.owner.description or "A text that the program uses."
    return Parameter(one.owner.value, one.path, about, constraint, "text", check=one.owner.check)


def _code(one: Declared) -> Parameter:
    function = one.owner
    about = function.description or f"The function {function.__name__}."
    return Parameter(function.source, one.path, about, function.constraint, "code", check=function.check)


def _instructions(one: Declared, key: str, keep: Sequence[str]) -> Parameter:
    signature = one.owner.signature
    names = [name for name in keep if name in signature.instructions]

    def check(text: Any) -> None:
        if not isinstance(text, str) or (signature.instructions.strip() and not text.strip()):
            raise ParameterError(f"Expected instructions, a non-empty text, got {text!r}.")
        missing = [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
        if missing:
            raise ParameterError(f"The instructions lost the tools {', '.join(missing)}; every tool must be named.")

    about = f"What the language model is told to do in the call {describe_signature(signature)}."
    constraint = f"Must name the tools {', '.join(names)}." if names else ""
    return Parameter(signature.instructions, key, about, constraint, "text", check=check)


def _demos(one: Declared, key: str, examples: list[dict[str, Any]]) -> Parameter:
    signature = one.owner.signature
    known = {*signature.fields, "augmented"}
    known.update(name for example in examples for name in example)

    def check(value: Any) -> None:
        if not isinstance(value, list) or not all(isinstance(demo, Mapping) for demo in value):
            raise ParameterError(f"Expected a list of mappings, got {value!r}.")
        unknown = sorted({str(name) for demo in value for name in demo if name not in known})
        if unknown:
            raise ParameterError(
                f"The demonstrations have unknown fields {', '.join(unknown)}; there are {', '.join(signature.fields)}."
            )

    about = f"Examples of the call {describe_signature(signature)}, shown to the language model."
    return Parameter(examples, key, about, "A list of mappings from field to value.", "demos", check=check)


def _read_demos(predictor: Any) -> list[dict[str, Any]] | None:
    """The demonstrations as plain mappings; None if they are no JSON, e.g. hold pictures."""
    examples = [dict(demo.items()) for demo in predictor.demos]
    try:
        return examples if json.loads(json.dumps(examples)) == examples else None
    except (TypeError, ValueError):
        return None


def _write_predictor(found: Declared, candidate: Mapping[str, Any], every: Mapping[str, Parameter]) -> None:
    predictor = found.owner
    text = candidate.get(key_of(found.path, "instructions"), predictor.signature.instructions)
    if text != predictor.signature.instructions:
        # never `signature.instructions = ...`: copies of a program share the class
        predictor.signature = predictor.signature.with_instructions(text)
    key = key_of(found.path, "demos")
    if key in candidate and _changes(every, key, candidate[key]):
        inputs = list(predictor.signature.input_fields)
        predictor.demos = [dspy.Example(**demo).with_inputs(*inputs) for demo in candidate[key]]


def _changes(every: Mapping[str, Parameter], key: str, value: Any) -> bool:
    return key not in every or every[key]._data != value  # its own: `data` is that of a `using`, and a reading


def _modules(program: Any) -> Iterator[tuple[str, Any]]:
    """(path, module) of a program and all modules inside; without DSPy's walk through its own records."""
    stack: list[tuple[str, Any]] = [("", program)]
    seen: set[int] = set()
    while stack:
        path, value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        items: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dspy.Module):
            yield path, value
            items = ((name, item) for name, item in vars(value).items() if name not in _RECORDS)
        elif isinstance(value, Mapping):
            items = value.items()
        elif isinstance(value, list | tuple):
            items = enumerate(value)
        held = [(f"{path}.{name}".lstrip("."), item) for name, item in items if isinstance(item, _HOLDERS)]
        stack += reversed(held)


def _tool_names(program: Any) -> dict[int, list[str]]:
    """`id` of a predictor whose instructions list tools -> names of the tools."""
    found: dict[int, list[str]] = {}
    for _, module in _modules(program):
        tools, react = getattr(module, "tools", None), getattr(module, "react", None)
        if isinstance(tools, Mapping) and isinstance(react, dspy.Predict):
            found[id(react)] = [str(name) for name in tools]
    return found


def _short_path(name: str, owner: Any) -> str:
    dotted = _dotted(name)
    if isinstance(owner, dspy.Predict):
        if dotted in ("self", "predict"):
            return "" if dotted == "self" else dotted
        return dotted.removesuffix(".predict")
    return dotted


def _dotted(name: str) -> str:
    """`agents['a'].steps[0]` -> `agents.a.steps.0`."""
    return re.sub(r"\[['\"]?(.*?)['\"]?\]", r".\1", name)


def _matches(key: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(key, glob) for glob in globs)
