"""Overflow the C stack."""

WORKER = "SandboxKilled: .* killed by SIGSEGV|RecursionError: "  # since Python 3.12, it is caught
MONTY = "AttributeError: module 'sys' has no attribute 'setrecursionlimit'"


def attack(path):
    import sys

    sys.setrecursionlimit(10**6)
    value, other = [], []
    for _ in range(200_000):
        value, other = [value], [other]
    return value == other
