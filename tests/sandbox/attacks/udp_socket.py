"""Open a UDP socket."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'socket'"


def attack(path):
    import socket

    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
