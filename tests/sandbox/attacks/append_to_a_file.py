"""Add to a file of the user."""

WORKER = "PermissionError: .*Permission denied"
MONTY = "PermissionError: Permission denied"


def attack(path):
    open(path, "a").write("x")
