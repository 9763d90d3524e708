"""The parameters of a chain: found, named by role and function name, chosen by kind, name or glob."""

from __future__ import annotations

import hashlib
import inspect
import json
import keyword
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from langchain_core.runnables.base import RunnableBindingBase

from trace_adapters import AdapterError, CodeError, Parameter, SettingError, UntrustedCode
from trace_adapters.extend import LearnedFunction
from trace_adapters_langchain import functions
from trace_adapters_langchain.chains import Slot, children, lambda_copy, model_copy
from trace_adapters_langchain.functions import Terms
from trace_adapters_langchain.parts import CODE, EXAMPLES, KINDS, PROMPT, TOOL, Part, prompt_parts, tool_parts

TRAIN = (PROMPT, EXAMPLES, CODE, TOOL)
"""The kinds that are trainable unless something else is asked for; partial variables are often not prose."""

_HIDDEN = (
    "What stands in a graph's nodes, in closures or in a RunnableWithMessageHistory cannot be seen from outside: wrap "
    "it where it is made, `ask = tal.trainable(prompt)`, and say tal.optimize(..., trainable=[ask])."
)

_CORE_KINDS = {PROMPT: "text", EXAMPLES: "json", CODE: "code", TOOL: "text"}
_OWN_MODULES = ("langchain", "langgraph", "langsmith", "trace_adapters_langchain")


@dataclass(frozen=True)
class Found:
    """A parameter of a chain.

    Attributes:
        key: Its name.
        owner: The runnable that it stands in.
        part: What it is there, and how to change it.
        source: For code, the function as one whose source may change.
        function: For code, the user's own function.
    """

    key: str
    owner: Any
    part: Part
    source: LearnedFunction | None = None
    function: Any = None

    def parameter(self, value: Any) -> Parameter:
        """The parameter for optimizers, with a value."""
        part = self.part
        kind = _CORE_KINDS.get(part.kind, "text")
        return Parameter(value, self.key, part.about, part.constraint, kind, check=part.check)

    @property
    def argument(self) -> str:
        """The name under which the runnable reads it."""
        role = self.part.role.replace(".", "_")
        if self.source is None:
            return role or "template"
        return f"{role}_code" if role else "code"

    def refusing(self, reason: str) -> Found:
        """The same, but whatever code is written there raises `UntrustedCode` when it is called."""
        put = self.part.put
        if put is None:
            return self

        def refuse(*_: Any, **__: Any) -> Any:
            raise UntrustedCode(reason)

        return replace(self, part=replace(self.part, write=lambda runnable, _, __: put(runnable, refuse)))


@dataclass(frozen=True)
class Inventory:
    """What is in a chain.

    Attributes:
        found: Every parameter, in the order in which they stand in the chain.
        refused: Name -> why it is none.
        terms: Where learned code runs.
    """

    found: tuple[Found, ...]
    refused: Mapping[str, str]
    terms: Terms


@dataclass(frozen=True)
class _Place:
    owner: Any
    path: tuple[str, ...]
    stem: str
    part: Part
    source: LearnedFunction | None = None
    function: Any = None


def take_inventory(chain: Any, terms: Terms) -> Inventory:
    """Find every parameter of a chain, trainable or not."""
    places: list[_Place] = []
    refused: dict[str, str] = {}
    seen: set[int] = set()
    for path, slots, owner in _walk(chain):
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        places += _places(owner, path, slots, terms, refused)
    names = _names(places)
    found = [Found(n, p.owner, p.part, p.source, p.function) for n, p in zip(names, places, strict=True)]
    return Inventory(tuple(found), refused, terms)


def select(inventory: Inventory, trainable: str | Sequence[str] | None) -> list[Found]:
    """The parameters that are to be trained.

    Args:
        inventory: All of them.
        trainable: Kinds, names or globs over names; one may stand alone. None for `TRAIN`.

    Raises:
        SettingError: If a name or glob matches nothing; with the reason, if it is the name of what cannot be trained.
        AdapterError: If nothing is left.
    """
    wanted = TRAIN if trainable is None else (trainable,) if isinstance(trainable, str) else trainable
    if not isinstance(wanted, Iterable) or not all(isinstance(name, str) for name in wanted):
        raise SettingError(f"trainable must be kinds, names or globs, e.g. ['prompt'], got {trainable!r}.")
    wanted = tuple(wanted)
    for name in wanted:
        if name not in KINDS and not any(fnmatchcase(found.key, name) for found in inventory.found):
            raise SettingError(_unknown(inventory, name))
    chosen = [
        found
        for found in inventory.found
        if any(found.part.kind == name or fnmatchcase(found.key, name) for name in wanted)
    ]
    if not chosen:
        asked = ", ".join(map(repr, wanted)) or "an empty list: say trainable=['prompt'] or the like"
        raise AdapterError(f"The chain has nothing to train of {asked}. {_listed(inventory)}")
    return chosen


