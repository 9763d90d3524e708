"""Open a UNIX socket."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'socket'"


def attack(path):
    import socket

    socket.socket(socket.AF_UNIX)
