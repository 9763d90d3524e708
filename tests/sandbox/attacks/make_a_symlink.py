"""Reach a file by a symlink."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'symlink'"


def attack(path):
    import os

    os.symlink("/etc/passwd", path + ".l")
    return open(path + ".l").read()