def _unknown(inventory: Inventory, name: str) -> str:
    reasons = [f"{refused!r}: {why}" for refused, why in inventory.refused.items() if fnmatchcase(refused, name)]
    if reasons:
        return f"{name!r} cannot be trained. " + " ".join(reasons)
    return f"No parameter matches {name!r}. {_listed(inventory)}"


def _listed(inventory: Inventory) -> str:
    there = f"There are {', '.join(found.key for found in inventory.found) or 'none'}; kinds are {', '.join(KINDS)}."
    refused = " ".join(f"Not {name!r}: {why}" for name, why in inventory.refused.items())
    hidden = "" if inventory.found or inventory.refused else _HIDDEN
    return f"{there} {refused}{hidden}".strip()


def _walk(chain: Any, path: tuple[str, ...] = (), slots: tuple[Slot, ...] = ()) -> Iterator[tuple[Any, Any, Any]]:
    """(roles on the way, slots on the way, runnable) of everything in a chain."""
    yield path, slots, chain
    for slot, child in children(chain).items():
        role = _role_of_slot(chain, slot)
        yield from _walk(child, (*path, role) if role else path, (*slots, slot))


def _role_of_slot(parent: Any, slot: Slot) -> str:
    kind, which = slot
    if kind in ("key", "alternative"):
        return _word(str(which))
    if kind == "branch":
        return "otherwise" if which == "default" else _function_name(parent.branches[which - 1][0]) or "branch"
    if kind == "attempt" and which > 1:
        return "fallback"
    return ""


def _function_name(runnable: Any) -> str:
    function = getattr(runnable, "func", None) or getattr(runnable, "afunc", None)
    name = getattr(function, "__name__", "<lambda>")
    return "" if name == "<lambda>" else _word(name)


def _places(
    owner: Any, path: tuple[str, ...], slots: tuple[Slot, ...], terms: Terms, refused: dict[str, str]
) -> Iterator[_Place]:
    if isinstance(owner, BasePromptTemplate):
        stem = _word(owner.name) if owner.name else "prompt"
        for part in prompt_parts(owner):
            yield _Place(owner, path, stem, part)
    elif isinstance(owner, RunnableBindingBase):
        for part in tool_parts(owner):
            yield _Place(owner, path, "", part)
    elif isinstance(owner, RunnableLambda) or _is_tool(owner):
        attributes = ("func", "afunc") if isinstance(owner, RunnableLambda) else ("func", "coroutine")
        there = [name for name in attributes if callable(getattr(owner, name, None))]
        for attribute in there:
            stem = _stem(owner, getattr(owner, attribute), slots)
            role = "async" if len(there) > 1 and attribute != "func" else ""
            try:
                place = _code(owner, path, stem, role, attribute, terms)
            except CodeError as error:
                refused[stem] = str(error)
                continue
            if place is not None:
                yield place
    elif isinstance(owner, RunnableGenerator):
        refused[_word(owner.get_name())] = "A function from a stream to a stream cannot go into the sandbox."
    elif _has_own_parse(owner):
        try:
            yield _parse_method(owner, path, terms)
        except CodeError as error:
            refused[f"{_word(type(owner).__name__)}.parse"] = str(error)


def _has_own_parse(owner: Any) -> bool:
    """Whether a runnable is a parser of the user's own."""
    parse = getattr(type(owner), "parse", None)
    return isinstance(owner, BaseOutputParser) and not _is_langchains(parse)


def _is_langchains(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0].startswith(_OWN_MODULES)


