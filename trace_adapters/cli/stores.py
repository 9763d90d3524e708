"""Which store a command means."""

from __future__ import annotations

import os
from typing import Annotated

import typer

DEFAULT_STORE = "sqlite:///study.db"
STORE_VARIABLE = "TRACE_ADAPTERS_STORE"

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL_OR_PATH",
        help=f"Where studies are kept. Default: ${STORE_VARIABLE}, else {DEFAULT_STORE}.",
        show_default=False,
    ),
]


def store_address(given: str | None) -> str:
    """The store that was given, that of the environment, or `study.db` in this directory."""
    return given or os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
