"""What the command prints: tables and colours on a terminal, plain aligned lines elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def clean(text: str) -> str:
    """Show control characters as their codes: a stored value must not steer the user's terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 0) -> str:
    """A text on one line, cut to `limit` characters (0: uncut)."""
    line = " ".join(clean(text).split())
    return line if not limit or len(line) <= limit else line[: limit - 1] + "…"


def number(value: float | None, digits: int = 3) -> str:
    """A score as text; "-" if there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


class Page:
    """Prints to one stream; texts are taken as they are, never as markup.

    Args:
        stream: Default standard output.
        terminal: Whether it is a terminal; asked of the stream by default.
    """

    def __init__(self, stream: TextIO | None = None, *, terminal: bool | None = None) -> None:
        out = stream or sys.stdout
        self._console = Console(file=out, highlight=False, markup=False, emoji=False, force_terminal=terminal)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one text, which may have several lines."""
        if self._console.is_terminal:
            self._console.print(Text(clean(text), style=style))
        else:
            self._console.file.write(clean(text) + "\n")

    def heading(self, text: str) -> None:
        """Print the title of what follows."""
        self.line()
        self.line(text, "bold")

    def diff(self, text: str) -> None:
        """Print a unified diff."""
        for line in text.split("\n"):
            self.line(line, "bold" if line.startswith(("---", "+++")) else _COLOURS.get(line[:1], ""))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> None:
        """Print rows of texts under the names of their columns; those named in `right` are numbers."""
        cells = [[one_line(cell) for cell in row] for row in rows]
        if self._console.is_terminal:
            self._console.print(_rich_table(columns, cells, right))
        else:
            self._console.file.write(_plain_table(columns, cells, right))


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in right else "left", no_wrap=column in right, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> str:
    lines = [columns, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]

    def padded(line: Sequence[str]) -> str:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        return "  ".join(cells).rstrip()

    return "".join(padded(line) + "\n" for line in lines)
