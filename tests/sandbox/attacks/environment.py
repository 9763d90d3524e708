"""Read the environment."""

WORKER = r"returns \[\]"
MONTY = r"RuntimeError: 'os\.environ' is not supported in this environment"


def attack(path):
    import os

    return sorted(os.environ.keys() - {"PYTHONHASHSEED", "LC_CTYPE", "PWD"})
