"""TextGrad's own names, bound to our optimizers for a while."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trace_adapters.extend import Usage
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.optimizer import TextualGradientDescent, TextualGradientDescentwithMomentum
from trace_adapters_textgrad.training import FEEDBACK, Options, Step

_STANDS_FOR = "_stands_for"


@dataclass
class Session:
    """What was learned while TextGrad's names were ours.

    Attributes:
        optimizer: The optimizer that stood behind them.
        steps: What every `step()` did, in the order in which they ended.
    """

    optimizer: str
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._forks = Path(tempfile.mkdtemp(prefix="trace-adapters-"))

    def add(self, step: Step) -> None:
        """Keep a step; one of a forked process is left for this one to read."""
        if os.getpid() != self._process:
            with (
                suppress(FileNotFoundError),  # the session is over there
                (self._forks / str(os.getpid())).open("a", encoding="utf-8") as file,
            ):
                file.write(f"{json.dumps(asdict(step))}\n")
            return
        with self._lock:
            self.steps.append(step)

    def collect(self) -> None:
        """Read what forked processes left, those of the lowest number first."""
        if os.getpid() != self._process:
            return
        for path in sorted(self._forks.glob("*"), key=lambda path: int(path.name)):
            lines = path.read_text(encoding="utf-8").splitlines()
            self.steps += [_read_step(json.loads(line)) for line in lines]
        shutil.rmtree(self._forks, ignore_errors=True)

    @property
    def calls(self) -> int:
        """Model calls of the optimizer."""
        return sum(step.calls for step in self.steps)

    @property
    def textgrad_calls(self) -> int:
        """Model calls that TextGrad's backward passes and its steps would have made on these losses."""
        return sum(step.textgrad_calls for step in self.steps)

    @property
    def usage(self) -> Usage:
        """The tokens of the calls."""
        total = Usage(0, 0, None, 0.0)
        for step in self.steps:
            total = total + step.usage
        return total

    @property
    def estimated(self) -> bool:
        """Whether some tokens are estimates, because the engine does not say them."""
        return any(step.estimated for step in self.steps)

    def __str__(self) -> str:
        if not self.steps:
            return "No step was made with our optimizers."
        about = "about " if self.estimated else ""
        changed = sum(bool(step.changed) for step in self.steps)
        return (
            f"{_counted(len(self.steps), 'step')}, {changed} with new values: {_counted(self.calls, 'model call')} of "
            f"the optimizer, {about}{self.usage.prompt_tokens:,} tokens in and {self.usage.completion_tokens:,} out. "
            f"TextGrad's own would have made {_counted(self.textgrad_calls, 'call')}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON data."""
        usage = self.usage
        return {
            "optimizer": self.optimizer,
            "steps": len(self.steps),
            "calls": self.calls,
            "textgrad_calls": self.textgrad_calls,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "tokens_estimated": self.estimated,
            "each": [asdict(step) for step in self.steps],
        }

    def write(self, path: str | Path) -> None:
        """Write `as_dict` as a JSON file."""
        Path(path).write_text(json.dumps(self.as_dict(), ensure_ascii=False, indent=1), encoding="utf-8")


@contextmanager
def patched(
    optimizer: str = "optoprime",
    *,
    feedback: str | Callable[[Any], Any] = FEEDBACK,
    on_error: str = "skip",
    memory: int | None = None,
    max_prompt_tokens: int = 16_000,
) -> Iterator[Session]:
    """Let code that uses TextGrad's optimizers use ours, as it is.

    `textgrad.TGD`, `TextualGradientDescent` and the variant with momentum are ours inside, in every module that has
    imported them by then, for all threads. Integers of numpy make Variables, with a warning, where TextGrad refuses
    them. Afterwards everything is as before; optimizers made inside go on.

    Args:
        optimizer: "optoprime" or "textgrad", as in `training.Options`.
        feedback: As in `training.Options`.
        on_error: As in `training.Options`.
        memory: As in `training.Options`.
        max_prompt_tokens: As in `training.Options`.

    Yields:
        The session, which counts what was asked.
    """
    session = Session(optimizer)
    options = Options(
        optimizer,
        feedback,
        on_error,
        memory=memory,
        max_prompt_tokens=max_prompt_tokens,
        on_step=session.add,
        lenient=on_error == "skip",
    )
    ours = {
        shims.TextualGradientDescent: TextualGradientDescent,
        shims.TextualGradientDescentwithMomentum: TextualGradientDescentwithMomentum,
    }
    swaps = {theirs: _with_defaults(kind, options, theirs) for theirs, kind in ours.items()}
    back = {kind: getattr(shims.optimizers, theirs.__name__) for theirs, kind in swaps.items()}
    try:
        with (
            shims.replaced(*_bindings(lambda kind: swaps.get(_stands_for(kind)))),
            shims.taking_foreign_integers(),
            shims.telling_of_spawned_processes(),
        ):
            yield session
    finally:
        for module, name, kind in _bindings(back.get):  # in modules that were imported inside
            setattr(module, name, kind)
        session.collect()


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _read_step(data: dict[str, Any]) -> Step:
    return Step(**{**data, "usage": Usage(**data["usage"]), "rejected": tuple(data["rejected"])})


def _with_defaults(kind: Any, options: Options, theirs: Any) -> Any:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, "defaults": options, _STANDS_FOR: theirs})


def _bindings(replacement: Callable[[type], Any]) -> list[tuple[Any, str, Any]]:
    """(module, name, replacement) wherever a module of others holds a class that has one."""
    found = []
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("trace_adapters_textgrad"):
            continue
        try:
            names = vars(module)
        except TypeError:  # some libraries put other things than modules there
            continue
        kinds = [(name, value) for name, value in list(names.items()) if isinstance(value, type)]
        found += [(module, name, replacement(kind)) for name, kind in kinds if replacement(kind) is not None]
    return found


def _stands_for(kind: type) -> Any:
    """TextGrad's class, of one that another `patched` put in its place; any other class itself."""
    return vars(kind).get(_STANDS_FOR, kind)
