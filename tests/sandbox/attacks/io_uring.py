"""Reach the kernel by io_uring."""

WORKER = "PermissionError: .*io_uring_setup"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(425, 8, 0) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
