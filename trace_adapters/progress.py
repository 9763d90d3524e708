"""What a person sees of a long run: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from trace_adapters.search.budget import Meter

QUIET_S = 60.0  # where lines stay, the longest silence while runs end


class Progress:
    """Shows best score, judged runs, tokens and what is left of the budget; a context manager.

    Args:
        name: The study.
        meter: Read for what is spent.
        enabled: Show nothing if False.
        stream: Default standard error, so that a program's own output stays clean.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        meter: Meter,
        *,
        enabled: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._meter = meter
        self._enabled = enabled
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._now = clock
        self._started = self._said = clock()
        self._best: float | None = None
        self._doing = "starting"
        self._judged = self._failed = self._trials = 0

    def __enter__(self) -> Progress:
        if self._enabled and self._console.is_terminal:
            self._live = Live(self._line(), console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Take note of an event; safe to call from several threads."""
        with self._lock:
            self._count(kind, facts)
            if not self._enabled:
                return
            if self._live is not None:
                self._live.update(self._line())
            text = self._news(kind, facts)
            if text:
                self._said = self._now()
                self._console.print(Text(text), soft_wrap=True)

    def _count(self, kind: str, facts: Mapping[str, Any]) -> None:
        if kind == "judged":
            self._judged += 1
            self._failed += facts.get("error") is not None
            self._doing = f"running {facts['split']} examples"
        elif kind == "propose":
            self._doing = f"step {facts['step']}: {facts['optimizer']} proposes"
        elif kind == "waiting":
            self._doing = "interrupted: the last runs end"
        elif kind == "trial":
            self._trials += 1
            if facts["accepted"]:
                self._best = facts["score"]

    def _news(self, kind: str, facts: Mapping[str, Any]) -> str:
        """The lines that stay; on a terminal only what matters, elsewhere every step."""
        if kind == "trial" and facts["accepted"]:
            return f"{self._clock()} trial {facts['number']} ({facts['origin']}): best score {facts['score']:.3f}"
        if kind == "stopped":
            best = "none" if self._best is None else f"{self._best:.3f}"
            return f"{self._clock()} {self._name}: stopped ({facts['reason']}); best {best}; {self._spent()}"
        if kind == "waiting":
            runs = "1 run" if facts["runs"] == 1 else f"{facts['runs']} runs"
            return f"{self._clock()} interrupted: waiting for {runs} in flight; Ctrl-C again leaves at once"
        if self._live is not None:
            return ""
        if kind == "trial":
            return f"{self._clock()} trial {facts['number']} ({facts['origin']}): not kept, {_scores(facts)}"
        if kind == "propose":
            return f"{self._clock()} step {facts['step']}: {facts['optimizer']} proposes; {self._spent()}"
        if kind == "rejected":
            return f"{self._clock()} step {facts['step']}: proposal rejected: {_first_line(facts['reason'])}"
        if kind == "judged" and self._now() - self._said >= QUIET_S:
            return f"{self._clock()} {self._name}: {self._doing}; {self._spent()}"
        return ""

    def _line(self) -> Text:
        best = "-" if self._best is None else f"{self._best:.3f}"
        return Text(f"{self._name} · best {best} · {self._doing} · {self._trials} trials · {self._spent()}")

    def _spent(self) -> str:
        parts = [f"{self._judged} runs ({self._failed} failed)", f"{self._meter.tokens} tokens"]
        if self._meter.usd:
            parts.append(f"${self._meter.usd:.4f}")
        left = self._meter.left()
        if "metric_calls" in left:
            parts.append(f"{left['metric_calls']:.0f} metric calls left{self._time_left(left['metric_calls'])}")
        if "wall_s" in left:
            parts.append(f"{max(0.0, left['wall_s']):.0f} s left")
        return ", ".join(parts)

    def _time_left(self, calls_left: float) -> str:
        if self._judged < 5:
            return ""
        seconds = calls_left * (self._now() - self._started) / self._judged
        return f" (at most {seconds / 60:.0f} min)"

    def _clock(self) -> str:
        seconds = int(self._now() - self._started)
        return f"[{seconds // 60:02d}:{seconds % 60:02d}]"


def _scores(facts: Mapping[str, Any]) -> str:
    metrics = facts.get("metrics") or {}
    shown = f"minibatch {metrics.get('minibatch', 0):.2f} against {metrics.get('minibatch_parent', 0):.2f}"
    return shown if facts["score"] is None else f"{shown}, validation {facts['score']:.3f}"


def _first_line(text: Any) -> str:
    return str(text).strip().splitlines()[0][:200] if str(text).strip() else "no reason given"
