"""Kill every process."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'kill'"


def attack(path):
    import os

    os.kill(-1, 9)
