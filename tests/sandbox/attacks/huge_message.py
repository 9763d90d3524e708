"""Raise with a huge message."""

WORKER = "ValueError: x{4000}$"
MONTY = "ValueError: x{4000}$"


def attack(path):
    raise ValueError("x" * 9_000_000)
