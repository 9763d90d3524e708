"""Examples from a BIG-Bench Hard file or from our own generators, split as in the article."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import dspy

from examples.questions import describe_answers, read_examples, unique
from examples.tasks import TASKS, generate
from trace_adapters import DataError

N_TRAIN, N_VAL = 15, 5  # the article's split; the rest is for the test
N_GENERATED = 250  # as many as a file of BIG-Bench Hard holds


@dataclass(frozen=True)
class Split:
    """One task's examples; no question stands in two of the three lists.

    Attributes:
        task: The name of the generator, or of the file without its ending.
        answer_type: What answers look like, in words, read off the training answers.
        train: For learning.
        val: For choosing.
        test: For nothing but the final measurement.
    """

    task: str
    answer_type: str
    train: list[dspy.Example]
    val: list[dspy.Example]
    test: list[dspy.Example]

    @property
    def majority(self) -> float:
        """Accuracy on the test examples of always giving their most frequent answer."""
        return max(Counter(example.answer for example in self.test).values()) / len(self.test)

    def limited(self, n_test: int) -> Split:
        """The same with the first `n_test` test examples; 0 keeps all.

        Raises:
            DataError: If it is negative.
        """
        if n_test < 0:
            raise DataError(f"The number of test examples must be 0 (all) or more, got {n_test}.")
        return replace(self, test=self.test[: n_test or None])


def load(source: str | Path, *, seed: int | None = None, n_train: int = N_TRAIN, n_val: int = N_VAL) -> Split:
    """Load a task and split it.

    Args:
        source: The name of a generator (`TASKS`), or the path or URL of a BIG-Bench Hard file:
            `{"examples": [{"input": …, "target": …}, …]}`.
        seed: For a generator which examples it draws (None is 0). For a file the order before the split;
            None keeps the file's order, as in the article.
        n_train: How many examples to learn from.
        n_val: How many to choose with.

    Raises:
        DataError: If there is no such task, file or page, or if what is there is no such file.
    """
    name = str(source)
    if name in TASKS:
        return split(generate(name, N_GENERATED, seed or 0), name, n_train=n_train, n_val=n_val)
    examples = read_examples(name)
    if seed is not None:
        random.Random(seed).shuffle(examples)
    return split(examples, PurePosixPath(urlsplit(name).path or name).stem, n_train=n_train, n_val=n_val)


def split(examples: Sequence[Mapping[str, str]], task: str, *, n_train: int = N_TRAIN, n_val: int = N_VAL) -> Split:
    """Split examples in their order; a question that occurs again is left out.

    Raises:
        DataError: If nothing would be left for the test.
    """
    different = unique(examples)
    if n_train < 1 or n_val < 1 or len(different) <= n_train + n_val:
        raise DataError(
            f"The task {task!r} has {len(different)} different examples; {n_train} for training and {n_val} for "
            "validation must each be at least 1 and leave some for the test. Give more or split smaller."
        )
    answer_type = describe_answers([example["target"] for example in different[:n_train]])
    ready = [as_example(example, answer_type) for example in different]
    return Split(task, answer_type, ready[:n_train], ready[n_train : n_train + n_val], ready[n_train + n_val :])


def as_example(example: Mapping[str, str], answer_type: str) -> dspy.Example:
    """One example as DSPy wants it; `question` is the program's input."""
    fields = {"question": example["input"], "answer": example["target"], "answer_type": answer_type}
    return dspy.Example(**fields).with_inputs("question")
