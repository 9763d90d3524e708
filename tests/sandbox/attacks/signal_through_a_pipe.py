"""Let the pipe signal the host."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'fcntl'"


def attack(path):
    import fcntl, os

    for number in range(9):
        try:
            os.fstat(number)
        except OSError:
            continue
        fcntl.fcntl(number, fcntl.F_SETOWN, os.getppid())
