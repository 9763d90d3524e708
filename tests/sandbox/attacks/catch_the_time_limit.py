"""Catch the end of the time and go on."""

WORKER = "SandboxTimeout: The code ran longer"
MONTY = "SandboxTimeout: The code ran longer"
TIMEOUT_S = 0.15


def attack(path):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
