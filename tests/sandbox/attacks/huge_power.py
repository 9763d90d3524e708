"""Hang in one big multiplication."""

WORKER = "SandboxTimeout: The code ran longer"
MONTY = "SandboxTimeout: The code ran longer"
TIMEOUT_S = 0.15


def attack(path):
    return len(str(9**9**8))
