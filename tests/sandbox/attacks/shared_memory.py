"""Share memory with other processes."""

WORKER = "PermissionError: .*Permission denied"
MONTY = "ModuleNotFoundError: No module named 'multiprocessing'"


def attack(path):
    from multiprocessing import shared_memory

    shared_memory.SharedMemory(create=True, size=9)
