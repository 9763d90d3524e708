"""Import what users have installed."""

WORKER = "ModuleNotFoundError: No module named 'pytest'"
MONTY = "ModuleNotFoundError: No module named 'pytest'"


def attack(path):
    import pytest

    return pytest.__file__
