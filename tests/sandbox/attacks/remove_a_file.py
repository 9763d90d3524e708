"""Remove a file."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "PermissionError: Permission denied"


def attack(path):
    import os

    os.unlink(path)
