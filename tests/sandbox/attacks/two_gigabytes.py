"""Take two gigabytes."""

WORKER = "MemoryError"
MONTY = "MemoryError"


def attack(path):
    return len("x" * 2 * 10**9)
