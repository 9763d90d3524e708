"""Exit as a program does."""

WORKER = "SystemExit: SystemExit: 0"
MONTY = "RuntimeError: Internal error in monty: exceptions can only be called with zero or one string argument"


def attack(path):
    raise SystemExit(0)
