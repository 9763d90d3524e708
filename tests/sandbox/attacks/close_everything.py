"""Close all descriptors and hang."""

WORKER = "SandboxKilled: |SandboxTimeout: "
MONTY = "AttributeError: module 'os' has no attribute 'closerange'"
TIMEOUT_S = 0.15


def attack(path):
    import os

    os.closerange(0, 99)
    while True:
        pass
