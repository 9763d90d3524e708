"""What an optimization is given, read and checked before anything is written."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from trace_adapters.errors import DataError, MetricError, ParameterError, SettingError, StoreError
from trace_adapters.study.schema import NAME_LENGTH
from trace_adapters.study.store import Store
from trace_adapters.study.values import candidate_key, require_name
from trace_adapters.targets import ASYNC_METRIC, Target


def require_kinds(metric: Any, store: Any, study: Any, executor: Any, objective: Any, listener: Any) -> None:
    """Refuse options of a wrong kind, which would be noticed only later.

    Raises:
        SettingError: Naming the option.
        MetricError: If the metric is async.
    """
    if not callable(metric):
        raise SettingError(f"metric must be a function of (example, output), got {metric!r}.")
    if inspect.iscoroutinefunction(metric) or inspect.iscoroutinefunction(type(metric).__call__):
        raise MetricError(ASYNC_METRIC)
    if not isinstance(store, str | os.PathLike | Store):
        raise SettingError(f"store must be a URL, a path or a ta.Store, got {store!r}.")
    if study is not None and not (isinstance(study, str) and study):
        raise SettingError(f"study must be a name, got {study!r}; leave it out to get one.")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise SettingError(f"executor must have submit(), as those of concurrent.futures, got {executor!r}.")
    if isinstance(executor, ProcessPoolExecutor):
        raise SettingError("executor must run jobs in this process, as a ThreadPoolExecutor does, not in others.")
    if objective is not None and not isinstance(objective, str):
        raise SettingError(f"objective must be a text, got {objective!r}.")
    if listener is not None and not callable(listener):
        raise SettingError(f"listener must be a function of (kind, facts), got {listener!r}.")


def read_examples(examples: Any, name: str) -> list[Any]:
    """The examples of a set, read once.

    Raises:
        DataError: If there is none, or this is no sequence.
    """
    if isinstance(examples, str | bytes | Mapping):
        raise DataError(f"{name} must be a sequence of examples, got a single {type(examples).__name__}.")
    try:
        found = list(examples)
    except TypeError as error:
        raise DataError(f"{name} must be a sequence of examples, got {examples!r}.") from error
    if not found:
        raise DataError(f"{name} is empty; give at least one example.")
    return found


def require_usable(target: Target, examples: Sequence[Any], name: str) -> None:
    """Refuse examples that the program cannot take, or that the study could not tell apart.

    Raises:
        DataError: Naming the examples.
    """
    check: Callable[[Any], None] = getattr(target, "check_example", lambda _: None)
    for example in examples:
        check(example)
    _require_own_ids(target, examples, name)


def require_kept(base: Mapping[str, Any]) -> None:
    """Refuse values that a study would give back as others.

    Raises:
        ParameterError: If one is no JSON, or has a tuple in it, of which JSON makes a list.
    """
    candidate_key(base)
    for key, value in base.items():
        if json.loads(json.dumps(value)) != value:
            raise ParameterError(
                f"The value of {key!r} would become {json.loads(json.dumps(value))!r} in a study; "
                f"it is {value!r}. Use lists instead of tuples."
            )


def digest_of(target: Target, *splits: Sequence[Any]) -> str:
    """What tells whether a resumed run has the same examples."""
    names = [[target.example_id(e, n) + target.example_text(e) for n, e in enumerate(split)] for split in splits]
    return hashlib.sha256(repr(names).encode()).hexdigest()[:16]


def _require_own_ids(target: Target, examples: Sequence[Any], name: str) -> None:
    """Refuse different examples with one id: an example runs once, and the others would get its score."""
    met: dict[str, tuple[int, str]] = {}
    for position, example in enumerate(examples):
        key, text = target.example_id(example, position), target.example_text(example)
        try:
            require_name("its id", key, NAME_LENGTH)
        except StoreError as error:
            raise DataError(f"Example {position + 1} of {name} cannot be kept: {error}.") from error
        first, known = met.setdefault(key, (position, text))
        if text != known:
            raise DataError(
                f"Examples {first + 1} and {position + 1} of {name} differ, and both have the id {key!r}; give each an "
                "id of its own, or none."
            )
