"""What a call of learned code costs in each sandbox, against running it here and against other sandboxes.

    python -m benchmarks.sandbox [--calls 2000] [--write]      (make bench-sandbox)

CPU time is that of the host's thread and of the worker process together: what a call costs on a machine that is busy
with other things too. Wall time is the median, and the tenth percentile, which is closer to a quiet machine.
`--write` writes `benchmarks/results/sandbox.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from trace_adapters.code import load_function
from trace_adapters.errors import SandboxUnavailable
from trace_adapters.sandbox import SandboxPool

RESULTS = Path(__file__).parent / "results" / "sandbox.md"
SOURCE = """
def extract_answer(response):
    found = re.findall(r"[Aa]nswer\\s*(?:is|:)\\s*([^.\\n]+)", response)
    return found[-1].strip() if found else response.strip().split("\\n")[-1]
"""
RESPONSE = "Let us think step by step. " * 28 + "\nSo the answer is: (B) no."
ASKING = "def f(x):\n    return ask(x)\n"
FAILING = "def f(x):\n    return x[9999]\n"
MOST_ABOVE_US, MOST_START_MS = 60.0, 100.0


@dataclass(frozen=True)
class Row:
    """One measurement, in microseconds; NaN where it cannot be said."""

    name: str
    cpu: float
    median: float
    tenth: float
    note: str = ""


def measure(name: str, call: Callable[[], object], calls: int, pid: int | None = None, alone: bool = False) -> Row:
    """Time a call `calls` times; `pid` is the worker whose CPU time counts, too. `alone`: there is no worker."""
    for _ in range(min(calls, 20)):
        call()
    walls, cpus = [], []
    for _ in range(20):
        start = _cpu(pid)
        for _ in range(max(calls // 20, 1)):
            began = time.perf_counter()
            call()
            walls.append(time.perf_counter() - began)
        cpus.append((_cpu(pid) - start) / max(calls // 20, 1))
    walls.sort()
    cpu = statistics.median(cpus) * 1e6 if alone or pid is not None else float("nan")
    return Row(name, cpu, walls[len(walls) // 2] * 1e6, walls[len(walls) // 10] * 1e6)


def plain_rows(calls: int) -> list[Row]:
    direct = load_function(SOURCE, "extract_answer", {"re": re})
    return [
        measure("plain call in this process", lambda: direct(RESPONSE), calls, alone=True),
        measure("`exec` of the source at each call", executed, calls, alone=True),
        measure("a new interpreter (`python -I -S`) at each call", new_interpreter, 40),
    ]


def pool_rows(sandbox: str, calls: int) -> list[Row]:
    with SandboxPool(sandbox=sandbox) as pool:
        try:
            level = pool.level()
        except SandboxUnavailable as error:
            return [Row(f'`sandbox="{sandbox}"`', *[float("nan")] * 3, f"not here: {error}")]
        shown = f'`sandbox="{sandbox}"` ({level})'

        def run(text: str, name: str, **around: Any) -> Callable[[], object]:
            return lambda: pool.run(text, name, [RESPONSE], **around)

        call = run(SOURCE, "extract_answer", imports={"re": "re"})
        rows = [measure(shown, call, calls, _worker_of(pool, call))]
        asking = run(ASKING, "f", uses={"ask": lambda text: text})
        rows.append(measure(f"{shown}, with one callback", asking, calls, _worker_of(pool, asking)))
        failing = run(FAILING, "f")

        def fail() -> None:
            with suppress(IndexError):
                failing()

        rows.append(measure(f"{shown}, an exception", fail, calls, _worker_of(pool, fail)))
    return rows


def start_row(sandbox: str) -> Row:
    def fresh() -> None:
        with SandboxPool(sandbox=sandbox) as pool:
            pool.run(SOURCE, "extract_answer", [RESPONSE], imports={"re": "re"})

    try:
        return measure(f'start and first call, `sandbox="{sandbox}"`', fresh, 40, alone=True)
    except SandboxUnavailable as error:
        return Row(f'start, `sandbox="{sandbox}"`', *[float("nan")] * 3, f"not here: {error}")


def deno_row() -> Row:
    """DSPy's own interpreter, Pyodide in Deno."""
    name = "DSPy's `PythonInterpreter` (Pyodide in Deno)"
    program = (
        "import time, dspy\nstart = time.perf_counter()\n"
        "with dspy.PythonInterpreter() as run:\n"
        f"    source = {'import re' + SOURCE!r} + 'extract_answer(response)'\n"
        f"    call = lambda: run.execute(source, variables={{'response': {RESPONSE!r}}})\n"
        "    call()\n    print('first', time.perf_counter() - start)\n"
        "    times = []\n    for _ in range(100):\n        t = time.perf_counter()\n        call()\n"
        "        times.append(time.perf_counter() - t)\n"
        "    times.sort()\n    print('calls', times[50], times[10])\n"
    )
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        return Row(name, *[float("nan")] * 3, "did not start in 180 s")
    found = re.findall(r"(?m)^(?:first|calls) (.+)$", done.stdout)
    if len(found) == 2:
        median, tenth = (float(part) * 1e6 for part in found[1].split())
        return Row(name, float("nan"), median, tenth, f"first call after {float(found[0]):.1f} s")
    said = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in done.stderr.splitlines() if "rror" in line]
    failed = next((line for line in said if line.startswith("error: Import")), said[-1] if said else "no Deno")
    return Row(
        name, *[float("nan")] * 3, f"did not run: it loads modules over the network at its start ({failed[:160]})"
    )


