"""Break the modules that the runner stands on."""

WORKER = "SandboxKilled: |SandboxTimeout: "
MONTY = "AttributeError: 'module' object has no attribute 'dumps' and no __dict__ for setting new attributes"
TIMEOUT_S = 0.15
THEN = """
def attack(path):
    import json
    return json.loads(json.dumps([1]))
"""
THEN_GIVES = r"returns \[1\]"


def attack(path):
    import json, os

    json.dumps = json.loads = json.JSONEncoder.encode = None
    os.write = os.read = lambda *a: 1 / 0
