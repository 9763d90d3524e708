"""List the root."""

WORKER = "PermissionError: .*Permission denied"
MONTY = "PermissionError: Permission denied"


def attack(path):
    import os

    return sorted(set(os.listdir("/")) - {"usr", "root", "opt", "home", "lib", "lib64", "dev", "work"})
