"""Import the library that runs the code."""

WORKER = "ModuleNotFoundError: No module named 'trace_adapters'"
MONTY = "ModuleNotFoundError: No module named 'trace_adapters'"


def attack(path):
    import trace_adapters

    return trace_adapters.__path__
