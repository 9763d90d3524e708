"""Leave an import hook behind."""

WORKER = "ZeroDivisionError: "
MONTY = "AttributeError: module 'sys' has no attribute 'meta_path'"
THEN = """
def attack(path):
    import csv
    return csv.QUOTE_ALL
"""
THEN_GIVES = "returns 1"


def attack(path):
    import sys

    class Hook:
        def find_spec(self, *args):
            1 / 0

    sys.meta_path[:] = [Hook()]
    import csv
