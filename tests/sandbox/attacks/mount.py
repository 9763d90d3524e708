"""Mount over a directory."""

WORKER = "PermissionError: .*mount"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"none", b"/", b"tmpfs", 0, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
