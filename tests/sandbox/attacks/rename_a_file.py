"""Rename a file."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "PermissionError: Permission denied"


def attack(path):
    import os

    os.rename(path, path + ".old")
