"""Search the heap for the host's objects."""

WORKER = r"returns \[\]"
MONTY = "ModuleNotFoundError: No module named 'gc'"


def attack(path):
    import gc

    return sorted({type(o).__name__ for o in gc.get_objects()} & {"SandboxPool", "Worker", "Study", "SandboxCall"})
