"""Become another user."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'setuid'"


def attack(path):
    import os

    os.setuid(1)
