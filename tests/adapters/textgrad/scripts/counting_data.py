import numpy as np
from textgrad.tasks.base import Dataset


class Numbers(Dataset):
    """Questions with numbers as numpy and pandas give them."""

    def __init__(self, first, size):
        self.items = [(f"I have {n} plums. How many fruits?", np.int64(n)) for n in range(first, first + size)]

    def get_task_description(self):
        return "Count the things."

    def __getitem__(self, index):
        return self.items[index]

    def __len__(self):
        return len(self.items)


def load():
    return Numbers(1, 13), Numbers(20, 4)
