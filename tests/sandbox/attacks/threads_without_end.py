"""Start threads without end."""

WORKER = "RuntimeError: can't start new thread"
MONTY = "ModuleNotFoundError: No module named 'threading'"


def attack(path):
    import threading

    while True:
        threading.Thread(target=threading.Event().wait).start()
