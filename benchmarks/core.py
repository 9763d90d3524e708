"""The tracer side by side with trace-opt, in one process.

`make bench-core` installs both in a virtual environment of their own and writes `results/core.md`. CPU time of the
thread, medians over blocks; busy machines blur single cells by some 15 %, so trust ratios. What would take the peer
longer than the limit, or eat the machine's memory, runs in a child process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import trace_adapters as ta
from benchmarks import shapes
from benchmarks.agreement import different_subgraphs

ROOT = Path(__file__).resolve().parent.parent
PEER = "trace-opt"
LIMITS_US = {
    "call of a trivial bundle": 5.0,
    "the same with tracing off": 0.5,
    "`x + 1` on a node": 3.0,
    "`node(1)`": 0.5,
    "call of a trainable bundle of 60 lines (in-process)": 10.0,
}
IMPORTS = (
    ("`import trace_adapters`", "import trace_adapters", "opto.trace", "0.05 s"),
    ("the tracer, loaded when `ta.node` is used", "import trace_adapters as ta; ta.node, ta.bundle", "opto.trace", ""),
    (
        "an optimizer, loaded when `ta.OptoPrime` is used",
        "import trace_adapters as ta; ta.OptoPrime",
        "opto.optimizers",
        "",
    ),
)
LIMITS_BYTES = {"`node(1)`, bytes": 250, "output node of a bundle, bytes": 400}


def microseconds(function: Callable[[], Any], calls: int = 20_000, blocks: int = 9) -> float:
    """Median over blocks of the CPU time of one call, less that of an empty one."""

    def block(timed: Callable[[], Any], count: int) -> float:
        start = time.thread_time()
        for _ in range(count):
            timed()
        return (time.thread_time() - start) / count * 1e6

    once = block(function, 50)
    count = max(200, min(calls, int(100_000 / max(once, 0.1))))
    return statistics.median(block(function, count) - block(lambda: None, count) for _ in range(blocks))


def bytes_each(make: Callable[[], Any], count: int = 10_000) -> float:
    kept: list[Any] = [None] * count
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        kept[number] = make()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count


def sixty_lines(name: str) -> str:
    return f"def {name}(x):\n" + "".join(f"    x = x - {n}\n" for n in range(58)) + "    return x\n"


def calls_of_ours() -> tuple[dict[str, float], dict[str, float]]:
    f = ta.bundle(lambda x: x)
    x = ta.node(5, name="x")
    big = ta.bundle(trainable=True, trust="in-process")(shapes.long_function)
    big.parameter.data = sixty_lines("long_function")
    timed = {
        "call of a trivial bundle": microseconds(lambda: f(x)),
        "`x + 1` on a node": microseconds(lambda: x + 1),
        "`node(1)`": microseconds(lambda: ta.node(1)),
        "call of a trainable bundle of 60 lines (in-process)": microseconds(lambda: big(x)),
        "plain call of the same 60 lines": microseconds(lambda: shapes.long_function(5)),
    }
    with ta.no_trace():
        timed["the same with tracing off"] = microseconds(lambda: f(x))
    sizes = {
        "`node(1)`, bytes": bytes_each(lambda: ta.node(1)),
        "output node of a bundle, bytes": bytes_each(lambda: f(x)),
    }
    return timed, sizes


def calls_of_peer() -> tuple[dict[str, float], dict[str, float]]:
    from opto import trace

    def timed_alone(function: Callable[[], Any]) -> float:
        trace.GRAPH.clear()  # it keeps every node
        gc.collect()
        return microseconds(function, 2_000)

    f = trace.bundle()(shapes.identity)
    x = trace.node(5, name="x")
    big = trace.bundle(trainable=True)(shapes.long_function)
    timed = {
        "`node(1)`": timed_alone(lambda: trace.node(1)),
        "call of a trivial bundle": timed_alone(lambda: f(x)),
        "`x + 1` on a node": timed_alone(lambda: x + 1),
        "call of a trainable bundle of 60 lines (in-process)": timed_alone(lambda: big(x)),
    }
    with trace.stop_tracing():
        timed["the same with tracing off"] = timed_alone(lambda: f(x))
    sizes = {
        "`node(1)`, bytes": bytes_each(lambda: trace.node(1), 2_000),
        "output node of a bundle, bytes": bytes_each(lambda: f(x), 2_000),
    }
    trace.GRAPH.clear()
    return timed, sizes


def in_child(code: str, limit_s: float = 600.0) -> str | None:
    """What a piece of this module prints in a fresh interpreter; None if it used more CPU time than the limit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else None


def backward_of_ours(shape: str, n: int) -> float:
    y = shapes.build(shape, n, ta.node, ta.bundle)
    start = time.thread_time()
    graph = y.backward("feedback")
    assert len(graph.candidate) >= 1
    assert len(graph.names) >= n
    return time.thread_time() - start


def backward_of_peer(shape: str, n: int) -> None:
    """Printed by a child process."""
    from opto import trace
    from opto.trace.utils import sum_feedback

    parameters: list[Any] = []

    def node(value: Any, **about: Any) -> Any:
        made = trace.node(value, **about)
        parameters.extend([made] if about.get("trainable") else [])
        return made

    y = shapes.build(shape, n, node, trace.bundle)
    start = time.thread_time()
    y.backward("feedback")
    sum_feedback(parameters)
    print(time.thread_time() - start)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def dropped_runs(library: str, runs: int) -> None:
    """Print how much memory is left in use when runs of 2 MB are dropped and a parameter lives on."""
    if library == "ours":
        node, bundle = ta.node, ta.bundle
    else:
        from opto.trace import bundle, node
    load = bundle()(shapes.two_megabytes)
    length = bundle()(shapes.length)
    p = node(1, name="p", trainable=True)
    length(load(p))
    gc.collect()
    before = resident_mb()
    for _ in range(runs):
        length(load(p))
    gc.collect()
    print(resident_mb() - before)