def raw_monty_row(calls: int) -> Row:
    name = "pydantic-monty used directly, one session"
    try:
        import pydantic_monty
    except ImportError:
        return Row(name, *[float("nan")] * 3, "not installed")
    with pydantic_monty.Monty() as monty, monty.checkout(limits={"max_suspensions": 2**31 - 1}) as session:
        session.feed_run("import re" + SOURCE)
        call = lambda: session.feed_run("extract_answer(text)", inputs={"text": RESPONSE})  # noqa: E731
        return measure(name, call, calls, session.worker_pid)


def executed() -> object:
    names: dict[str, object] = {"re": re}
    exec(SOURCE, names)  # noqa: S102  (what is measured)
    return names["extract_answer"](RESPONSE)  # type: ignore[operator]


def new_interpreter() -> None:
    program = f"import re, sys\n{SOURCE}\nprint(extract_answer(sys.stdin.read()))"
    subprocess.run([sys.executable, "-I", "-S", "-c", program], input=RESPONSE, text=True, capture_output=True)


def report(rows: list[Row], starts: list[Row]) -> str:
    plain = rows[0]
    found = next(row for row in rows if row.name.startswith('`sandbox="auto"`'))
    above, start = found.cpu - plain.cpu, starts[0]
    lines = [
        "# What the sandbox costs",
        "",
        f"{_machine()}. Written by `make bench-sandbox` (`benchmarks/sandbox.py`) on {date.today()}; load average "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: other programs used the machine, so CPU time (of the "
        "host's thread and the worker together, where the worker's can be read) says more than wall time.",
        "",
        f"One call of `extract_answer`, a regular expression over {len(RESPONSE)} characters, in microseconds.",
        "",
        "| | CPU | wall, median | wall, tenth percentile | |",
        "|---|--:|--:|--:|---|",
        *(_line(row, 1) for row in rows),
        "",
        "Start, in milliseconds, of the host's CPU time and the wall:",
        "",
        "| | CPU of the host | wall, median | wall, tenth percentile | |",
        "|---|--:|--:|--:|---|",
        *(_line(row, 1e-3) for row in starts),
        "",
        f"- Above the plain call: {above:.0f} us of CPU, {found.median - plain.median:.0f} us of wall time in the "
        f"median, {found.tenth - plain.tenth:.0f} us in the tenth percentile (wanted: at most {MOST_ABOVE_US:.0f} us).",
        f"- Start with the first call: {start.median / 1e3:.0f} ms in the median, {start.tenth / 1e3:.0f} ms in the "
        f"tenth percentile (wanted: at most {MOST_START_MS:.0f} ms).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    rows = plain_rows(options.calls)
    for sandbox in ("auto", "bwrap", "monty"):
        rows += pool_rows(sandbox, options.calls)
    rows += [raw_monty_row(options.calls), deno_row()]
    text = report(rows, [start_row(sandbox) for sandbox in ("auto", "bwrap", "monty")])
    print(text)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, encoding="utf-8")


def _cpu(pid: int | None) -> float:
    own = time.thread_time()
    return own if pid is None else own + time.clock_gettime((~pid << 3) | 2)  # a process's CPU clock, on Linux


def _worker_of(pool: SandboxPool, call: Callable[[], object]) -> int | None:
    """The process that served the last call, if it is one whose clock can be read."""
    call()
    latest = max((w for workers in pool._idle.values() for w in workers), key=lambda worker: worker.last_used)
    process = getattr(latest, "_process", None)
    if process is not None and "bwrap" not in (pool.known_level or ""):
        return int(process.pid)
    session = getattr(latest, "_session", None)
    return None if session is None else session.worker_pid


def _line(row: Row, scale: float) -> str:
    cells = ["" if value != value else f"{value * scale:,.1f}" for value in (row.cpu, row.median, row.tenth)]
    return f"| {row.name} | {' | '.join(cells)} | {row.note} |"


def _machine() -> str:
    cpu = platform.processor() or platform.machine()
    with suppress(OSError):
        cpu = next(
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
    versions = [f"Linux {platform.release()}" if sys.platform == "linux" else platform.platform()]
    versions.append(f"Python {platform.python_version()}")
    for name in ("trace-adapters", "pydantic-monty", "dspy", "deno"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    bwrap = shutil.which("bwrap")
    if bwrap:
        versions.append(subprocess.run([bwrap, "--version"], capture_output=True, text=True).stdout.strip())
    return f"{cpu}; {', '.join(versions)}"


if __name__ == "__main__":
    main()
