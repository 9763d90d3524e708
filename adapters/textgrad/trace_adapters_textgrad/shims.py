"""TextGrad, imported without side effects, and what differs between its versions."""

from __future__ import annotations

import logging
import numbers
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from trace_adapters_textgrad.telling import tell

LOG_DIR = "TEXTGRAD_LOG_DIR"
PRICES = "LITELLM_LOCAL_MODEL_COST_MAP"


def load_textgrad() -> Any:
    """Import TextGrad; if nobody has yet and no log folder is chosen, without leaving a folder behind.

    On import TextGrad opens a log in `./logs`, and the client library it brings fetches a price list.
    """
    os.environ.setdefault(PRICES, "True")
    if find_spec("textgrad") is None:
        raise ModuleNotFoundError(
            "TextGrad is not installed here; pip install 'trace-adapters[textgrad]'.", name="textgrad"
        )
    if "textgrad" in sys.modules or LOG_DIR in os.environ:
        return import_module("textgrad")
    folder = tempfile.mkdtemp(prefix="textgrad-")
    os.environ[LOG_DIR] = folder
    try:
        return import_module("textgrad")
    finally:
        del os.environ[LOG_DIR]
        _close_logs(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _close_logs(folder: str) -> None:
    logger = logging.getLogger("textgrad")
    for handler in list(logger.handlers):
        if isinstance(handler, logging.FileHandler) and handler.baseFilename.startswith(os.path.abspath(folder)):
            logger.removeHandler(handler)
            handler.close()


tg = load_textgrad()
Variable: Any = tg.Variable
optimizers: Any = import_module("textgrad.optimizer.optimizer")
EngineLM: Any = tg.EngineLM
ENGINES: Any = (EngineLM, import_module("textgrad.engine_experimental.base").EngineLM)  # two bases that are not kin
StringBasedFunction: Any = import_module("textgrad.autograd").StringBasedFunction
Module: Any = import_module("textgrad.autograd.function").Module
Function: Any = import_module("textgrad.autograd.function").Function

_CLIENTS = ("anthropic", "cohere", "groq", "httpx", "litellm", "openai", "together")
_OF_THE_PROMPT = ("BadRequestError", "ContextWindowExceededError", "UnprocessableEntityError")  # it may be too long

# As TextGrad has them, whoever replaces them later.
Optimizer: Any = optimizers.Optimizer
TextualGradientDescent: Any = optimizers.TextualGradientDescent
TextualGradientDescentwithMomentum: Any = optimizers.TextualGradientDescentwithMomentum
OPTIMIZER_SYSTEM_PROMPT: str = optimizers.OPTIMIZER_SYSTEM_PROMPT
NEW_VARIABLE_TAGS = ("<IMPROVED_VARIABLE>", "</IMPROVED_VARIABLE>")


def model_failure(error: BaseException) -> BaseException | None:
    """The error of a model's server, key or address behind an exception; None if the program itself is at fault."""
    current: BaseException | None = error
    for _ in range(10):  # engines wrap what their client raised, and try again
        if current is None:
            return None
        kinds = type(current).__mro__
        if any(kind.__module__.partition(".")[0] in _CLIENTS for kind in kinds):
            return None if any(kind.__name__ in _OF_THE_PROMPT for kind in kinds) else current
        attempt = getattr(current, "last_attempt", None)
        current = attempt.exception() if attempt is not None else current.__cause__
    return None


@contextmanager
def taking_foreign_integers() -> Iterator[None]:
    """Let Variables be made of integers that are not Python's own, as numpy's are.

    TextGrad 0.1.8 refuses them, its later sources take them; its own data sets have them.
    """
    original = Variable.__init__
    warned: list[bool] = []

    def initialize(self: Any, value: Any = "", *args: Any, **kwargs: Any) -> None:
        try:
            original(self, value, *args, **kwargs)
        except AssertionError:
            if isinstance(value, int) or not isinstance(value, numbers.Integral):
                raise
            if not warned:  # Python's own filter repeats itself where many threads warn at once
                warned.append(True)
                _warn_of_integer(value)
            original(self, int(value), *args, **kwargs)

    with replaced((Variable, "__init__", initialize)):
        yield


@contextmanager
def telling_of_spawned_processes() -> Iterator[None]:
    """Warn once when a process is spawned: it imports TextGrad anew, and knows nothing of what was replaced here."""
    spawn = import_module("multiprocessing.spawn")
    original = spawn.get_preparation_data
    told: list[str] = []

    def prepare(name: str) -> Any:
        if not told:
            told.append(name)
            tell(
                "A process is spawned: TextGrad's optimizers in it are TextGrad's own. Start processes by 'fork' "
                "(multiprocessing.set_start_method), or use threads."
            )
        return original(name)

    with replaced((spawn, "get_preparation_data", prepare)):
        yield


@contextmanager
def replaced(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """Attributes with other values for a while: (owner, name, value)."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in places]
    try:
        for owner, name, value in places:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)


def replace_method(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a method in the place of another for good."""
    setattr(owner, name, make(getattr(owner, name)))


def _warn_of_integer(value: Any) -> None:
    tell(
        f"This version of TextGrad makes no Variable of a {type(value).__module__}.{type(value).__name__}; "
        "it was made of the same int instead."
    )
