"""Programming problems with unit tests, for the stage on code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Case = tuple[Sequence[Any], Any]  # arguments, what must be returned


@dataclass(frozen=True)
class Problem:
    """A function to write.

    Attributes:
        name: Of the function.
        task: What it must do, as the model is told.
        shown: Tests whose outcome the optimizer sees.
        hidden: Tests that only the measurement runs.
    """

    name: str
    task: str
    shown: tuple[Case, ...]
    hidden: tuple[Case, ...]


PROBLEMS = (
    Problem(
        "compress",
        "compress(text) writes each run of equal letters as the letter and the run's length, a single letter without a "
        "length: 'aaab' gives 'a3b'.",
        ((["aaab"], "a3b"), ([""], "")),
        ((["abc"], "abc"), (["zzzzzzzzzzzz"], "z12"), (["aabbb"], "a2b3")),
    ),
    Problem(
        "is_balanced",
        "is_balanced(text) says whether the brackets (), [] and {} in a text are closed in the right order; other "
        "signs do not count.",
        ((["a[b]"], True), (["(]"], False)),
        (([""], True), (["([)]"], False), (["{[()]}("], False), ([")("], False)),
    ),
    Problem(
        "merge",
        "merge(intervals) joins overlapping or touching intervals [start, end] and returns them sorted, as lists.",
        (([[[1, 3], [2, 5]]], [[1, 5]]), ([[[1, 2], [2, 3]]], [[1, 3]])),
        (([[]], []), ([[[5, 6], [1, 9]]], [[1, 9]]), ([[[4, 5], [1, 2]]], [[1, 2], [4, 5]])),
    ),
    Problem(
        "to_roman",
        "to_roman(number) writes a number from 1 to 3999 in Roman numerals.",
        (([4], "IV"), ([12], "XII")),
        (([1994], "MCMXCIV"), ([49], "XLIX"), ([3999], "MMMCMXCIX")),
    ),
    Problem(
        "rotate",
        "rotate(items, steps) returns a new list with the items moved to the right by a number of steps, which may be "
        "negative or larger than the list; an empty list stays empty.",
        (([[1, 2, 3], 1], [3, 1, 2]), ([[], 2], [])),
        (([[1, 2, 3], -1], [2, 3, 1]), ([[1, 2, 3], 7], [3, 1, 2]), ([[1], 0], [1])),
    ),
    Problem(
        "second_word",
        "second_word(text) returns the second word of a text in lower case without punctuation around it, or None if "
        "there are fewer than two words.",
        ((["Hello, World!"], "world"), (["one"], None)),
        ((["  a   B. c"], "b"), ([""], None), (["don't 'Stop'"], "stop")),
    ),
    Problem(
        "next_day",
        "next_day(date) returns the day after a date, both as 'YYYY-MM-DD'.",
        ((["2024-01-31"], "2024-02-01"), (["2023-12-31"], "2024-01-01")),
        ((["2024-02-28"], "2024-02-29"), (["2023-02-28"], "2023-03-01"), (["1900-02-28"], "1900-03-01")),
    ),
    Problem(
        "flatten",
        "flatten(values) returns the values of lists nested to any depth as one flat list; texts stay whole.",
        (([[1, [2, [3]]]], [1, 2, 3]), ([["ab", ["cd"]]], ["ab", "cd"])),
        (([[]], []), ([[[[]]]], []), ([[[1], "x", [None, [True]]]], [1, "x", None, True])),
    ),
)
