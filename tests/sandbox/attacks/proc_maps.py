"""Read the process's own memory map."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "PermissionError: Permission denied"


def attack(path):
    return open("/proc/self/maps").read()
