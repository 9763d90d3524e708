"""Make a file in memory."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'memfd_create'"


def attack(path):
    import os

    os.memfd_create("x")
