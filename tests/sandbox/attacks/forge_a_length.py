"""Claim that the reply is huge."""

WORKER = r"SandboxError: The code returned more than 8388608 bytes\. Return less\."
MONTY = "AttributeError: module 'os' has no attribute 'write'"


def attack(path):
    import os

    for number in range(3, 10):
        try:
            os.write(number, b"\xff" * 8)
        except OSError:
            pass
