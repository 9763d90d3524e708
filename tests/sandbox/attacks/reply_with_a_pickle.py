"""Reply with a pickle that runs code."""

WORKER = r"SandboxError: The sandbox process sent what is no message: Expecting value: line 1 column 1 \(char 0\)\."
MONTY = "AttributeError: 'int' object has no attribute 'to_bytes'"


def attack(path):
    import os

    data = b"cos\nsystem\n(S'id'\ntR."
    for number in range(3, 10):
        try:
            os.write(number, len(data).to_bytes(4, "big") + data)
        except OSError:
            pass
