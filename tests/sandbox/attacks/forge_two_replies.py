"""Write a reply of its own with one for the next call behind it, at once."""

WORKER = r"SandboxError: The sandbox process sent more than its reply; it was stopped\."
MONTY = "ModuleNotFoundError: No module named 'struct'"


def attack(path):
    import json, os, struct

    forged = b""
    for number in (1, 2):
        data = json.dumps({"id": number, "value": "forged"}).encode()
        forged += struct.pack(">I", len(data)) + data
    for number in range(3, 10):
        try:
            os.write(number, forged)
        except OSError:
            pass
    return "honest"
