"""Read at address zero."""

WORKER = "SandboxKilled: .* killed by SIGSEGV"
MONTY = "ModuleNotFoundError: No module named 'ctypes'"


def attack(path):
    import ctypes

    return ctypes.string_at(0)
