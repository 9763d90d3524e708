"""argv -> calls, exceptions -> exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from trace_adapters.cli import models, optimize, studies
from trace_adapters.cli.printing import one_line
from trace_adapters.errors import TraceAdaptersError
from trace_adapters.study.versions import library_version

FAILED = 2
INTERRUPTED = 130


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="trace-adapters",
    help="Optimize prompts, code and numbers of programs from their traces.",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
app.command()(optimize.optimize)
app.command()(studies.studies)
app.command()(studies.show)
app.command()(studies.best)
app.add_typer(models.app, name="models")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    _accept_any_text()
    try:
        get_command(app).main([word for word in words if word != "--debug"], prog_name="trace-adapters")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except TraceAdaptersError as error:
        return _tell(error, debug)
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"trace-adapters {library_version()}\n")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from. May stand anywhere.")] = False,
) -> None:
    """Optimize prompts, code and numbers of programs from their traces."""


def _tell(error: TraceAdaptersError, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    else:
        sys.stderr.write(f"trace-adapters: {one_line(str(error))}\n")
    return FAILED


def _accept_any_text() -> None:
    """A text that the terminal cannot show must not end the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
