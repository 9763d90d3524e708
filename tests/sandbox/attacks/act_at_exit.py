"""Act when the process ends."""

WORKER = "returns 'registered'"
MONTY = "ModuleNotFoundError: No module named 'atexit'"


def attack(path):
    import atexit

    class Late:
        def __del__(self):
            open(path + ".late", "w")

    kept = Late()
    attack.kept = kept
    atexit.register(kept.__del__)
    return "registered"
