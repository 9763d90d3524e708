"""Read a file of the user."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "PermissionError: Permission denied"


def attack(path):
    return open(path).read()
