"""What a new text of a prompt template must keep."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from langchain_core.prompts.string import get_template_variables

from trace_adapters import ParameterError

F_STRING, MUSTACHE, JINJA2 = FORMATS = ("f-string", "mustache", "jinja2")

Field = tuple[str, str, str | None]  # of an f-string template: name, format, conversion


def check_text(text: object, base: str) -> str:
    """Give a text back; refuse what is none, or an empty one where there was something.

    Raises:
        ParameterError: With a sentence that says what to do.
    """
    if not isinstance(text, str):
        raise ParameterError(f"Expected a text, got {text!r}.")
    if base.strip() and not text.strip():
        raise ParameterError("The text is empty; keep what it is for.")
    return text


def check_template(new: object, base: str, form: str) -> None:
    """Refuse a text that cannot take the place of a template.

    Args:
        new: The new text.
        base: The template's own.
        form: The format of both, one of `FORMATS`.

    Raises:
        ParameterError: If a variable was dropped or invented, braces are not doubled, another template format is used,
            or a variable does more than it did: formats and conversions stay as they are.
    """
    text = check_text(new, base)
    if form == F_STRING:
        _check_f_string(text, base)
    else:
        known = set(get_template_variables(base, form))
        try:
            found = set(get_template_variables(text, form))
        except Exception as error:  # each format's own parser has errors of its own
            raise ParameterError(f"The template is no valid {form} template: {error}.") from error
        _check_names(text, found, known, form)


def variables(template: str, form: str) -> list[str]:
    """The variables of a template, sorted; none if it cannot be parsed."""
    try:
        return sorted(get_template_variables(template, form))
    except Exception:  # a template that LangChain accepted and would fail on when used
        return []


def written(names: Iterable[str], form: str = F_STRING) -> str:
    """Variables as they are written in a template."""
    return ", ".join("{{" + name + "}}" if form != F_STRING else "{" + name + "}" for name in names)


def constraint(template: str, form: str) -> str:
    """What a new text must satisfy, in words."""
    names = variables(template, form)
    kept = f"Keep each of {written(names, form)}, and no other variable. " if names else "It has no variables. "
    if form != F_STRING:
        return f"A {form} template. {kept}".strip()
    return f"{kept}Write braces that are no variable twice: {{{{ and }}}}."


def _check_f_string(text: str, base: str) -> None:
    known = _fields(base)
    try:
        found = _fields(text)
    except ValueError as error:
        raise ParameterError(
            f"The template's braces do not pair ({error}). Write each variable in one pair of braces, and braces that "
            "are no variable twice: {{ and }}."
        ) from error
    _check_names(text, {name for name, _, _ in found}, {name for name, _, _ in known}, F_STRING)
    strong = [f for f in found if (f[1] or f[2]) and f not in known]
    if strong:
        name, form, conversion = strong[0]
        shown = "{" + name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"
        raise ParameterError(f"The template does more with a variable than before: {shown}. Write only {{{name}}}.")


def _check_names(text: str, found: set[str], known: set[str], form: str) -> None:
    lost = sorted(known - found)
    if lost:
        raise ParameterError(
            f"The template lost {written(lost, form)}; keep every variable: {written(sorted(known), form)}."
            + _other_format(text, lost, form)
        )
    added = sorted(found - known)
    if added:
        allowed = f"There are only {written(sorted(known), form)}" if known else "There are none"
        raise ParameterError(
            f"The template has variables that nothing fills: {written(added, form)}. {allowed}"
            + ("; write braces that are no variable twice: {{ and }}." if form == F_STRING else ".")
        )


def _other_format(text: str, lost: list[str], form: str) -> str:
    """A hint, if a lost variable stands there as another format writes it."""
    doubled = form == F_STRING
    pattern = r"\{\{\s*%s\s*\}\}" if doubled else r"(?<!\{)\{%s\}(?!\})"
    if not any(re.search(pattern % re.escape(name), text) for name in lost):
        return ""
    other = "mustache or jinja2" if doubled else "f-string"
    return f" This is a {form} template, and yours is written in the format {other}: write {written(lost[:1], form)}."


def _fields(text: str) -> list[Field]:
    """The fields of an f-string template; `ValueError` if its braces do not pair."""
    parsed = string.Formatter().parse(text)
    return [(name, form or "", conversion) for _, name, form, conversion in parsed if name is not None]
