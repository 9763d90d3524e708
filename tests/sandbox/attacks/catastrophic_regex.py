"""Hang in a regular expression, which holds the interpreter.

Monty's regular expressions do not hang.
"""

WORKER = "SandboxTimeout: The code ran longer"
MONTY = "returns None"
TIMEOUT_S = 0.15


def attack(path):
    import re

    return re.match("(a+)+$", "a" * 40 + "b")
