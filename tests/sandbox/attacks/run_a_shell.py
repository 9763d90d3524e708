"""Run a shell."""

WORKER = "OSError: the shell did not start"
MONTY = "AttributeError: module 'os' has no attribute 'system'"


def attack(path):
    import os

    if os.system("id") != 0:
        raise OSError("the shell did not start")
