"""Read the list of users."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "PermissionError: Permission denied"


def attack(path):
    return open("/etc/passwd").read()
