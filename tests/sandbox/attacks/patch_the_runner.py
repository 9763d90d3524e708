"""Break the runner's own objects."""

WORKER = "SandboxTimeout: |SandboxKilled: "
MONTY = "AttributeError: module 'sys' has no attribute '_getframe'"
TIMEOUT_S = 0.15


def attack(path):
    import sys

    frame = sys._getframe(1)
    frame.f_locals["self"]._channel._sink = 1
