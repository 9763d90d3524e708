"""Raise the resource limits again."""

WORKER = "ValueError: not allowed to raise maximum limit"
MONTY = "ModuleNotFoundError: No module named 'resource'"


def attack(path):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))
