"""Walk the frames up to the host."""

WORKER = r"returns \['__main__', 'trace_adapters\.sandbox\.worker', 'trainable'\]"
MONTY = "AttributeError: module 'sys' has no attribute '_getframe'"


def attack(path):
    import sys

    frame, files = sys._getframe(), set()
    while frame is not None:
        files.add(frame.f_globals.get("__name__"))
        frame = frame.f_back
    return sorted(files)  # its own worker, and what started it
