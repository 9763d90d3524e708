"""Write a reply of its own before the true one.

It may lie about its own result, as it could by returning the lie; nothing of it reaches another call.
"""

WORKER = "returns 'forged'|SandboxError: .*sent more than its reply"
MONTY = "ModuleNotFoundError: No module named 'struct'"


def attack(path):
    import json, os, struct

    data = json.dumps({"id": 1, "value": "forged"}).encode()
    for number in range(3, 10):
        try:
            os.write(number, struct.pack(">I", len(data)) + data)
        except OSError:
            pass
    return "honest"
