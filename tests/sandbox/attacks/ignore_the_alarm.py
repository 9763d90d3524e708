"""Switch the time limit off and go on."""

WORKER = "SandboxTimeout: The code ran longer"
MONTY = "ModuleNotFoundError: No module named 'signal'"
TIMEOUT_S = 0.15


def attack(path):
    import signal

    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        pass
