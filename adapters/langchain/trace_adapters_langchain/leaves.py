"""What is known of a runnable that has no others inside: what it reads, lets through, and is called."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableLambda, RunnablePassthrough, RunnablePick

from trace_adapters.extend import Operation, SourceCode, error_place
from trace_adapters_langchain.chains import is_plain, shape_of
from trace_adapters_langchain.flows import Fields, Flow, Items
from trace_adapters_langchain.functions import source_text
from trace_adapters_langchain.parameters import Found
from trace_adapters_langchain.parts import read_variables
from trace_adapters_langchain.reads import items_read, runs_nothing
from trace_adapters_langchain.recording import RecordedRun, TracedChain

_REPORTING = ("langchain", "langgraph", "trace_adapters_langchain")
_cached_items = lru_cache(maxsize=1024)(items_read)
_cached_calls = lru_cache(maxsize=1024)(runs_nothing)
_texts: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()


@dataclass(frozen=True)
class Source:
    """The source in force of a function.

    Attributes:
        text: As optimizers see it.
        code: Where it stands in the user's file, if that is what ran.
        function: The user's own function, if that is what ran.
    """

    text: str
    code: SourceCode | None = None
    function: Any = None


def reports_itself(runnable: Any) -> bool:
    """Whether each call of a runnable is a run of its own; an unknown one is taken to be."""
    if runnable is None or isinstance(runnable, TracedChain):
        return True
    return _reports(type(runnable))


@lru_cache(maxsize=512)
def _reports(cls: type) -> bool:
    invoke = getattr(cls, "invoke", None)
    return str(getattr(invoke, "__module__", "")).partition(".")[0].startswith(_REPORTING)


def makes_one_run(runnable: Any) -> bool:
    """Whether one call of a runnable, or of what it is bound to, is one run."""
    while True:
        shape = shape_of(runnable)
        if shape is None or shape.kind not in ("binding", "dynamic", "router"):
            return reports_itself(runnable)
        if shape.kind != "binding":
            return all(map(makes_one_run, shape.read(runnable).values()))
        runnable = shape.read(runnable)["bound", ""]


def prepared(runnable: Any, config: Any) -> Any:
    """The runnable that a configurable one stands for under a config."""
    try:
        chosen, _ = runnable.prepare(config)
    except Exception:  # the run itself has failed the same way
        return runnable.default
    parts = shape_of(runnable).read(runnable).values()  # type: ignore[union-attr]
    return chosen if any(chosen is part for part in parts) else runnable.default


def passed_through(runnable: Any, flow: Flow) -> Flow | None:
    """What a runnable gives that only hands on its input, or items of it; None for any other."""
    if is_plain(runnable, RunnablePassthrough):
        return flow if getattr(runnable, "func", None) is None and getattr(runnable, "afunc", None) is None else None
    if is_plain(runnable, RunnablePick):
        keys = runnable.keys
        return flow.field(keys) if isinstance(keys, str) else Fields({key: flow.field(key) for key in keys})
    function = getattr(runnable, "func", None) if is_plain(runnable, RunnableLambda) else None
    if isinstance(function, itemgetter):
        keys = function.__reduce__()[1]
        if all(isinstance(key, str) for key in keys):
            return flow.field(keys[0]) if len(keys) == 1 else Items([flow.field(key) for key in keys])
    return None


def keys_read(runnable: Any, sources: Mapping[int, Source]) -> list[str] | None:
    """The items of its input that a prompt or function reads; None if it may read anything."""
    if runnable is None:
        return None
    if isinstance(runnable, RunnableLambda):
        return _read_by_functions(runnable, sources)
    if type(runnable).__module__.startswith("langchain_core.prompts") and not _selects(runnable):
        return read_variables(runnable)
    return None


def only_chooses(runnable: Any, sources: Mapping[int, Source]) -> bool:
    """Whether what ran inside a function is a chain that it returned, and not one that it called."""
    texts = _texts_of(runnable, sources) if isinstance(runnable, RunnableLambda) else []
    return bool(texts) and all(text is not None and _cached_calls(text) for text in texts)


def _texts_of(runnable: Any, sources: Mapping[int, Source]) -> list[str | None]:
    functions = [getattr(runnable, name) for name in ("func", "afunc") if getattr(runnable, name, None) is not None]
    known = sources.get(id(runnable))
    return [known.text] if known is not None and len(functions) == 1 else [_text(one) for one in functions]


def _read_by_functions(runnable: Any, sources: Mapping[int, Source]) -> list[str] | None:
    found: set[str] = set()
    for text in _texts_of(runnable, sources):
        keys = None if text is None else _cached_items(text)
        if keys is None:
            return None
        found |= keys
    return sorted(found)


def items_read_by(function: Any) -> list[str] | None:
    """The items of its first argument that a function reads; None if it may read any."""
    text = _text(function)
    keys = None if text is None else _cached_items(text)
    return None if keys is None else sorted(keys)


def _text(function: Any) -> str | None:
    try:
        if function not in _texts:
            _texts[function] = source_text(function)
        return _texts[function]
    except TypeError:  # no weak reference can be made to it, so it is no Python function
        return None


def _selects(prompt: Any) -> bool:
    """Whether a prompt chooses examples by its whole input."""
    if getattr(prompt, "example_selector", None) is not None:
        return True
    inner = [*getattr(prompt, "messages", ()), getattr(prompt, "prompt", None)]
    return any(_selects(one) for one in inner if one is not None and not isinstance(one, (str, list)))


def operation(run: RecordedRun, runnable: Any, sources: Mapping[int, Source]) -> Operation:
    """What to call a run in a trace."""
    name, about = run.name, ""
    source = sources.get(id(runnable))
    if source is not None:
        defined = re.search(r"^(?:async )?def (\w+)", source.text, re.MULTILINE)
        name = defined[1] if defined and isinstance(runnable, RunnableLambda) else name
        about = (getattr(source.function, "__doc__", None) or "").strip()
    words = re.sub(r"\W+", "_", name).strip("_") or run.kind
    return Operation(words, about, language_model=run.kind == "model")


def own_sources(found: Iterable[Found]) -> dict[int, Source]:
    """`id` of a runnable -> its own source, also of functions that are not trained."""
    sources: dict[int, Source] = {}
    for one in found:
        if one.source is not None:
            code = None if getattr(one.function, "__name__", "") == "<lambda>" else one.source.source
            sources.setdefault(id(one.owner), Source(one.part.value, code, one.function))
    return sources


def place_of_error(error: BaseException, source: Source | None) -> tuple[int, str] | None:
    """The line of a function's source at which it failed."""
    if source is None:
        return error_place(error)
    found = error_place(error, source.code or source.text)
    if found is None and source.function is not None and source.code is None:  # a lambda: its body is line 2
        code, current = getattr(source.function, "__code__", None), error.__traceback__
        while current is not None:
            if current.tb_frame.f_code is code:
                lines = source.text.splitlines()
                return (2, lines[1]) if len(lines) > 1 else None
            current = current.tb_next
    return found


