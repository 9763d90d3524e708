"""Load a program into the kernel."""

WORKER = "PermissionError: .*bpf"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(321, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "bpf")
