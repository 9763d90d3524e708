"""How fast the embedded model is on this machine, by setting; one row a setting, as docs/local-models.md has them.

    python -m benchmarks.local_model                       the settings that docs/local-models.md compares
    python -m benchmarks.local_model --calls 4 --model smollm2-135m

The load is that of a program under optimization: prompts of about 150 tokens with a common beginning, short
replies, two workers.
Wall time depends on what else the machine does; the server's CPU seconds hardly do. An idle machine tells most.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trace_adapters.lm import LM, Reply
from trace_adapters.lm.weights import home

THINGS = "apple pear plum fig date lime onion leek bean pea goat cow horse sheep duck hen".split()
INSTRUCTIONS = (
    "You are given a question about counting things. Think step by step: list each object with its count, add the "
    "numbers, and finish with a line of the form 'Answer: N' where N is the total. Do not write anything after that "
    "line. Only count objects of the kind asked for. If an object is mentioned with 'a' or 'an', count one.\n\n"
)
OPTIMIZER = "You improve programs. " + "\n".join(
    f"Rule {number}: the function f{number} keeps its name and its {number % 5 + 1} arguments." for number in range(20)
)
SETTINGS: tuple[Mapping[str, Any], ...] = (
    {"threads": 1},
    {"threads": 2},
    {"threads": 2, "OMP_WAIT_POLICY": "active"},
    {"threads": 1, "slots": 2},
    {"threads": 1, "slots": 4},
    {"threads": 1, "cache_mib": 0},
    {"threads": 1, "slots": 2, "cache_mib": 0},
    {"threads": 1, "cache_prompt": False},
    {"threads": 1, "batch": 128},
    {"threads": 1, "context": 2048},
    {"threads": 1, "context": 32768},
)


@dataclass(frozen=True)
class Row:
    """One setting, measured; seconds are means over calls."""

    wall_s: float
    cpu_s: float
    prompt_tokens: float
    cached_tokens: float
    completion_tokens: float
    resident_mb: int


def measure(model: str, setting: Mapping[str, Any], calls: int, workers: int, mixed: bool) -> Row:
    """Ask `calls` questions from `workers` threads; every third is an optimizer's if `mixed`."""
    options = dict(setting)
    policy = options.pop("OMP_WAIT_POLICY", None)
    if policy:
        os.environ["OMP_WAIT_POLICY"] = policy
    # A server of its own for each setting; the idle time makes it one that no other program uses.
    lm = LM(f"local:{model}", temperature=0.0, max_tokens=60, idle_s=0.1 + random.random() / 100, **options)
    try:
        for warm_up in (-1, 0):
            lm(_question(warm_up, mixed), max_tokens=1)
        pid = _server_pid(lm.base_url)
        wall, cpu = time.perf_counter(), _cpu_s(pid)
        with ThreadPoolExecutor(workers) as pool:
            asked = pool.map(lambda number: lm(_question(number, mixed)), range(1, calls + 1))
            replies = [reply for (reply,) in asked]
        wall, cpu = time.perf_counter() - wall, _cpu_s(pid) - cpu
        return Row(wall / calls, cpu / calls, *_tokens(replies), _resident_mb(pid))
    finally:
        os.environ.pop("OMP_WAIT_POLICY", None)
        lm.close()


def main() -> None:
    options = _parser().parse_args()
    print(f"{options.model}, {os.cpu_count()} cores, {options.calls} calls from {options.workers} workers")
    print("| setting | prompts | wall s/call | CPU s/call | prompt (cached) | generated | MB | load |")
    print("|---|---|---|---|---|---|---|---|")
    for setting, mixed in _rows(options.only):
        row = measure(options.model, setting, options.calls, options.workers, mixed)
        name = ", ".join(f"{key} {value}" for key, value in setting.items())
        kind = "two kinds" if mixed else "one kind"
        print(
            f"| {name} | {kind} | {row.wall_s:.2f} | {row.cpu_s:.2f} "
            f"| {row.prompt_tokens:.0f} ({row.cached_tokens:.0f}) "
            f"| {row.completion_tokens:.0f} | {row.resident_mb} | {os.getloadavg()[0]:.1f} |",
            flush=True,
        )


def _rows(only: str | None) -> Iterator[tuple[Mapping[str, Any], bool]]:
    for setting in [json.loads(only)] if only else SETTINGS:
        for mixed in (False, True):
            yield setting, mixed


def _question(number: int, mixed: bool) -> str:
    if mixed and number % 3 == 0:
        return f"{OPTIMIZER}\nThe function fails for the input {number * 7}. Say in one sentence what to do."
    chosen = random.Random(number)
    listed = ", ".join(f"{chosen.randint(1, 5)} {thing}" for thing in chosen.sample(THINGS, 6))
    return f"{INSTRUCTIONS}Question: I have {listed}. How many things do I have in all?"


def _tokens(replies: list[Reply]) -> tuple[float, float, float]:
    usages = [reply.usage for reply in replies]
    prompt = statistics.fmean(usage.prompt_tokens or 0 for usage in usages)
    cached = statistics.fmean(usage.cached_tokens or 0 for usage in usages)
    return prompt, cached, statistics.fmean(usage.completion_tokens or 0 for usage in usages)


def _server_pid(base_url: str) -> int:
    for path in (home() / "servers").glob("*/state.json"):
        state = json.loads(path.read_text())
        if state["base_url"] == base_url:
            return int(state["pid"])
    raise SystemExit(f"no server found for {base_url}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the embedded model, setting by setting.")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--calls", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", help='one setting as JSON, for instance {"threads": 2}')
    return parser


if __name__ == "__main__":
    main()
