"""Climb out of the standard library by dots."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "AttributeError: module 'os' has no attribute '__file__'"


def attack(path):
    import os

    return open(os.path.dirname(os.__file__) + "/../../../../../../etc/passwd").read()
