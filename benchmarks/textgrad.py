"""One update of TextGrad's optimizer, of the drop-in for it and of our textual gradients, against a stub model.

`make bench-textgrad` writes `results/textgrad.md`. The stub answers after a fixed time with 90 words, so calls, tokens
and wall time are those of the method; nothing is said about which new values are better.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import re
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trace_adapters as ta
from benchmarks.core import ROOT, processor
from trace_adapters.extend import count_tokens
from trace_adapters_textgrad import TextualGradientDescent as DropIn  # first, or TextGrad makes a log folder here

# isort: split
from textgrad import TGD, BlackboxLLM, TextLoss, Variable, sum as sum_of
from textgrad.engine import EngineLM

METHODS = ("textgrad", "tat.TGD", "ta.TextGrad")
CHAINS = ((1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (64, 1))
BATCHES = ((1, 2), (1, 4), (1, 8), (1, 16), (1, 32), (1, 64))
BOTH = ((4, 4), (4, 16), (16, 16))
PUBLISHED = {"steps": 12, "batch": 3, "validation": 100, "test": 100}
_WORDS = "the answer names each item and then adds the amounts but it should say the total in digits alone".split()


class Stub(EngineLM):  # type: ignore[misc]
    """Answers every prompt in the form that it asks for, after a fixed time, no answer twice.

    Attributes:
        calls: Number of calls.
        tokens: Estimated tokens, in and out.
        longest: Estimated tokens of the longest prompt.
    """

    model_string = "stub"

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Count from zero."""
        self.calls, self.tokens, self.longest = 0, (0, 0), 0

    def generate(self, content: Any, system_prompt: str | None = None, **options: Any) -> str:
        """Answer."""
        time.sleep(self.latency_s)
        asked = count_tokens(f"{system_prompt or ''}\n{content}")
        with self._lock:
            self.calls += 1
            answer = _answer(str(content), system_prompt or "", self.calls)
            self.tokens = (self.tokens[0] + asked, self.tokens[1] + count_tokens(answer))
            self.longest = max(self.longest, asked)
        return answer

    def __call__(self, content: Any, system_prompt: str | None = None, **options: Any) -> str:
        return self.generate(content, system_prompt, **options)


def _answer(prompt: str, system_prompt: str, number: int) -> str:
    words = " ".join(itertools.islice(itertools.cycle(_WORDS), 90 - 1))
    text = f"{words} {number}"
    if "IMPROVED_VARIABLE" in system_prompt:
        return f"<IMPROVED_VARIABLE>{text}</IMPROVED_VARIABLE>"
    names = re.findall(r'^<(value\d*) name="(\w+)">', prompt, re.MULTILINE)
    if "Reply in exactly this form" not in system_prompt or not names:
        return text
    values = [f'<{tag} name="{name}">{text} {name}</{tag}>' for tag, name in dict.fromkeys(names)]
    return "\n".join(["<reasoning>", text, "</reasoning>", *values])


@dataclass(frozen=True)
class Row:
    """One measured update."""

    length: int
    batch: int
    method: str
    calls: int
    tokens: tuple[int, int]
    longest: int
    wall_s: float
    cpu_s: float


def measure(length: int, batch: int, method: str, latency_s: float, max_prompt_tokens: int) -> Row:
    """Backward and step of one loss: `batch` runs through a chain of `length` prompts, each judged by the model."""
    stub = Stub(latency_s)
    prompts = [
        Variable(f"Do step {number} with care.", requires_grad=True, role_description=f"prompt of step {number}")
        for number in range(length)
    ]
    optimizer: Any
    if method == "textgrad":
        optimizer = TGD(parameters=prompts, engine=stub)
    else:
        kind = "optoprime" if method == "tat.TGD" else "textgrad"
        names = [f"step_{number}" for number in range(length)]
        optimizer = DropIn(
            parameters=prompts, engine=stub, optimizer=kind, max_prompt_tokens=max_prompt_tokens, names=names
        )
    loss = _forward(prompts, batch, Stub(0.0))
    before = [prompt.value for prompt in prompts]
    started, used = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a rejected reply would make the numbers meaningless
        loss.backward(stub)
        optimizer.step()
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - used
    if any(prompt.value == old for prompt, old in zip(prompts, before, strict=True)):
        raise RuntimeError(f"{method} left a prompt of the chain of {length} as it was.")
    return Row(length, batch, method, stub.calls, stub.tokens, stub.longest, wall_s, cpu_s)


