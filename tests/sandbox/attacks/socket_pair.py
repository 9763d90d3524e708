"""Make a socket pair."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'socket'"


def attack(path):
    import socket

    socket.socketpair()
