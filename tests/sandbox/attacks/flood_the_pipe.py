"""Write to the pipe without end."""

WORKER = "SandboxError: The code returned more than"
MONTY = "AttributeError: module 'os' has no attribute 'write'"
TIMEOUT_S = 0.15


def attack(path):
    import os

    while True:
        for number in range(3, 10):
            try:
                os.write(number, b"x" * 65536)
            except OSError:
                pass
