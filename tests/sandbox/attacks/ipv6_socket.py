"""Open an IPv6 socket."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'socket'"


def attack(path):
    import socket

    socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
