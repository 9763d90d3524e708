"""The one place where a model's reply is read and checked: tagged text in, values or a reason out."""

from __future__ import annotations

import ast
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trace_adapters.errors import ParameterError
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.base import same
from trace_adapters.optimizers.literals import read_literal
from trace_adapters.optimizers.placeholders import check_placeholders

DEFAULT_TAG = "value"
_FENCE = re.compile(r"\A[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)\n?[ \t]*\1[ \t]*\Z", re.DOTALL)
_BLOCK = re.compile(r"^[ \t]*(`{3,})[^\n`]*\n(.*?)^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
_REASONING = re.compile(r"<reasoning>(.*?)</reasoning>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """A reply as it was understood.

    Attributes:
        values: Parameter key -> new value, only what changes; empty if rejected.
        reasoning: The text that stood in `<reasoning>`, or before the first value.
        rejected: Why nothing of the reply is used, or None.
        repeats: Whether that is only because it gives the current values.
    """

    values: dict[str, Any] = field(default_factory=dict)
    reasoning: str = ""
    rejected: str | None = None
    repeats: bool = False


def free_tag(texts: Iterable[str], stem: str = DEFAULT_TAG) -> str:
    """A tag that occurs in none of the texts: `value`, or `value2`, `value3`, …"""
    joined = "\n".join(texts).lower()
    number = 1
    while re.search(rf"</?{stem if number == 1 else f'{stem}{number}'}\b", joined):
        number += 1
    return stem if number == 1 else f"{stem}{number}"


def read_reply(
    text: str,
    names: Mapping[str, Parameter],
    base: Mapping[str, Any],
    *,
    tag: str = DEFAULT_TAG,
    cut_off: bool = False,
    around: Mapping[str, tuple[str, str]] | None = None,
) -> Reading:
    """Read the values that a reply gives in `<value name="…">…</value>`.

    A value reaches from its opening tag to the last closing tag before the next opening one, so that a closing tag
    may stand inside it. All values are used or none.

    Args:
        text: The reply.
        names: The names that were shown to the model -> parameter.
        base: Parameter key -> the value that is to be improved.
        tag: The tag that was asked for; see `free_tag`.
        around: Name -> (text before, text after), where only a part of the value was asked for.
        cut_off: Whether the reply may have stopped at its length limit; then a value that is not closed is not whole.
    """
    reasoning, found, problem = _split(text, names, tag, cut_off)
    if problem:
        return Reading({}, reasoning, problem)
    values: dict[str, Any] = {}
    for name, raw in found.items():
        parameter = names[name]
        if around and name in around:
            before, after = around[name]
            raw = before + raw.strip() + after
        try:
            values[parameter.key] = read_value(raw, parameter, base.get(parameter.key))
        except ParameterError as error:
            return Reading({}, reasoning, f"{name}: {error}")
    changed = {key: value for key, value in values.items() if not same(value, base.get(key))}
    if not changed:
        given = ", ".join(found)
        why = f"The reply changes nothing: the new value of {given} equals the current one."
        return Reading({}, reasoning, why, repeats=True)
    return Reading(changed, reasoning)


def read_value(raw: str, parameter: Parameter, current: Any) -> Any:
    """Turn the text of one tag into a value of the parameter's kind.

    Of a parameter without a check of its own, code must define what it defined, and a text with placeholders must keep
    them; see `check_placeholders`.

    Raises:
        ParameterError: With the reason, if it is none, or the parameter's own check refuses it.
    """
    value = _READERS[parameter.kind](raw, parameter, current)
    if parameter.check is None:  # else it knows better
        if parameter.kind == "code":
            _check_code(value, current)
        elif parameter.kind == "text" and isinstance(current, str):
            check_placeholders(value, current)
    check_value(parameter, value)
    return value


def check_value(parameter: Parameter, value: Any) -> None:
    """Ask the parameter's own check, if it has one.

    Raises:
        ParameterError: With the reason, whatever the check raised.
    """
    if parameter.check is None:
        return
    try:
        parameter.check(value)
    except ParameterError:
        raise
    except Exception as error:  # the check may be the user's
        raise ParameterError(f"{type(error).__name__}: {error}") from error


def unfence(text: str) -> str:
    """The inside of a text that is one fenced block as a whole; any other text as it is."""
    match = _FENCE.match(text.strip())
    return match.group(2) if match else text


def _split(
    text: str, names: Mapping[str, Parameter], tag: str, cut_off: bool
) -> tuple[str, dict[str, str], str | None]:
    """Reasoning, name -> raw text, and what is wrong."""
    said = _REASONING.match(text.strip())
    reasoning = said.group(1).strip() if said else ""
    body = text.strip()[said.end() :] if said else text
    opening = re.compile(rf"""<{tag}\s+name\s*=\s*["']?([^"'<>\n]+?)["']?\s*>""", re.IGNORECASE)
    openings = list(opening.finditer(body))
    if not openings:
        return _without_tags(body, names, reasoning, tag)
    reasoning = reasoning or body[: openings[0].start()].strip()
    wanted = {_plain(name): name for name in [*(p.key for p in names.values()), *names]}
    wanted.update({_plain(p.key): name for name, p in names.items()})
    found: dict[str, str] = {}
    for position, match in enumerate(openings):
        end = openings[position + 1].start() if position + 1 < len(openings) else len(body)
        raw, closed = _until_last(body[match.end() : end], tag)
        name = wanted.get(_plain(match.group(1)))
        if name is None:
            return reasoning, {}, f"There is no variable {match.group(1)!r}; the variables are {', '.join(names)}."
        if not closed and (cut_off or position + 1 < len(openings)):
            why = " (the reply was cut off, perhaps at its length limit; be shorter)" if cut_off else ""
            return reasoning, {}, f"The value of {name} is not closed with </{tag}>{why}."
        found[name] = raw
    return reasoning, found, None


def _without_tags(
    body: str, names: Mapping[str, Parameter], reasoning: str, tag: str
) -> tuple[str, dict[str, str], str | None]:
    blocks = list(_BLOCK.finditer(body))
    if len(names) == 1 and len(blocks) == 1 and next(iter(names.values())).kind == "code":
        return reasoning or body[: blocks[0].start()].strip(), {next(iter(names)): blocks[0].group(2)}, None
    example = next(iter(names))
    problem = (
        f'The reply has no <{tag} name="…"> in it; every new value must stand in a tag like '
        f'<{tag} name="{example}">…</{tag}>.'
    )
    return reasoning or body.strip(), {}, problem


def _until_last(text: str, tag: str) -> tuple[str, bool]:
    closings = list(re.finditer(rf"</{tag}\s*>", text, re.IGNORECASE))
    raw = text[: closings[-1].start()] if closings else text
    return raw, bool(closings)


def _plain(name: str) -> str:
    return name.strip().lower()


def _read_text(raw: str, _: Parameter, current: Any) -> str:
    text = _without_edges(raw)
    if not (isinstance(current, str) and _FENCE.match(current.strip())):
        text = unfence(text)
    if not text.strip() and isinstance(current, str) and current.strip():
        raise ParameterError("The new text is empty.")
    return text


def _without_edges(raw: str) -> str:
    """Without the line breaks that belong to the tags."""
    if raw.startswith(("\n", "\r\n")):
        raw = raw[raw.index("\n") + 1 :]
        return re.sub(r"\r?\n[ \t]*\Z", "", raw)
    return raw


def _read_code(raw: str, _: Parameter, current: Any) -> str:
    blocks = list(_BLOCK.finditer(raw.strip() + "\n"))
    text = blocks[0].group(2) if len(blocks) == 1 else unfence(raw)
    text = textwrap.dedent(text.strip("\n").rstrip()).strip("\n")
    return text + "\n" if isinstance(current, str) and current.endswith("\n") else text


def _read_number(raw: str, _: Parameter, current: Any) -> int | float:
    text = unfence(raw).strip()
    try:
        value = read_literal(text)
    except ValueError:
        raise ParameterError(f"Expected a number alone, got {text!r}.") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ParameterError(f"Expected a number, got {text!r}.")
    if isinstance(current, float):
        return float(value)
    if isinstance(current, int) and isinstance(value, float):
        if not value.is_integer():
            raise ParameterError(f"Expected a whole number, got {text!r}.")
        return int(value)
    return value


def _read_choice(raw: str, parameter: Parameter, _: Any) -> Any:
    text = unfence(raw).strip()
    for form in (text, text.strip("\"'")):
        for choice in parameter.choices:
            if form == str(choice) or form == json.dumps(choice, ensure_ascii=False, default=str):
                return choice
    allowed = ", ".join(repr(choice) for choice in parameter.choices)
    raise ParameterError(f"Expected one of {allowed}, got {text!r}.")


def _read_json(raw: str, _: Parameter, current: Any) -> Any:
    text = unfence(raw).strip()
    if isinstance(current, str) and not text.startswith('"'):
        return _without_edges(raw)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        value = _python_literal(text, error)
    wanted = type(current)
    if current is not None and type(value) is not wanted:
        if wanted is float and type(value) is int:
            return float(value)
        raise ParameterError(f"Expected JSON of type {_type_name(current)}, got {_type_name(value)}: {_short(text)!r}.")
    return value


def _python_literal(text: str, error: Exception) -> Any:
    try:
        return json.loads(json.dumps(read_literal(text), allow_nan=False))
    except (ValueError, TypeError, RecursionError):
        raise ParameterError(f"Expected one JSON value alone ({error}), got {_short(text)!r}.") from None


def _check_code(value: str, current: Any) -> None:
    """The least that holds for code without a check of its own: it parses and defines what was defined before."""
    try:
        new = _defined(value)
    except SyntaxError as error:
        raise ParameterError(f"The source does not parse: {error.msg}, line {error.lineno}: {error.text!r}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ParameterError(f"The source does not parse: {error}. Write plain Python.") from error
    try:
        missing = [name for name in _defined(current)[-1:] if name not in new]
    except (SyntaxError, TypeError, ValueError):
        missing = []
    if missing or not new:
        raise ParameterError(
            f"The source must define {missing[0] if missing else 'a function'}; it defines {new or 'none'}."
        )


def _defined(source: str) -> list[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [statement.name for statement in ast.parse(source).body if isinstance(statement, kinds)]


def _type_name(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "true/false", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_READERS = {
    "text": _read_text,
    "code": _read_code,
    "number": _read_number,
    "choice": _read_choice,
    "json": _read_json,
    "demos": _read_json,
}
