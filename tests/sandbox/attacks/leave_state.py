"""Leave an answer for the next candidate."""

WORKER = "returns None"
MONTY = "AttributeError: 'module' object has no attribute 'answer' and no __dict__ for setting new attributes"
THEN = """
def attack(path):
    import math
    return getattr(math, 'answer', None)
"""
THEN_GIVES = "returns None"


def attack(path):
    import math

    math.answer = 42
