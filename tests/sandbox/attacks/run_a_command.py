"""Run a command."""

WORKER = "PermissionError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'subprocess'"


def attack(path):
    import subprocess

    subprocess.run(["id"], check=True)
