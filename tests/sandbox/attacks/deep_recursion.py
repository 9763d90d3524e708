"""Recurse without end."""

WORKER = "RecursionError: maximum recursion depth exceeded"
MONTY = "RecursionError: maximum recursion depth exceeded"


def attack(path):
    def dig(n):
        return dig(n + 1)

    return dig(0)
