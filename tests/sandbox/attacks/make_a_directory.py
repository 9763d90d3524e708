"""Make a directory."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "PermissionError: Permission denied"


def attack(path):
    import os

    os.mkdir(path + ".d")
