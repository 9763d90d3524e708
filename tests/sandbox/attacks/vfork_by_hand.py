"""Fork past Python."""

WORKER = "PermissionError: .*vfork"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.vfork() < 0:
        raise OSError(ctypes.get_errno(), "vfork")