def lost_by_threads(library: str) -> int:
    """Of 8 x 1,000 calls that read a closed-over parameter, how many do not know it."""
    call, knows = shapes.reader(library)
    with ThreadPoolExecutor(8) as pool:
        return sum(not knows(y) for y in pool.map(call, range(8_000)))


def lost_by_tasks(library: str) -> int:
    """Of 200 tasks, how many do not know it, or fail."""
    call, knows = shapes.async_reader(library)

    async def all_of_them() -> int:
        results = await asyncio.gather(*map(call, range(200)), return_exceptions=True)
        return sum(isinstance(y, Exception) or not knows(y) for y in results)

    return asyncio.run(all_of_them())


def import_seconds(statement: str) -> float | None:
    code = f"import time; start = time.process_time(); {statement}; print(time.process_time() - start)"
    found = [in_child(code) for _ in range(5)]
    return statistics.median(float(seconds) for seconds in found if seconds) if found[0] else None


def table(peer: bool, limit_s: float) -> list[tuple[str, str, str, str]]:
    """(what, the peer's figure, ours, ours at most)."""
    rows: list[tuple[str, str, str, str]] = []
    ours, our_sizes = calls_of_ours()
    theirs, their_sizes = calls_of_peer() if peer else ({}, {})
    for what, value in ours.items():
        limit = f"{LIMITS_US[what]:g} us" if what in LIMITS_US else ""
        rows.append((what, _us(theirs.get(what)), f"{value:.2f} us{_ratio(theirs.get(what), value)}", limit))
    for what, value in our_sizes.items():
        size = their_sizes.get(what)
        rows.append(
            (what, f"{size:,.0f}" if size else "", f"{value:,.0f}{_ratio(size, value)}", f"{LIMITS_BYTES[what]}")
        )
    for shape in shapes.SHAPES:
        value = statistics.median(backward_of_ours(shape, 10_000) for _ in range(3))
        code = f"from benchmarks.core import backward_of_peer as b; b({shape!r}, 10_000)"
        found = in_child(code, limit_s) if peer else ""
        shown = f"more than {limit_s:g} s" if found is None else _s(found)
        bound = float(found) if found else limit_s if peer else None
        sign = "" if found else "more than "
        rows.append(
            (
                f"backward and summary, 10,000 nodes: {shape}",
                shown,
                f"{value:.3f} s{_ratio(bound, value, sign)}",
                "0.05 s",
            )
        )
    rows.append(("the same, a chain of 1,000,000", "", f"{backward_of_ours('chain', 1_000_000):.2f} s", "3 s"))
    code = "from benchmarks.core import dropped_runs as d; d({!r}, 1_000)"
    left = in_child(code.format("peer")) if peer else ""
    mine = in_child(code.format("ours"))
    shown = "more than 6 GB or killed" if left is None else f"{float(left):+,.0f} MB" if left else ""
    kept = f"{float(mine or 'nan'):+,.0f} MB"
    rows.append(("memory after 1,000 dropped runs of 2 MB", shown, kept, "back to the start"))
    for what, lost in (("8 threads x 1,000 calls", lost_by_threads), ("200 tasks", lost_by_tasks)):
        rows.append(
            (f"{what} reading a closed-over parameter: lost", str(lost("peer")) if peer else "", str(lost("ours")), "0")
        )
    if peer:
        rows.append(("minimal subgraphs of 300 random graphs that differ", "", str(different_subgraphs()), "0"))
    for what, statement, other, limit in IMPORTS:
        mine, seconds = import_seconds(statement), import_seconds(f"import {other}") if peer else None
        rows.append((f"{what} (`{other}`)", _s(seconds), f"{mine or 0:.3f} s{_ratio(seconds, mine)}", limit))
    return rows


def _us(value: float | None) -> str:
    return f"{value:.1f} us" if value is not None else ""


def _s(value: Any) -> str:
    return f"{float(value):.2f} s" if value else ""


def _ratio(theirs: Any, ours: float | None, sign: str = "") -> str:
    return f" ({sign}{float(theirs) / ours:,.0f} x)" if theirs and ours else ""


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def report(rows: list[tuple[str, str, str, str]], peer: str | None) -> str:
    lines = [
        "# The tracer, measured",
        "",
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"trace-adapters {ta.__version__}, {PEER} {peer or 'not installed'}, {time.strftime('%Y-%m-%d')}. "
        "Written by `make bench-core` (`benchmarks/core.py`): CPU time, medians, the machine shared with other work.",
        "",
        f"| | {PEER} {peer or ''} | ours (ratio) | ours, at most |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "core.md")
    parser.add_argument("--peer-limit-s", type=float, default=60.0, help="CPU time the peer has for one graph")
    options = parser.parse_args()
    try:
        peer = importlib.metadata.version(PEER)
    except importlib.metadata.PackageNotFoundError:
        peer = None
    text = report(table(peer is not None, options.peer_limit_s), peer)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
