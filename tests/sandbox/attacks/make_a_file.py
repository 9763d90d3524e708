"""Make a new file."""

WORKER = "PermissionError: .*Permission denied"
MONTY = "ValueError: exclusive creation mode is not supported"


def attack(path):
    open(path + ".new", "x")
