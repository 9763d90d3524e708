"""Write a reply for the call that comes next."""

WORKER = r"SandboxError: The sandbox process sent a reply that was not asked for; it was stopped\."
MONTY = "ModuleNotFoundError: No module named 'struct'"


def attack(path):
    import json, os, struct

    data = json.dumps({"id": 2, "value": "forged"}).encode()
    for number in range(3, 10):
        try:
            os.write(number, struct.pack(">I", len(data)) + data)
        except OSError:
            pass
    return "honest"
