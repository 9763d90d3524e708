"""Which software made a study."""

from __future__ import annotations

import platform
import sqlite3
from importlib import metadata

import sqlalchemy


def library_version() -> str:
    """The version of trace-adapters; "unknown" where it runs from a checkout that was never installed."""
    try:
        return metadata.version("trace-adapters")
    except metadata.PackageNotFoundError:
        return "unknown"


def versions() -> dict[str, str]:
    """Name -> version of what results may depend on."""
    return {
        "trace-adapters": library_version(),
        "python": platform.python_version(),
        "sqlalchemy": sqlalchemy.__version__,
        "sqlite": sqlite3.sqlite_version,
    }
