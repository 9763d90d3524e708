"""Start a process pool."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'concurrent'"


def attack(path):
    import concurrent.futures

    concurrent.futures.ProcessPoolExecutor(1).submit(print).result()
