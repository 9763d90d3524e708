"""Read the command line of the host."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "AttributeError: module 'os' has no attribute 'getppid'"


def attack(path):
    import os

    return open(f"/proc/{os.getppid()}/cmdline").read()
