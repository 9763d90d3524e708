"""Map two gigabytes past the allocator."""

WORKER = r"OSError: \[Errno 12\] Cannot allocate memory"
MONTY = "ModuleNotFoundError: No module named 'mmap'"


def attack(path):
    import mmap

    mmap.mmap(-1, 2 * 10**9)
