"""Return more than the host will read."""

WORKER = "ValueError: the result is .* bytes of JSON; at most 8388608"
MONTY = "ValueError: the result is .* bytes of JSON; at most 8388608"


def attack(path):
    return "x" * 9_000_000
