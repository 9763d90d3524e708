"""Questions with answers for the stages: published files by their path, or generated."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from examples.questions import read_examples, unique
from examples.tasks import TASKS, generate
from trace_adapters import DataError

QUIZ = "quiz"
LETTERS = "ABCD"


@dataclass(frozen=True)
class Example:
    """A question and what the answer to it must be."""

    question: str
    answer: str


@dataclass(frozen=True)
class Split:
    """One task's examples; no question stands in two of the lists.

    Attributes:
        source: Where they come from, in words.
        same: Whether a reply holds the right answer.
    """

    task: str
    source: str
    train: list[Example]
    val: list[Example]
    test: list[Example]
    same: Callable[[str, str], bool]


def load(task: str, path: Path | None, *, seed: int, sizes: tuple[int, int, int]) -> Split:
    """Draw the examples of a task.

    Args:
        task: "object_counting", "word_sorting", "gsm8k" or "quiz".
        path: A file of BIG-Bench Hard or GSM8K; without one, examples are generated.
        seed: Of the draw.
        sizes: How many examples to learn from, to choose by and to test on.

    Raises:
        DataError: If there is nothing to draw from, or too little.
    """
    wanted = sum(sizes)
    if path is not None:
        found = unique(read_examples(str(path)))
        random.Random(f"{task}/{seed}").shuffle(found)
        drawn = [Example(example["input"], example["target"]) for example in found]
    elif task == QUIZ:
        drawn = quiz(wanted, seed)
    elif task in TASKS:
        drawn = [Example(example["input"], example["target"]) for example in generate(task, wanted, seed)]
    else:
        raise DataError(f"There is no generator for {task!r}: give the path of its file.")
    if len(drawn) < wanted:
        raise DataError(f"{path or task} has {len(drawn)} examples; {wanted} are needed.")
    train, val, _ = sizes
    return Split(
        task,
        f"{path.name}, shuffled" if path is not None else "generated",
        drawn[:train],
        drawn[train : train + val],
        drawn[train + val : wanted],
        same_words if task == "word_sorting" else same_letter if task == QUIZ else same_number,
    )


def same_number(reply: str, answer: str) -> bool:
    """Whether the last number of a reply is the answer."""
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", reply)
    return bool(numbers) and float(numbers[-1].replace(",", "")) == float(answer)


def same_words(reply: str, answer: str) -> bool:
    """Whether what a reply says behind its last "Answer:" are these words in this order."""
    said = re.split(r"answer\s*:", reply, flags=re.IGNORECASE)[-1]
    return re.findall(r"[^\s,.;*`\"]+", said.lower()) == answer.lower().split()


def same_letter(reply: str, answer: str) -> bool:
    """Whether the letter behind the last "Answer:" of a reply is the answer."""
    return letter_of(reply) == answer


def letter_of(reply: str) -> str | None:
    """The letter that a reply gives as its answer."""
    found = re.findall(r"answer\s*:\s*[*(\"'`$]*([A-D])\b", reply, flags=re.IGNORECASE)
    return found[-1].upper() if found else None


def quiz(count: int, seed: int) -> list[Example]:
    """Questions with four choices, the shape of MMLU's; no question twice."""
    rng = random.Random(f"{QUIZ}/{seed}")
    found: dict[str, Example] = {}
    while len(found) < count:
        question, right, wrong = rng.choice((_speed, _median, _remainder, _larger, _discount))(rng)
        choices = [right, *list(dict.fromkeys(choice for choice in wrong if choice != right))[:3]]
        if len(choices) < 4:
            continue
        rng.shuffle(choices)
        lines = [f"{letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
        example = Example("\n".join([question, *lines]), LETTERS[choices.index(right)])
        found.setdefault(question, example)
    return list(found.values())


Drawn = tuple[str, str, Sequence[str]]  # question, right choice, wrong choices


def _speed(rng: random.Random) -> Drawn:
    speed, minutes = rng.choice((40, 60, 90, 120)), rng.choice((15, 20, 30, 45))
    way = speed * minutes // 60
    wrong = [f"{value} km/h" for value in (way, way * 2, speed + 15, speed // 2, minutes)]
    return f"A train covers {way} km in {minutes} minutes. What is its average speed?", f"{speed} km/h", wrong


def _median(rng: random.Random) -> Drawn:
    numbers = rng.sample(range(2, 40), 5)
    right = sorted(numbers)[2]
    wrong = [str(value) for value in (numbers[2], sum(numbers) // 5, max(numbers), min(numbers), right + 1)]
    return f"What is the median of {', '.join(map(str, numbers))}?", str(right), wrong


def _remainder(rng: random.Random) -> Drawn:
    number, divisor = rng.randint(50, 200), rng.randint(6, 13)
    right = number % divisor
    wrong = [str(value % divisor) for value in (right + 1, right + 2, right + divisor - 1, right + 3)]
    return f"What is the remainder when {number} is divided by {divisor}?", str(right), wrong


def _larger(rng: random.Random) -> Drawn:
    fractions = {Fraction(rng.randint(1, 11), rng.randint(3, 12)) for _ in range(12)}
    chosen = sorted(fraction for fraction in fractions if 0 < fraction < 1)[-4:]
    *wrong, right = [str(fraction) for fraction in chosen] or [""]
    return f"Which of these fractions is the largest, {', '.join(sorted([*wrong, right]))}?", right, wrong


def _discount(rng: random.Random) -> Drawn:
    price, off = rng.choice((40, 60, 80, 120, 200)), rng.choice((10, 20, 25, 50))
    right = price * (100 - off) // 100
    wrong = [f"{value} euros" for value in (price - off, price * off // 100, right + 5, right - 4)]
    return f"A coat costs {price} euros and is sold {off} % cheaper. What does it cost now?", f"{right} euros", wrong
