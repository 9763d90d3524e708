"""Find descriptors that the host left open."""

WORKER = "returns 5"
MONTY = "AttributeError: module 'os' has no attribute 'fstat'"


def attack(path):
    import os

    found = 0
    for number in range(32):
        try:
            os.fstat(number)
        except OSError:
            continue
        found += 1
    return found  # three at the null device, one in, one out
