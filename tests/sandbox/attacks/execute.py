"""Become another program."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'execv'"


def attack(path):
    import os

    os.execv("/bin/sh", ["sh"])
