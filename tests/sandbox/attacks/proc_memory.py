"""Write the process's own memory."""

WORKER = "PermissionError: .*Permission denied"
MONTY = r"ValueError: update modes \('\+'\) are not yet supported"


def attack(path):
    return open("/proc/self/mem", "r+b")
