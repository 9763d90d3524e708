"""The measured cells as a table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from examples.accuracy import Accuracy
from examples.textgrad_eval.engines import UPDATE

HEADER = (
    "| stage, task | method | right (95 % interval) | updates: tried, changed, failed | update calls "
    "| their tokens in / out | update s | all s |\n|---|---|---|---|---|---|---|---|"
)


def write_table(cells: Sequence[dict[str, Any]]) -> str:
    """One row a cell, several seeds of a cell together."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["stage"], cell["task"], cell["method"]), []).append(cell)
    return "\n".join([HEADER, *(_row(*name, group) for name, group in groups.items())])


def _row(stage: str, task: str, method: str, cells: Sequence[dict[str, Any]]) -> str:
    accuracy = Accuracy(sum(cell["right"] for cell in cells), sum(cell["n"] for cell in cells))
    low, high = accuracy.interval
    tried, changed = (sum(cell[name] for cell in cells) for name in ("updates", "changed"))
    failed = sum(len(cell["failures"]) for cell in cells)
    calls = sum(cell["calls"].get(UPDATE, 0) for cell in cells)
    read, written = (sum(cell["tokens"].get(UPDATE, (0, 0))[place] for cell in cells) for place in (0, 1))
    seconds = [round(sum(cell[name] for cell in cells)) for name in ("update_s", "wall_s")]
    right = f"{accuracy.right}/{accuracy.n} = {accuracy.value:.2f} ({low:.2f} to {high:.2f})"
    return (
        f"| {stage}, {task} ({cells[0]['source']}) | {method} | {right} | {tried}, {changed}, {failed} | {calls} "
        f"| {read:,} / {written:,} | {seconds[0]} | {seconds[1]} |"
    )
