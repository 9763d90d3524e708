"""Trace the host."""

WORKER = "PermissionError: .*ptrace"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes, os

    library = ctypes.CDLL(None, use_errno=True)
    if library.ptrace(16, os.getppid(), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
