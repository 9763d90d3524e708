"""The example beside TextGrad's published evaluation: its data, its stages, and that a run can be cut."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import trace_adapters as ta
from examples.tasks import KINDS, NUMBERS, plural

run = pytest.importorskip("examples.textgrad_eval.run")
data, problems, stages = (import_module(f"examples.textgrad_eval.{name}") for name in ("data", "problems", "stages"))
Engines, Tally = run.Engines, run.Tally
METHODS, START, write_table = run.METHODS, run.START, run.write_table

SOLUTIONS = {
    "compress": """
from itertools import groupby

def compress(text):
    runs = [(letter, len(list(run))) for letter, run in groupby(text)]
    return "".join(letter + (str(n) if n > 1 else "") for letter, n in runs)
""",
    "is_balanced": """
def is_balanced(text):
    pairs, stack = {")": "(", "]": "[", "}": "{"}, []
    for sign in text:
        if sign in "([{":
            stack.append(sign)
        elif sign in pairs and (not stack or stack.pop() != pairs[sign]):
            return False
    return not stack
""",
    "merge": """
def merge(intervals):
    found = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found
""",
    "to_roman": """
def to_roman(number):
    signs = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
             (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    text = ""
    for value, sign in signs:
        text += sign * (number // value)
        number %= value
    return text
""",
    "rotate": """
def rotate(items, steps):
    if not items:
        return []
    steps %= len(items)
    return items[-steps:] + items[:-steps] if steps else list(items)
""",
    "second_word": """
import string

def second_word(text):
    words = text.split()
    return words[1].strip(string.punctuation).lower() if len(words) > 1 else None
""",
    "next_day": """
from datetime import date, timedelta

def next_day(day):
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
""",
    "flatten": """
def flatten(values):
    found = []
    for value in values:
        found += flatten(value) if isinstance(value, list) else [value]
    return found
""",
}


@pytest.mark.parametrize("problem", problems.PROBLEMS, ids=lambda problem: problem.name)
def test_every_problem_can_be_solved(problem: problems.Problem) -> None:
    """The tests say what the task says."""
    assert stages.all_pass(SOLUTIONS[problem.name], problem)
    assert not stages.all_pass(f"def {problem.name}(*_):\n    return None\n", problem)


def test_failed_tests_say_what_happened() -> None:
    lines = stages.run_tests("def f(x):\n    return 1 / x\n", "f", [([1], 1.0), ([2], 0.25), ([0], 0)])
    assert lines == [
        "passed: f(1) must give 1.0",
        "failed (gave 0.5): f(2) must give 0.25",
        "failed (ZeroDivisionError: division by zero): f(0) must give 0",
    ]


def test_quiz_questions_have_four_choices_and_one_is_right() -> None:
    found = data.quiz(60, 3)
    assert len({example.question for example in found}) == 60
    assert {example.answer for example in found} == set("ABCD")
    for example in found:
        choices = re.findall(r"^[A-D]\) (.+)$", example.question, re.MULTILINE)
        assert len(set(choices)) == 4
    assert data.quiz(60, 3) == found != data.quiz(60, 4)
    remainder = next(example for example in found if "remainder" in example.question)
    number, divisor = map(int, re.findall(r"\d+", remainder.question)[:2])
    right = dict(re.findall(r"^([A-D])\) (.+)$", remainder.question, re.MULTILINE))[remainder.answer]
    assert int(right) == number % divisor


@pytest.mark.parametrize(
    ("same", "reply", "answer", "expected"),
    [
        (data.same_number, "5 + 3 = 8\nAnswer: 8.", "8", True),
        (data.same_number, "It costs 1,250", "1250", True),
        (data.same_number, "8 of them, then 9", "8", False),
        (data.same_number, "eight", "8", False),
        (data.same_words, "Sorted.\nAnswer: ant, bee cat", "ant bee cat", True),
        (data.same_words, "bee ant", "ant bee", False),
        (data.same_letter, "So.\nAnswer: **B**", "B", True),
        (data.same_letter, "Answer: A\nNo.\nAnswer: C", "A", False),
        (data.same_letter, "B", "B", False),
    ],
)
def test_right_answers_are_told_from_wrong_ones(
    same: Callable[[str, str], bool], reply: str, answer: str, expected: bool
) -> None:
    assert same(reply, answer) is expected


def test_files_are_read_by_their_path(tmp_path: Path) -> None:
    file = tmp_path / "object_counting.json"
    examples = [{"input": f"How many? {n}", "target": str(n)} for n in range(9)]
    file.write_text(json.dumps({"examples": examples}))
    split = data.load("object_counting", file, seed=0, sizes=(2, 3, 4))
    assert [len(part) for part in (split.train, split.val, split.test)] == [2, 3, 4]
    assert len({example.question for part in (split.train, split.val, split.test) for example in part}) == 9
    with pytest.raises(ta.DataError, match="has 9 examples; 10 are needed"):
        data.load("object_counting", file, seed=0, sizes=(2, 3, 5))
    with pytest.raises(ta.DataError, match="no generator for 'gsm8k'"):
        data.load("gsm8k", None, seed=0, sizes=(1, 1, 1))


def scripted(better: bool = True) -> ta.ScriptedLM:
    """Counts right if the prompt says so; as a judge and as an optimizer it has one thing to say."""
    good = "Add the amounts." if better else "Guess a number."

    def reply(messages: Any, role: str) -> str:
        text = "\n".join(str(message["content"]) for message in messages)
        if role == "forward" and text.startswith("Write a Python function"):
            return "```python\ndef nothing():\n    pass\n```"
        if role == "forward":
            return f"Answer: {_count(text)}" if "Add the amounts" in text else "Answer: B" if "A)" in text else "Hm."
        if role == "judge":
            return "The function has another name."
        if "<IMPROVED_VARIABLE>" in text:
            return f"<IMPROVED_VARIABLE>{good}</IMPROVED_VARIABLE>"
        name = re.search(r'<(value\d*) name="(\w+)"', str(messages[-1]["content"]))
        asks = any(form in text for form in ("Reply with <", "in the form <", "Reply in exactly"))
        return f'<{name[1]} name="{name[2]}">{good}</{name[1]}>' if name and asks else "Say how."

    return ta.ScriptedLM(reply, profile="small")


def _count(text: str) -> int:
    asked = re.search(r"How many (.+) are on the shelf", text)
    if asked is None:
        return 0
    amounts = dict(zip(NUMBERS, (2, 3, 4), strict=True)) | {"a": 1, "an": 1}
    total = 0
    for amount, things in re.findall(r"\b(a|an|two|three|four) (\w+)", text.split("shelf there are")[1]):
        total += amounts[amount] if any(things in (thing, plural(thing)) for thing in KINDS[asked[1]]) else 0
    return total


SIZE = {"train": 4, "val": 2, "test": 4, "steps": 2, "batch": 2, "solutions": 2, "rounds": 1, "problems": 2}


def arguments(tmp_path: Path, *words: str) -> Any:
    sizes = [word for name, value in SIZE.items() for word in (f"--{name}", str(value))]
    return run.read_arguments(["--out", str(tmp_path / "cells.jsonl"), *sizes, *words])


def test_every_cell_is_measured_once_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is cut goes on with the cell that was cut; the table has a row for each."""
    lm = scripted()
    cut = lm._handler

    def fail_later(messages: Any, role: str) -> str:
        assert cut
        if len(lm.calls) > 60:
            raise ta.ModelError("the server is gone")
        return str(cut(messages, role))

    lm._handler = fail_later
    with pytest.raises(ta.ModelError):
        run.run(arguments(tmp_path), lm)
    kept = run.read_done(tmp_path / "cells.jsonl")
    assert 1 <= len(kept) < 16
    run.run(arguments(tmp_path), scripted())
    cells = run.read_done(tmp_path / "cells.jsonl")
    assert cells[: len(kept)] == kept
    assert [(c["stage"], c["task"], c["method"]) for c in cells] == [
        (stage, task, method) for stage, task in run.CELLS if task != "gsm8k" for method in (START, *METHODS)
    ]
    silent = scripted()
    run.run(arguments(tmp_path), silent)
    assert silent.calls == []
    table = capsys.readouterr().out
    assert "| prompt, object_counting (generated) | tat.TGD | 4/4 = 1.00 (0.51 to 1.00) | " in table
    assert write_table(cells) in table


def cell(method: str, better: bool, engines: Engines) -> tuple[dict[str, Any], Tally]:
    split = data.load("object_counting", None, seed=0, sizes=(4, 2, 4))
    tally = Tally()
    options: Any = {"steps": 2, "batch": 2, "seed": 0}
    start = stages.prompt_stage(START, split, engines, Tally(), start=None, **options)
    with tally.listening():
        return stages.prompt_stage(method, split, engines, tally, start=start, **options), tally


@pytest.mark.parametrize(("method", "calls"), [("tg.TGD", 2 * 2 + 1), ("tat.TGD", 1), ("textgrad", 2 * 2 + 1)])
def test_the_update_calls_of_a_step(method: str, calls: int) -> None:
    """TextGrad asks about both edges of each of two runs, then for the value; ours asks once, or as TextGrad does."""
    engines = Engines.of(scripted())
    facts, tally = cell(method, True, engines)
    assert facts["right"] == 4
    assert tally.calls["optimizer"] >= calls
    first = [call for call in engines.lm.calls if call.role == "optimizer"][:calls]
    assert len(first) == calls
    assert tally.updates == 2


@pytest.mark.parametrize(("method", "calls"), [("tg.TGD", 2), ("tat.TGD", 1), ("textgrad", 2)])
def test_the_update_calls_of_an_answer_and_of_code(method: str, calls: int) -> None:
    """The judge's verdict is criticized once, then the value changes; ours asks once, or as TextGrad does."""
    engines = Engines.of(scripted())
    split = data.load("quiz", None, seed=0, sizes=(0, 0, 2))
    tally = Tally()
    start: Any = stages.solution_stage(START, split, engines, Tally(), rounds=1, start=None)
    with tally.listening():
        facts = stages.solution_stage(method, split, engines, tally, rounds=1, start=start)
    assert [len(versions) for versions in facts["replies"]] == [2, 2]
    assert tally.calls == {"judge": 2, "optimizer": 2 * calls}
    tally = Tally()
    start = stages.code_stage(START, problems.PROBLEMS[:2], engines, Tally(), rounds=1, start=None)
    with tally.listening():
        stages.code_stage(method, problems.PROBLEMS[:2], engines, tally, rounds=1, start=start)
    assert tally.calls == {"judge": 2, "optimizer": 2 * calls}


@pytest.mark.parametrize("method", METHODS)
def test_a_prompt_that_is_worse_on_validation_is_taken_back(method: str) -> None:
    """With a start that is right on some validation questions, a prompt that is right on none does not stay."""
    split = data.load("object_counting", None, seed=0, sizes=(4, 2, 4))
    start = {"right": 2, "n": 4, "validation": [0.5], "prompt": stages.start_prompt("object_counting")}
    facts = stages.prompt_stage(
        method, split, Engines.of(scripted(better=False)), Tally(), steps=1, batch=2, seed=0, start=start
    )
    assert (facts["prompt"], facts["right"]) == (start["prompt"], 2)
    assert facts["validation"] == [0.5, 0.0]


def test_a_reply_without_tags_is_a_failure_that_is_counted() -> None:
    """TextGrad's own optimizer raises, ours says why; the prompt stays."""

    def reply(messages: Any, role: str) -> str:
        return "I cannot do that." if role == "optimizer" else "Hm."

    for method in METHODS:
        _, tally = cell(method, True, Engines.of(ta.ScriptedLM(reply)))
        assert (tally.updates, tally.changed, len(tally.failures)) == (2, 0, 2)


def test_a_method_that_changed_nothing_keeps_its_own_cell() -> None:
    """It has the accuracy of the start, and what it spent itself."""
    lm = ta.ScriptedLM(lambda messages, role: "I cannot do that." if role == "optimizer" else "Hm.")
    size = run.Size(**SIZE)
    start = run.measure("prompt", "object_counting", START, None, lm, size, 0, None)
    found = run.measure("prompt", "object_counting", "tg.TGD", None, lm, size, 0, start)
    assert (found["method"], found["right"], found["prompt"]) == ("tg.TGD", start["right"], start["prompt"])
    assert found["calls"] == {"forward": 2 * 2, "optimizer": 2 * 5}


def test_votes_and_code_are_read_from_replies() -> None:
    assert stages.vote(["Answer: A", "Answer: B", "none", "Answer: B"]) == "B"
    assert stages.vote(["Answer: C", "Answer: B"]) == "C"
    assert stages.vote(["none"]) is None
    assert stages.code_in("Here:\n```python\ndef f():\n    pass\n```\nDone.") == "def f():\n    pass\n"
    assert stages.code_in("```\nx = 1") == "x = 1\n"
    assert stages.code_in("x = 1") == "x = 1\n"
