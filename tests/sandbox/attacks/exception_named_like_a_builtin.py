"""Raise a type named like a function of the host."""

WORKER = "open: open: "
MONTY = r"TypeError: type\(\) bases are not supported"


def attack(path):
    kind = type("open", (Exception,), {"__module__": "builtins"})
    raise kind(path)
