"""Raise an exception that runs code where it is read."""

WORKER = "Sly: Sly: <its text cannot be made: SystemExit>"
MONTY = "NotImplementedError: .* class inheritance"


def attack(path):
    class Sly(Exception):
        def __str__(self):
            raise SystemExit

        def __reduce__(self):
            return eval, ("1 / 0",)

    raise Sly(Sly())
