"""What it costs to observe a LangChain chain, beside the tracers of LangChain, LangSmith and OpenInference.

`make bench-langchain` installs the peers in a virtual environment of their own and writes `results/langchain.md`. A
chain of three steps with a fake model; CPU time of the process, medians over interleaved rounds, and of the
differences within each, so that all have the same weather. OpenInference changes LangChain for the whole process and
is measured in one of its own, beside a bare chain there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import trace_adapters as ta
import trace_adapters_langchain as tal
from benchmarks.core import processor, resident_mb

ROOT = Path(__file__).resolve().parent.parent
LIMITS_US = {"off": 20.0, "record": 50.0, "node": 250.0}
INPUT = {"question": "What is 2 + 2?"}
ROUNDS, CALLS = 25, 100

Ways = Mapping[str, Callable[[], Any]]


def strip(text: str) -> str:
    return text.strip()


def make_chain() -> Any:
    from langchain_core.language_models.fake import FakeListLLM
    from langchain_core.prompts import PromptTemplate
    from langchain_core.runnables import RunnableLambda

    return PromptTemplate.from_template("Q: {question}") | FakeListLLM(responses=[" four "]) | RunnableLambda(strip)


def plain_python() -> str:
    return strip(" four " if "Q: {question}".format(**INPUT) else "")


def interleaved(ways: Ways, rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, list[float]]:
    """Way -> microseconds of CPU time a call, one figure a round."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for call in ways.values():
        for _ in range(20):
            call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in ways.items():
                start = time.process_time()
                for _ in range(calls):
                    call()
                found[name].append((time.process_time() - start) / calls * 1e6)
            gc.collect()
    finally:
        gc.enable()
    return found


def our_ways(chain: Any, traced: Any) -> dict[str, Callable[[], Any]]:
    def record() -> None:
        with tal.record():
            chain.invoke(INPUT)

    return {
        "bare": lambda: chain.invoke(INPUT),
        "off": lambda: traced.invoke(INPUT),
        "record": record,
        "node": lambda: traced.node(INPUT),
    }


def peer_ways(chain: Any) -> dict[str, Callable[[], Any]]:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.tracers import BaseTracer

    class Nothing(BaseCallbackHandler):
        run_inline = True

    class Tracer(BaseTracer):
        def _persist_run(self, run: Any) -> None: ...

    ways: dict[str, Callable[[], Any]] = {
        "a handler that does nothing": lambda: chain.invoke(INPUT, {"callbacks": [Nothing()]}),
        "BaseTracer that keeps nothing": lambda: chain.invoke(INPUT, {"callbacks": [Tracer()]}),
    }
    try:
        from langchain_core.tracers import LangChainTracer
        from langsmith import Client
    except ImportError:
        return ways

    class NullClient(Client):
        def create_run(self, *args: Any, **kwargs: Any) -> None: ...

        def update_run(self, *args: Any, **kwargs: Any) -> None: ...

    client = NullClient(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
    ways["LangChainTracer of LangSmith, client that sends nothing"] = lambda: chain.invoke(
        INPUT, {"callbacks": [LangChainTracer(client=client)]}
    )
    return ways


def async_ways(chain: Any, traced: Any) -> dict[str, Callable[[], Any]]:
    loop = asyncio.new_event_loop()
    return {
        "bare": lambda: loop.run_until_complete(chain.ainvoke(INPUT)),
        "node": lambda: loop.run_until_complete(traced.anode(INPUT)),
    }


def batch_ways(chain: Any, traced: Any, size: int = 32) -> dict[str, Callable[[], Any]]:
    inputs = [INPUT] * size
    return {"bare": lambda: chain.batch(inputs), "node": lambda: traced.node_batch(inputs)}


def openinference() -> None:
    """Print how much a call costs with OpenInference's instrumentation, and bare before it. In a process of its own."""
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class NullExporter(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    chain = make_chain()
    bare = interleaved({"bare": lambda: chain.invoke(INPUT)})["bare"]
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(NullExporter()))
    LangChainInstrumentor().instrument(tracer_provider=provider)
    seen = interleaved({"seen": lambda: chain.invoke(INPUT)})["seen"]
    print(statistics.median(bare), statistics.median(seen))


def memory(calls: int) -> None:
    """Print how much memory is in use after a tenth of the calls and after all of them."""
    traced = tal.trace(make_chain())
    sizes = []
    for number in range(1, calls + 1):
        traced.node(INPUT)
        if number in (calls // 10, calls):
            gc.collect()
            sizes.append(resident_mb())
    print(*sizes)


def in_child(statement: str) -> list[float] | None:
    code = f"from benchmarks import langchain as b; b.{statement}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()] if done.returncode == 0 else None


def row(what: str, found: list[float], bare: list[float], limit: float | None = None) -> str:
    more = statistics.median(one - base for one, base in zip(found, bare, strict=True))
    most = f"{limit:+,.0f} us" if limit is not None else ""
    return f"| {what} | {statistics.median(found):,.0f} us | {more:+,.0f} us | {most} |"


def report(calls: int) -> str:
    chain = make_chain()
    traced = tal.trace(chain)
    ways = {"plain Python doing the same": plain_python, **our_ways(chain, traced), **peer_ways(chain)}
    found = interleaved(ways)
    bare = found.pop("bare")
    names = {
        "off": "ours: `traced.invoke`, not recording",
        "record": "ours: recording (`with tal.record():`)",
        "node": "ours: `traced.node`, recorded and made into a graph with its parameters",
    }
    rows = [row("the chain, bare", bare, bare)]
    rows += [row(names.get(name, name), values, bare, LIMITS_US.get(name)) for name, values in found.items()]
    other = in_child("openinference()")
    if other is not None:
        rows.append(row("OpenInference and OpenTelemetry, null exporter (own process)", [other[1]], [other[0]]))
    for what, more in (("`ainvoke`", async_ways(chain, traced)), ("one input of `batch`, 32 of them", None)):
        size = 1 if more is not None else 32
        measured = interleaved(more or batch_ways(chain, traced), calls=CALLS if size == 1 else 5)
        each = {name: [value / size for value in values] for name, values in measured.items()}
        rows += [row(f"{what}, bare", each["bare"], each["bare"]), row(f"{what}, as nodes", each["node"], each["bare"])]
    sizes = in_child(f"memory({calls})")
    if sizes is not None:
        rows.append(
            f"| memory after {calls // 10:,} and after {calls:,} nodes, none kept | {sizes[0]:,.0f} and "
            f"{sizes[1]:,.0f} MB | {sizes[1] - sizes[0]:+,.1f} MB | flat |"
        )
    return "\n".join([*heading(), "| | a call | more than bare | at most |", "|---|---|---|---|", *rows]) + "\n"


def heading() -> list[str]:
    packages = ("langchain-core", "langsmith", "openinference-instrumentation-langchain", "opentelemetry-sdk")
    there = [f"{name} {version}" for name in packages if (version := _version(name)) is not None]
    return [
        "# Observing LangChain, measured",
        "",
        f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"trace-adapters {ta.__version__}, {', '.join(there)}, {time.strftime('%Y-%m-%d')}. Written by "
        "`make bench-langchain` (`benchmarks/langchain.py`): a prompt, a fake model and a function; CPU time of the "
        f"process, medians of {ROUNDS} interleaved rounds of {CALLS} calls, the machine shared with other work.",
        "",
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "langchain.md")
    parser.add_argument("--memory-calls", type=int, default=100_000)
    options = parser.parse_args()
    text = report(options.memory_calls)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
