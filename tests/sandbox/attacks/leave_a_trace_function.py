"""Watch the next candidate."""

WORKER = "ZeroDivisionError: division by zero"
MONTY = "AttributeError: module 'sys' has no attribute 'settrace'"
TIMEOUT_S = 0.5
THEN = """
def attack(path):
    return [1]
"""
THEN_GIVES = r"returns \[1\]"


def attack(path):
    import sys

    sys.settrace(lambda *a: 1 / 0)
    sys.setprofile(lambda *a: 1 / 0)