def differs(one: Any, other: Any) -> bool:
    """Whether two recorded inputs are certainly not the same."""
    if one is None or type(one) is not type(other):
        return one is not None
    try:
        return not bool(one == other)
    except Exception:  # what cannot be compared may be the same
        return False


def is_same(recorded: Any, error: BaseException) -> bool:
    """Whether an exception is a recorded one, or was raised because of it."""
    current: BaseException | None = error
    for _ in range(20):
        if current is None:
            return False
        if current is recorded:
            return True
        current = current.__cause__ or current.__context__
    return False


def shown(value: Any) -> Any:
    """A value as readers of a trace see it: messages and prompts as text or plain mappings."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind is list:
        return [shown(item) for item in value]
    if kind is tuple:
        return tuple(shown(item) for item in value)
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    for module, name, show in _SHOWN:
        loaded = sys.modules.get(module)
        if loaded is not None and isinstance(value, getattr(loaded, name)):
            return show(value)
    return value


def _show_message(message: Any) -> Any:
    calls = getattr(message, "tool_calls", None)
    if not calls and isinstance(message.content, str):
        return message.content
    plain = {"role": message.type, "content": message.content}
    return {**plain, "tool_calls": [{"name": c["name"], "args": c["args"]} for c in calls]} if calls else plain


def _show_command(command: Any) -> Any:
    return shown(command.update)


def _show_document(document: Any) -> Any:
    return {"page_content": document.page_content, "metadata": document.metadata}


_SHOWN = (
    ("langchain_core.messages", "BaseMessage", _show_message),
    ("langchain_core.prompt_values", "PromptValue", lambda value: value.to_string()),
    ("langchain_core.documents", "Document", _show_document),
    ("langgraph.types", "Command", _show_command),
)
