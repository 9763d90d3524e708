"""Read a file past the io module."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "AttributeError: module 'os' has no attribute 'O_RDONLY'"


def attack(path):
    import os

    return os.read(os.open(path, os.O_RDONLY), 99)
