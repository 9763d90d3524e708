"""Kill a process group."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'killpg'"


def attack(path):
    import os

    os.killpg(0, 9)
