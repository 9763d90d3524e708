"""Sleep past the time limit.

In Monty, sleeping takes no time.
"""

WORKER = "SandboxTimeout: The code ran longer"
MONTY = "returns None"
TIMEOUT_S = 0.15


def attack(path):
    import time

    time.sleep(60)
