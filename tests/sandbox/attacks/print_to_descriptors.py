"""Write a reply to standard output past Python."""

WORKER = "returns 'honest'"
MONTY = "AttributeError: module 'os' has no attribute 'write'"


def attack(path):
    import os

    os.write(1, b"\x00\x00\x00\x02{}")
    os.write(2, b"x")
    return "honest"
