"""Read the memory of the host."""

WORKER = "PermissionError: .*process_vm_readv"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes, os

    library = ctypes.CDLL(None, use_errno=True)
    if library.process_vm_readv(os.getppid(), None, 0, None, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
