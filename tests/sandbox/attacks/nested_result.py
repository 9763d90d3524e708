"""Return a value that is nested too deeply for the host's reader."""

WORKER = "TypeError: a value that is cyclic or nested too deeply cannot leave the sandbox"
MONTY = "TypeError: a value that is cyclic or nested too deeply cannot leave the sandbox"


def attack(path):
    value = []
    for _ in range(100_000):
        value = [value]
    return value
