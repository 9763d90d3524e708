"""Print without end."""

WORKER = "SandboxTimeout: The code ran longer"
MONTY = "SandboxTimeout: The code ran longer"
TIMEOUT_S = 0.15


def attack(path):
    while True:
        print("x" * 1000)
