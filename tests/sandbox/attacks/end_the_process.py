"""End the process."""

WORKER = "SandboxKilled: The code ended its process with exit status 0"
MONTY = "AttributeError: module 'os' has no attribute '_exit'"


def attack(path):
    import os

    os._exit(0)
