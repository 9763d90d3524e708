"""Read a file through pathlib."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "PermissionError: Permission denied"


def attack(path):
    import pathlib

    return pathlib.Path(path).read_text()
