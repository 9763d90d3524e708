"""Examples from a BIG-Bench Hard file or from our own generators, split as in the article."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import dspy

from examples.bbh_dspy.tasks import TASKS, generate
from trace_adapters import DataError

N_TRAIN, N_VAL = 15, 5  # the article's split; the rest is for the test
N_GENERATED = 250  # as many as a file of BIG-Bench Hard holds
LARGEST_FILE = 50_000_000  # bytes
TIMEOUT_S = 30.0


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
    unique = list({example["input"]: example for example in reversed(examples)}.values())[::-1]
    if n_train < 1 or n_val < 1 or len(unique) <= n_train + n_val:
        raise DataError(
            f"The task {task!r} has {len(unique)} different examples; {n_train} for training and {n_val} for "
            "validation must each be at least 1 and leave some for the test. Give more or split smaller."
        )
    answer_type = describe_answers([example["target"] for example in unique[:n_train]])
    ready = [as_example(example, answer_type) for example in unique]
    return Split(task, answer_type, ready[:n_train], ready[n_train : n_train + n_val], ready[n_train + n_val :])


def as_example(example: Mapping[str, str], answer_type: str) -> dspy.Example:
    """One example as DSPy wants it; `question` is the program's input."""
    fields = {"question": example["input"], "answer": example["target"], "answer_type": answer_type}
    return dspy.Example(**fields).with_inputs("question")


def describe_answers(answers: Sequence[str]) -> str:
    """Say in words what answers look like, from some of them."""
    if all(re.fullmatch(r"\([A-Z]\)", answer) for answer in answers):
        return "the letter of an option in parentheses, such as (A)"
    if all(re.fullmatch(r"-?\d+", answer) for answer in answers):
        return "a whole number in digits, such as 7"
    if all(re.fullmatch(r"\d{4}-\d\d-\d\d", answer) for answer in answers):
        return "a date as YYYY-MM-DD"
    different = sorted(set(answers))
    if len(different) <= 4 < len(answers):
        return f"one of: {', '.join(different)}"
    if all(re.fullmatch(r"\S+( \S+)+", answer) for answer in answers):
        return "words separated by single spaces"
    return "a short text"


def read_examples(source: str) -> list[dict[str, str]]:
    """Read `{"input", "target"}` examples from a path or URL.

    Raises:
        DataError: With the reason, if that cannot be done.
    """
    read = _read(source)
    try:
        content = json.loads(read)
    except ValueError as error:
        raise DataError(f"{source} holds no JSON: {error}. Expected a BIG-Bench Hard file.") from error
    listed = content.get("examples") if isinstance(content, dict) else content
    if not isinstance(listed, list) or not listed:
        raise DataError(
            f'{source} has no examples: expected {{"examples": [{{"input": "…", "target": "…"}}, …]}}, got '
            f"{json.dumps(content)[:80]}."
        )
    return [_checked(example, number, source) for number, example in enumerate(listed, 1)]


def _read(source: str) -> bytes:
    if re.match(r"(https?|file)://", source):
        return _download(source)
    path = Path(source).expanduser()
    if not path.suffix and not path.exists() and "/" not in source:
        raise DataError(
            f"There is no task {source!r}. Known tasks: {', '.join(sorted(TASKS))}; "
            "or give the path or URL of a BIG-Bench Hard file (.json)."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"The data file {source!r} cannot be read: {error.strerror or error}.") from error


def _download(url: str) -> bytes:
    try:
        with urlopen(url, timeout=TIMEOUT_S) as reply:  # the pattern above admits http, https and file only
            content: bytes = reply.read(LARGEST_FILE + 1)
    except (URLError, OSError, ValueError) as error:
        raise DataError(f"{url} cannot be fetched: {error}.") from error
    if len(content) > LARGEST_FILE:
        raise DataError(f"{url} is larger than {LARGEST_FILE:,} bytes; that is no file of BIG-Bench Hard.")
    return content


def _checked(example: Any, number: int, source: str) -> dict[str, str]:
    wanted = ("input", "target")
    if not isinstance(example, dict) or not all(isinstance(example.get(key), str) for key in wanted):
        raise DataError(
            f"Example {number} of {source} is {json.dumps(example)[:80]}; "
            'expected {"input": "…", "target": "…"}, both texts.'
        )
    return {key: example[key] for key in wanted}
