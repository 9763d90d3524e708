"""Get new rights in a user namespace."""

WORKER = "PermissionError: .*unshare"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
