"""Break the builtins of the next candidate."""

WORKER = "SandboxKilled: "
MONTY = "ModuleNotFoundError: No module named 'builtins'"
THEN = """
def attack(path):
    return len('ab')
"""
THEN_GIVES = "returns 2"


def attack(path):
    import builtins

    builtins.len = builtins.isinstance = builtins.open = None
