"""Open a netlink socket."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'socket'"


def attack(path):
    import socket

    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
