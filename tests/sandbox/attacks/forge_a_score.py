"""Return a feedback object as its own judge."""

WORKER = "TypeError: a value of type .*Feedback cannot leave the sandbox"
MONTY = "TypeError: a value of type .*Feedback cannot leave the sandbox"


def attack(path):
    class Feedback:
        score = 1.0
        text = "perfect"

    return Feedback()
