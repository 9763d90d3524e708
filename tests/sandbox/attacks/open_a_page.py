"""Open a page."""

WORKER = "URLError: .*Operation not permitted"
MONTY = "ModuleNotFoundError: No module named 'urllib'"


def attack(path):
    import urllib.request

    urllib.request.urlopen("http://127.0.0.1:9")
