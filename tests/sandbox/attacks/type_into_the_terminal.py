"""Type into the terminal of the host."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'fcntl'"


def attack(path):
    import fcntl, termios

    fcntl.ioctl(0, termios.TIOCSTI, b"x")
