"""Questions with answers, read from the published files of two data sets or drawn by a generator."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

from examples.tasks import TASKS
from trace_adapters import DataError

Example = TypeVar("Example", bound=Mapping[str, str])

LARGEST_FILE = 50_000_000  # bytes
TIMEOUT_S = 30.0
_GSM8K_ANSWER = re.compile(r"####\s*(.+?)\s*$")


def unique(examples: Sequence[Example]) -> list[Example]:
    """The examples in their order; a question that occurs again is left out."""
    return list({example["input"]: example for example in reversed(examples)}.values())[::-1]


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

    A BIG-Bench Hard file has them so; of a line of GSM8K the question, and of its answer what stands behind `####`.

    Raises:
        DataError: With the reason, if that cannot be done.
    """
    read = _read(source)
    if source.endswith(".jsonl"):
        return [_from_line(line, number, source) for number, line in enumerate(read.decode().splitlines(), 1) if line]
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


def _from_line(line: str, number: int, source: str) -> dict[str, str]:
    try:
        content = json.loads(line)
        found = _GSM8K_ANSWER.search(content["answer"])
        if found is not None:
            return {"input": str(content["question"]), "target": found[1].replace(",", "")}
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(
        f"Line {number} of {source} is {line[:80]}; "
        'expected {"question": "…", "answer": "… #### number"}, as in GSM8K.'
    )


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
