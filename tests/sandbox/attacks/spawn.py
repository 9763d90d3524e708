"""Start another program."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'posix_spawn'"


def attack(path):
    import os

    os.posix_spawn("/bin/sh", ["sh"], {})
