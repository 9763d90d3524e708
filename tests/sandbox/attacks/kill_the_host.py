"""Kill the host."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'getppid'"


def attack(path):
    import os

    os.kill(os.getppid(), 9)
