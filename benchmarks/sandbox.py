"""What a call in the sandbox costs, against the same call in this process and in a new interpreter.

    python benchmarks/sandbox.py [--calls 3000]

Prints microseconds per call: the median and the tenth percentile, the latter being closer to a quiet machine.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable

from trace_adapters.code import load_function
from trace_adapters.sandbox import SandboxPool

SOURCE = """
def extract_answer(response):
    found = re.findall(r"[Aa]nswer\\s*(?:is|:)\\s*([^.\\n]+)", response)
    return found[-1].strip() if found else response.strip().split("\\n")[-1]
"""
RESPONSE = "Let us think step by step. " * 28 + "\nSo the answer is: (B) no."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3_000)
    calls = parser.parse_args().calls
    with SandboxPool() as pool:
        print(f"level: {pool.level()}; Python {sys.version.split()[0]}; {len(RESPONSE)} characters in")
        direct = load_function(SOURCE, "extract_answer", {"re": re})
        names = {"re": "re"}
        show("in process, loaded once", lambda: direct(RESPONSE), calls)
        show("in process, exec at each call", lambda: executed(RESPONSE), calls)
        sandboxed = lambda: pool.run(SOURCE, "extract_answer", [RESPONSE], imports=names)  # noqa: E731
        show("sandbox, warm", sandboxed, calls)
        ask = {"ask": lambda text: text}
        asking = "def f(x):\n    return ask(x)\n"
        show("sandbox, with one callback", lambda: pool.run(asking, "f", [RESPONSE], uses=ask), calls)
        failing = "def f(x):\n    return x[9999]\n"
        show("sandbox, an exception", lambda: caught(pool, failing), calls)
        show("sandbox, a new worker", lambda: fresh(), max(calls // 150, 5))
        show("a new interpreter", new_interpreter, max(calls // 150, 5))


def show(name: str, call: Callable[[], object], calls: int) -> None:
    call()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    times.sort()
    print(f"{name:32s} median {times[calls // 2] * 1e6:10.1f} us   10% {times[calls // 10] * 1e6:10.1f} us")


def executed(response: str) -> object:
    names: dict[str, object] = {"re": re}
    exec(SOURCE, names)  # noqa: S102  (what is measured)
    return names["extract_answer"](response)  # type: ignore[operator]


def caught(pool: SandboxPool, text: str) -> None:
    try:
        pool.run(text, "f", [RESPONSE])
    except IndexError:
        return


def fresh() -> None:
    with SandboxPool() as pool:
        pool.run(SOURCE, "extract_answer", [RESPONSE], imports={"re": "re"})


def new_interpreter() -> None:
    program = f"import re, sys\n{SOURCE}\nprint(extract_answer(sys.stdin.read()))"
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], input=RESPONSE, text=True, capture_output=True, check=True
    )


if __name__ == "__main__":
    main()
