"""Fork."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'fork'"


def attack(path):
    import os

    os.fork()
