"""The placeholders of texts that programs fill with `str.format`, and what a new text may do with them."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from trace_adapters.errors import ParameterError

_NAMED = re.compile(r"[^\W\d]\w*(?:[.\[].*)?", re.DOTALL)
_NAMED_OR_COUNTED = re.compile(r"\w*(?:[.\[].*)?", re.DOTALL)

Field = tuple[str, str, str | None]  # what stands before the colon, the format, the conversion


def check_placeholders(text: str, current: str) -> None:
    """Refuse a text that cannot take the place of the current one in `current.format(...)`.

    A current text with named placeholders (`{question}`) and no other braces, unless doubled, is a template: a new
    one has the same placeholders, none else, and no braces that do not pair. What a placeholder may do beside standing
    for its value (attributes, indexes, conversions, formats: `{question:>1000000000}` is a text of a gigabyte) only
    those do that do the same in the current text. In other texts braces are free, but for such powers of `{}` and
    `{0}` if the current text has them.

    Raises:
        ParameterError: With a sentence that says what to do.
    """
    known = _fields(current) or []
    if not known or not all(_NAMED_OR_COUNTED.fullmatch(name) for name, _, _ in known):
        return
    is_template = any(_NAMED.fullmatch(name) for name, _, _ in known)
    found = _fields(text)
    if found is None:
        if not is_template:
            return
        raise ParameterError(
            "The braces of the new text do not pair. Write each placeholder in one pair of braces "
            f"({_shown(known)}), and braces that are no placeholder twice: {{{{ and }}}}."
        )
    if is_template:
        _check_names(found, known)
    strong = [field for field in found if field not in known and _does_more(field)]
    if strong:
        raise ParameterError(
            f"The new text does more with a placeholder than the current one: {_shown(strong)}. Write placeholders "
            f"as they were: {_shown(known)}."
        )


def _check_names(found: list[Field], known: list[Field]) -> None:
    kept, names = {name for name, _, _ in found}, {name for name, _, _ in known}
    lost = [field for field in known if field[0] not in kept]
    if lost:
        raise ParameterError(f"The new text lost {_shown(lost)}. Keep every placeholder: {_shown(known)}.")
    added = [field for field in found if field[0] not in names]
    if added:
        raise ParameterError(
            f"The new text has placeholders that nothing fills: {_shown(added)}. Use only {_shown(known)}, and write "
            "braces that are no placeholder twice: {{ and }}."
        )


def _fields(text: str) -> list[Field] | None:
    """The placeholders of a text, in order; None if its braces do not pair."""
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError:
        return None
    return [(name, form or "", conversion) for _, name, form, conversion in parsed if name is not None]


def _does_more(field: Field) -> bool:
    name, form, conversion = field
    inside = "." in name or "[" in name
    return bool(_NAMED_OR_COUNTED.fullmatch(name)) and bool(inside or form or conversion)


def _shown(fields: Iterable[Field]) -> str:
    """The placeholders as they are written, each once."""
    texts = (
        "{" + name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"
        for name, form, conversion in fields
    )
    return ", ".join(dict.fromkeys(texts))
