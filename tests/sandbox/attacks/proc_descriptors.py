"""Reopen descriptors through /proc."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "PermissionError: Permission denied"


def attack(path):
    import os

    return os.listdir("/proc/self/fd")
