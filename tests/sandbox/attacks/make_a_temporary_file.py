"""Make a file where everybody may."""

WORKER = "FileNotFoundError: .*No usable temporary directory found"
MONTY = "ModuleNotFoundError: No module named 'tempfile'"


def attack(path):
    import tempfile

    return tempfile.mkstemp()
