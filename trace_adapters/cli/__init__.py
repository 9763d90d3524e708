"""The command `trace-adapters`: optimize a program, look at studies, fetch models."""

from __future__ import annotations

from trace_adapters.cli.app import main as main

__all__ = ["main"]
