"""Ask the host for a function that was not declared."""

WORKER = r"SandboxError: The code called 'eval', which uses= does not declare\."
MONTY = "ModuleNotFoundError: No module named 'struct'"


def attack(path):
    import json, os, struct

    data = json.dumps({"id": 1, "callback": "eval", "args": ["1"], "kwargs": {}}).encode()
    for number in range(3, 10):
        try:
            os.write(number, struct.pack(">I", len(data)) + data)
        except OSError:
            pass
