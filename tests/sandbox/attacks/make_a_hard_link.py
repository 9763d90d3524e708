"""Reach a file by a hard link."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'link'"


def attack(path):
    import os

    os.link(path, path + ".l")
