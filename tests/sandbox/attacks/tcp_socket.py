"""Open a TCP socket."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'socket'"


def attack(path):
    import socket

    socket.create_connection(("127.0.0.1", 9))
