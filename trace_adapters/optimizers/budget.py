"""Texts that may be shortened until a prompt fits its token budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from trace_adapters.lm.messages import count_tokens
from trace_adapters.showing import repr_of, str_of
from trace_adapters.traces import error_name

SHORTEST = 120
WHOLE = 1_200  # characters (some hundred tokens) up to which feedback is never cut
MESSAGE = 400  # characters of an error's message where it only marks a line


class Cuttable:
    """A value on a line of its own, of which the middle may be left out.

    Args:
        prefix: What stands before the value on its line; never cut.
        text: The value as text.
        distance: Steps to the judged output; the farthest is cut first.
        quoted: Write the text as a JSON string.
    """

    def __init__(self, prefix: str, text: str, distance: int, *, quoted: bool) -> None:
        self.prefix = prefix
        self.text = text
        self.distance = distance
        self.keep = len(text)
        self._quoted = quoted

    def __str__(self) -> str:
        text = cut_middle(self.text, self.keep)
        return self.prefix + (json.dumps(text, ensure_ascii=False) if self._quoted else text)


class Said(Cuttable):
    """Feedback: whole if there is room, else cut to its fair share; never below `WHOLE` characters."""

    def __init__(self, text: str) -> None:
        super().__init__("", text, -1, quoted=False)


def show_value(value: Any) -> tuple[str, bool]:
    """A value as text, and whether it is to be quoted: JSON where the value has one, else its `repr`."""
    if isinstance(value, str):
        return value, True
    if isinstance(value, BaseException):
        return error_line(value), False
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False), False
    except (TypeError, ValueError, RecursionError):
        return " ".join(repr_of(value).split()), False


def error_line(error: BaseException) -> str:
    """`IndexError: list index out of range`, also of an error read back from a recorded trace."""
    message = " ".join(str_of(error).split())
    name = error_name(error)
    return f"{name}: {message}" if message else name


def cut_middle(text: str, keep: int) -> str:
    """The first and last characters of a text, about `keep` in all, and how many were left out."""
    if len(text) <= max(keep, SHORTEST // 2):
        return text
    head = (keep + 1) // 2
    tail = keep - head
    left_out = len(text) - head - tail
    return f"{text[:head]} … [{left_out:,} characters left out] … {text[len(text) - tail :] if tail else ''}"


def shorten(pieces: Iterable[str | Cuttable], max_tokens: int) -> bool:
    """Cut pieces until they fit as lines; whether they do.

    First the values, farthest from the output first. If that is not enough, the longest feedback gives way until
    half of what can be cut is left to the values.
    """
    pieces = list(pieces)
    values = [piece for piece in pieces if isinstance(piece, Cuttable) and not isinstance(piece, Said)]
    said = [piece for piece in pieces if isinstance(piece, Said)]
    total = _tokens(pieces)
    if _shorten_values(values, total, max_tokens):
        return True
    if all(piece.keep <= WHOLE for piece in said):
        return False
    for value in values:
        value.keep = len(value.text)
    room = max_tokens - (total - _tokens(said) - _tokens(values))
    _share(said, max(room // 2, room - _tokens(values)))
    return _shorten_values(values, _tokens(pieces), max_tokens)


def _tokens(pieces: Iterable[str | Cuttable]) -> int:
    return sum(count_tokens(f"{piece}\n") for piece in pieces)


def _share(said: Sequence[Said], max_tokens: int) -> None:
    """Cut the longest texts to one length, the largest with which all fit, if `WHOLE` is not too much."""
    low, high = WHOLE, max(len(piece.text) for piece in said)
    while low < high:
        length = (low + high + 1) // 2
        for piece in said:
            piece.keep = min(length, len(piece.text))
        low, high = (length, high) if _tokens(said) <= max_tokens else (low, length - 1)
    for piece in said:
        piece.keep = min(low, len(piece.text))


def _shorten_values(values: Sequence[Cuttable], total: int, max_tokens: int) -> bool:
    for shortest in (SHORTEST, SHORTEST // 2):
        for piece in sorted(values, key=lambda piece: (-piece.distance, -len(piece.text))):
            if total <= max_tokens:
                return True
            if piece.keep > shortest:
                total -= _cut(piece, shortest, total - max_tokens)
    return total <= max_tokens


def _cut(piece: Cuttable, shortest: int, excess: int) -> int:
    """Cut one value as little as saves `excess` tokens, if that is possible, and return what was saved."""
    before = count_tokens(str(piece))
    low, high = shortest, piece.keep
    while low < high:
        piece.keep = (low + high + 1) // 2
        if before - count_tokens(str(piece)) >= excess:
            low = piece.keep
        else:
            high = piece.keep - 1
    piece.keep = low
    return before - count_tokens(str(piece))
