"""Ask which files there are.

Without a namespace, that a file is there can be seen, but nothing of what is in it.
"""

WORKER = "returns True"
NAMESPACE = "returns False"
MONTY = "PermissionError: Permission denied"


def attack(path):
    import os

    return os.path.exists(path)
