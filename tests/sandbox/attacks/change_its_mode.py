"""Change the rights of a file."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'chmod'"


def attack(path):
    import os

    os.chmod(path, 0o777)