def _forward(prompts: Sequence[Any], batch: int, engine: Any) -> Any:
    judge = TextLoss("Say what is wrong with the answer.", engine=engine)
    models = [BlackboxLLM(engine, prompt) for prompt in prompts]
    losses = []
    for number in range(batch):
        text = Variable(f"question {number}", requires_grad=False, role_description="question")
        for model in models:
            text = model(text)
        losses.append(judge(text))
    return sum_of(losses) if batch > 1 else losses[0]


def report(rows: Sequence[Row], latency_s: float, max_prompt_tokens: int) -> str:
    """The page."""
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    versions = f"trace-adapters {ta.__version__}, textgrad {version('textgrad')}, {time.strftime('%Y-%m-%d')}"
    lines = [
        "# One update, counted",
        "",
        f"{machine}, {versions}. Written by `make bench-textgrad` (`benchmarks/textgrad.py`).",
        "",
        "A chain of L calls, each with a prompt to learn, runs on B questions; each result is judged by the model,",
        f"the verdicts are summed. The model is a stub that takes {latency_s * 1000:g} ms and answers with 90 words;",
        "forward calls are not counted. `textgrad` is TextGrad's own optimizer, `tat.TGD` our drop-in for it,",
        '`ta.TextGrad` our textual gradients on the recovered graph (`tat.TGD(..., optimizer="textgrad")`, 8 questions',
        f"at a time). Prompts of ours may have {max_prompt_tokens:,} tokens: repeated calls are folded, long values",
        "lose their middle, whole runs are left out where that is not enough. TextGrad has no limit. Tokens are",
        "estimated. Which new prompts are better is not measured here.",
        "",
        "| L | B | optimizer | calls | by formula | tokens in | tokens out | longest prompt | wall s | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_line, rows),
    ]
    return "\n".join([*lines, "", *_share()]) + "\n"


def _line(row: Row) -> str:
    formula = "1" if row.method == "tat.TGD" else f"2LB + L = {2 * row.length * row.batch + row.length}"
    cells = (
        row.length,
        row.batch,
        row.method,
        row.calls,
        formula,
        f"{row.tokens[0]:,}",
        f"{row.tokens[1]:,}",
        f"{row.longest:,}",
        f"{row.wall_s:.2f}",
        f"{row.cpu_s:.2f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _share() -> list[str]:
    """What the update is of a whole run, by the numbers of the published script."""
    steps, batch, validation, test = PUBLISHED.values()
    forward = steps * batch + (steps + 1) * (validation + test)
    theirs = steps * (2 * batch + 1)
    return [
        "## What share of a run that is",
        "",
        "By arithmetic, not measured: the published prompt optimization with `--run_validation` makes",
        f"{steps} steps of {batch} questions and puts the first and every new prompt to {validation} validation and "
        f"{test} test questions:",
        f"{forward:,} calls of the program's model and {theirs} of the optimizer, {theirs / (forward + theirs):.1%}. "
        f"With one call a step the",
        f"optimizer makes {steps}, {steps / (forward + steps):.1%}. So {(theirs - steps) / (forward + theirs):.1%} of "
        "all calls are saved. The difference shows where evaluations",
        "are few, cheap or run side by side, while the calls of an update wait for each other.",
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.textgrad", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "textgrad.md")
    parser.add_argument("--latency-ms", type=float, default=50.0, help="of the stub (default: 50)")
    parser.add_argument("--max-prompt-tokens", type=int, default=16_000, help="of our prompts (default: 16000)")
    arguments = parser.parse_args()
    latency_s = arguments.latency_ms / 1000
    rows = []
    for (length, batch), method in itertools.product([*CHAINS, *BATCHES, *BOTH], METHODS):
        rows.append(measure(length, batch, method, latency_s, arguments.max_prompt_tokens))
        print(rows[-1], flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(report(rows, latency_s, arguments.max_prompt_tokens), encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
