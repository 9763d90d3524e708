"""Questions as LangChain users have them: a list of dicts, split for learning, choosing and measuring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from examples.questions import describe_answers, read_examples, unique
from examples.tasks import TASKS, generate
from trace_adapters import DataError

N_TRAIN, N_VAL, N_TEST = 15, 8, 30
Row = dict[str, str]


@dataclass(frozen=True)
class Split:
    """One task's rows, `{"question", "answer"}`; no question stands in two of the three lists.

    Attributes:
        task: The generator's name, or that of the file.
        train: For learning.
        val: For choosing.
        test: For nothing but the final measurement.
    """

    task: str
    train: list[Row]
    val: list[Row]
    test: list[Row]

    @property
    def answers(self) -> str:
        """What answers look like, in words."""
        return describe_answers([row["answer"] for row in self.train])

    @property
    def majority(self) -> float:
        """Accuracy on the test rows of always giving their most frequent answer."""
        return max(Counter(row["answer"] for row in self.test).values()) / len(self.test)


def load(source: str, seed: int = 0) -> Split:
    """Load a task and split it.

    Args:
        source: A generated task (`examples.tasks.TASKS`), or the path or URL of a file of BIG-Bench Hard
            (.json) or of GSM8K (.jsonl).
        seed: Of a generator; a file keeps its order.

    Raises:
        DataError: If there is no such task, file or page, or if it holds too few questions.
    """
    wanted = N_TRAIN + N_VAL + N_TEST
    if source in TASKS:
        return split(generate(source, wanted, seed), source)
    return split(read_examples(source), PurePosixPath(urlsplit(source).path or source).stem)


def split(examples: Sequence[Row], task: str) -> Split:
    """Split `{"input", "target"}` examples in their order.

    Raises:
        DataError: If nothing would be left for the test.
    """
    different = unique(examples)
    if len(different) <= N_TRAIN + N_VAL:
        raise DataError(
            f"The task {task!r} has {len(different)} different questions; {N_TRAIN + N_VAL + 1} are needed."
        )
    rows = [{"question": example["input"], "answer": example["target"]} for example in different]
    begin = N_TRAIN + N_VAL
    return Split(task, rows[:N_TRAIN], rows[N_TRAIN:begin], rows[begin : begin + N_TEST])
