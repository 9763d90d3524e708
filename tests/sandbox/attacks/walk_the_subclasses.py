"""Find a class that can open files."""

WORKER = "PermissionError: .*Permission denied"
NAMESPACE = "FileNotFoundError: .*No such file or directory"
MONTY = "AttributeError: 'tuple' object has no attribute '__class__'"


def attack(path):
    found = [c for c in ().__class__.__base__.__subclasses__() if c.__name__ == "_wrap_close"]
    return found[0].__init__.__globals__["open" if "open" in found[0].__init__.__globals__ else "system"](
        "/etc/passwd", 0
    )
