"""Cut a file off."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'truncate'"


def attack(path):
    import os

    os.truncate(path, 0)
