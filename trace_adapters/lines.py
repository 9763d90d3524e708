"""The lines of a source, as Python counts them."""

from __future__ import annotations


def split_lines(text: str) -> list[str]:
    """Split where Python's line numbers count a line."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def annotate(text: str, place: tuple[int, str] | None, message: str) -> str:
    """Write `message` beside the failing line: `    x = a[1]   # <--- IndexError: list index out of range`.

    A place of None, or one outside of the text, gives the text unchanged.
    """
    lines = split_lines(text)
    if place is None or not 1 <= place[0] <= len(lines):
        return text
    index = place[0] - 1
    lines[index] = f"{lines[index].rstrip()}   # <--- {' '.join(message.split())}"
    return "\n".join(lines)
