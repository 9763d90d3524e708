"""Leave the root by another one."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "AttributeError: module 'os' has no attribute 'chroot'"


def attack(path):
    import os

    os.chroot("/")
