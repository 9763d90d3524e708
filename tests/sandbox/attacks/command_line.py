"""Read the arguments and the directory."""

WORKER = r"returns \[\['-c'\], '/'\]"
MONTY = r"returns \[\['main\.py'\], '/'\]"


def attack(path):
    import os, sys

    return [sys.argv, os.getcwd()]
