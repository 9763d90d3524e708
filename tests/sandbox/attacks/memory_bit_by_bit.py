"""Take memory in small pieces."""

WORKER = "MemoryError"
MONTY = "MemoryError"


def attack(path):
    kept = []
    while True:
        kept.append("x" * 1_000_000 + str(len(kept)))
