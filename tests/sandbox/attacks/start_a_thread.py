"""Start a thread."""

WORKER = "RuntimeError: can't start new thread"
MONTY = "ModuleNotFoundError: No module named 'threading'"


def attack(path):
    import threading

    threading.Thread(target=print).start()