def _parse_method(owner: Any, path: tuple[str, ...], terms: Terms) -> _Place:
    """The method `parse` of a parser, as the code that is changed in a subclass of the parser's own class."""
    cls = type(owner)
    learned = functions.learned_function(cls.parse, "parse", terms)

    def put(parser: Any, made: Any) -> Any:
        copied = parser.model_copy()
        copied.__class__ = type(cls.__name__, (cls,), {"parse": made, "__module__": cls.__module__})
        return copied

    def write(parser: Any, text: str, plain: bool) -> Any:
        if plain:
            return put(parser, functions.plain(learned, text))
        return put(parser, functions.sandboxed(learned, text, cls.parse, bound=True))

    about = inspect.getdoc(cls.parse) or f"How {cls.__name__} reads the reply of the model."
    constraint = learned.constraint
    part = Part("parse", CODE, learned.source.text, about, constraint, learned.check, write, put=put)
    return _Place(owner, path, _word(cls.__name__), part, learned, cls.parse)


def _is_tool(owner: Any) -> bool:
    tools = sys.modules.get("langchain_core.tools.base")  # slow to load, and loaded if there is a tool
    return tools is not None and isinstance(owner, tools.BaseTool)


def _stem(owner: Any, function: Any, slots: tuple[Slot, ...]) -> str:
    """What a function is called: its own name, else the runnable's, else what its place is for."""
    name = getattr(function, "__name__", "<lambda>")
    if name != "<lambda>":
        return _word(name)
    given = getattr(owner, "name", None)
    if given:
        return _word(given)
    kind, which = slots[-1] if slots else ("", "")
    return {"key": _word(str(which)), "condition": "condition"}.get(kind, "function")


def _code(owner: Any, path: tuple[str, ...], stem: str, role: str, attribute: str, terms: Terms) -> _Place | None:
    function = getattr(owner, attribute)
    if _is_langchains(function):
        return None
    learned = functions.learned_function(function, stem, terms)
    copied = lambda_copy if isinstance(owner, RunnableLambda) else model_copy

    def put(runnable: Any, made: Any) -> Any:
        return copied(runnable, **{attribute: made})

    def write(runnable: Any, text: str, plain: bool) -> Any:
        return put(runnable, functions.plain(learned, text) if plain else functions.sandboxed(learned, text, function))

    def check(text: Any) -> None:
        try:
            learned.check(text)
        except CodeError as error:
            if _is_tool(owner) and "Keep its name" in str(error):
                raise CodeError(f"{error} It is a tool: the model calls it as {owner.name!r}.") from error
            raise

    about = inspect.getdoc(function) or f"The function {stem}, a step of the chain."
    part = Part(role, CODE, learned.source.text, about, learned.constraint, check, write, put=put)
    return _Place(owner, path, stem, part, learned, function)


def _names(places: Sequence[_Place]) -> list[str]:
    """A name each, as short as can be while all differ; no name depends on how many steps stand before."""
    ladders = [_ladder(place) for place in places]
    rungs = [0] * len(places)
    while True:
        names = [ladder[rung] for ladder, rung in zip(ladders, rungs, strict=True)]
        counts = Counter(names)
        clashing = [n for n, name in enumerate(names) if counts[name] > 1 and rungs[n] + 1 < len(ladders[n])]
        if not clashing:
            return _numbered(names)
        for number in clashing:
            rungs[number] += 1


def _ladder(place: _Place) -> list[str]:
    """Names from short to long: role, then the roles of the places around, the variables, a hash of the value."""
    short = _dotted((place.stem, place.part.role))
    around = _dotted((*place.path, short))
    telling = _dotted((around, "_".join(map(_word, place.part.names))))
    value = json.dumps(place.part.value, sort_keys=True, ensure_ascii=False, default=repr)
    exact = _dotted((telling, hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:6]))
    return list(dict.fromkeys([short, around, telling, exact]))


def _numbered(names: Sequence[str]) -> list[str]:
    """Names as they are; of several that are the same to the last letter of their values, the later get a number."""
    met: Counter[str] = Counter()
    found = []
    for name in names:
        met[name] += 1
        found.append(name if met[name] == 1 else f"{name}_{met[name]}")
    return found


def _dotted(words: Iterable[str]) -> str:
    return ".".join(word for word in words if word)


def _word(text: str) -> str:
    word = re.sub(r"\W+", "_", text).strip("_") or "part"
    word = f"_{word}" if word[0].isdigit() else word
    return f"{word}_" if keyword.iskeyword(word) else word
