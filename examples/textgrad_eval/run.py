"""Measures the cells of the table one by one, each kept as it is done: `python -m examples.textgrad_eval.run`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trace_adapters as ta
from examples.textgrad_eval.data import QUIZ, load
from examples.textgrad_eval.engines import Engines, Tally
from examples.textgrad_eval.methods import METHODS, START
from examples.textgrad_eval.problems import PROBLEMS
from examples.textgrad_eval.stages import Facts, code_stage, prompt_stage, solution_stage
from examples.textgrad_eval.table import write_table

FUNCTIONS = "functions"
LONGER_TOKENS = 350  # of a reply that holds a function, or reasoning and an answer
CELLS = (
    ("prompt", "object_counting"),
    ("code", FUNCTIONS),
    ("solution", QUIZ),
    ("prompt", "word_sorting"),
    ("prompt", "gsm8k"),
)


@dataclass(frozen=True)
class Size:
    """How much is measured; the same for every method.

    Attributes:
        train: Training questions of the prompt stage.
        val: Validation questions of the prompt stage.
        test: Test questions of the prompt stage.
        steps: Updates of a prompt.
        batch: Training questions in an update.
        solutions: Test questions of the solution stage.
        rounds: Updates of each solution and of each function.
        problems: Functions to write.
    """

    train: int = 12
    val: int = 6
    test: int = 20
    steps: int = 2
    batch: int = 2
    solutions: int = 4
    rounds: int = 2
    problems: int = 8


def measure(
    stage: str, task: str, method: str, path: Path | None, lm: Any, size: Size, seed: int, start: Facts | None
) -> Facts:
    """One cell of the table.

    Args:
        stage: "prompt", "solution" or "code".
        task: The task.
        method: One of `METHODS`, or `START`.
        path: The task's file, if it has one.
        lm: The model.
        size: How much.
        seed: Of questions and batches.
        start: What `START` measured; None only for `START` itself.
    """
    tally, began = Tally(), time.monotonic()
    engines = Engines.of(lm) if stage == "prompt" else Engines.of(lm, LONGER_TOKENS, LONGER_TOKENS)
    with tally.listening():
        if stage == "prompt":
            split = load(task, path, seed=seed, sizes=(size.train, size.val, size.test))
            options = {"steps": size.steps, "batch": size.batch, "seed": seed}
            facts = prompt_stage(method, split, engines, tally, start=start, **options)
        elif stage == "solution":
            split = load(task, path, seed=seed, sizes=(0, 0, size.solutions))
            facts = solution_stage(method, split, engines, tally, rounds=size.rounds, start=start)
        else:
            problems = PROBLEMS[: size.problems]
            facts = code_stage(method, problems, engines, tally, rounds=size.rounds, start=start)
    source = split.source if stage != "code" else "ours"
    wall = round(time.monotonic() - began, 1)
    name = {"stage": stage, "task": task, "source": source, "method": method, "seed": seed}
    return {**name, **facts, **tally.facts(), "wall_s": wall}


def cells(done: Sequence[Facts], files: dict[str, Path], lm: Any, size: Size, seeds: Sequence[int]) -> Iterator[Facts]:
    """The cells that are not done yet, in order."""
    known = {(c["stage"], c["task"], c["method"], c["seed"]): c for c in done}
    for stage, task in CELLS:
        if task == "gsm8k" and task not in files:
            continue
        for seed in seeds:
            for method in (START, *METHODS):
                cell = (stage, task, method, seed)
                if cell in known:
                    continue
                start = None if method == START else known[(stage, task, START, seed)]
                known[cell] = measure(stage, task, method, files.get(task), lm, size, seed, start)
                yield known[cell]


def read_done(path: Path) -> list[Facts]:
    """The cells of an earlier run."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.textgrad_eval.run", description=__doc__)
    parser.add_argument("--model", default="local", help="local, local:NAME, or a model of the server (default: local)")
    parser.add_argument("--base-url", help="an OpenAI-compatible server; its key is taken from OPENAI_API_KEY")
    parser.add_argument("--out", type=Path, default=Path("runs/textgrad_eval.jsonl"), help="cells, one a line")
    parser.add_argument("--bbh", type=Path, help="a folder of BIG-Bench Hard files; without it, generated questions")
    parser.add_argument("--gsm8k", type=Path, help="a file of GSM8K (.jsonl); without it, the task is left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true", help="only print the table of what is done")
    for name, value in vars(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args(words)


def files_of(arguments: argparse.Namespace) -> dict[str, Path]:
    files = {"gsm8k": arguments.gsm8k} if arguments.gsm8k else {}
    if arguments.bbh:
        files |= {task: arguments.bbh / f"{task}.json" for task in ("object_counting", "word_sorting")}
    return files


def run(arguments: argparse.Namespace, lm: Any) -> None:
    """Measure what is missing; print the table after each cell."""
    size = Size(**{name: getattr(arguments, name) for name in vars(Size())})
    done = read_done(arguments.out)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for cell in cells(list(done), files_of(arguments), lm, size, arguments.seeds):
        with arguments.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(cell, ensure_ascii=False) + "\n")
        print(
            f"{cell['stage']} {cell['task']} {cell['method']}: {cell['right']}/{cell['n']}, {cell['wall_s']} s",
            flush=True,
        )
        done.append(cell)
    print(write_table(done))


def main(words: Sequence[str] | None = None) -> int:
    """Run from the command line; 2 for input that cannot be used."""
    arguments = read_arguments(words)
    if arguments.table:
        print(write_table(read_done(arguments.out)))
        return 0
    try:
        lm = ta.LM(arguments.model, base_url=arguments.base_url)
        lm.check()
        run(arguments, lm)
    except ta.TraceAdaptersError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
