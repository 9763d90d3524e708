"""What an optimization of a chain may cost, said before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseLanguageModel

import trace_adapters as ta
from trace_adapters.extend import Estimate, Optimizer, estimate as estimate_target
from trace_adapters_langchain.chains import walk
from trace_adapters_langchain.metrics import as_metric
from trace_adapters_langchain.parts import CODE
from trace_adapters_langchain.target import LangchainTarget
from trace_adapters_langchain.traced import Traced


def estimate(
    chain: Any,
    dataset: Any,
    metric: Any,
    *,
    trainable: Any = (),
    valset: Any = None,
    inputs: str | Sequence[str] | None = None,
    optimizer: str | Optimizer | Sequence[str | Optimizer] = "optoprime",
    budget: ta.Budget | int | None = None,
    minibatch_size: int = 4,
    max_steps: int | None = None,
) -> Estimate:
    """What `optimize` with these arguments may cost at most; asks no model and runs nothing.

    `print(tal.estimate(chain, rows, metric, trainable=["prompt"], budget=300))`

    Args:
        chain: As for `optimize`, like all the others. Model calls are those of the models that stand in the chain, a
            fallback's first only; how many there are in graphs, agents and functions nobody knows.
        dataset: Examples to learn from.
        metric: Looked at, not called.
        trainable: What may change.
        valset: Examples to choose by. Default: the dataset.
        inputs: Fields of an example that the chain gets.
        optimizer: Who proposes.
        budget: Must limit the metric calls.
        minibatch_size: Examples that a step looks at.
        max_steps: Steps at most.

    Raises:
        AdapterError: If nothing is trainable.
        SettingError: If an option cannot work, or the budget does not limit the metric calls.
        DataError: If an example lacks what the chain takes.
    """
    as_metric(metric)
    target = LangchainTarget(chain, trainable, inputs=inputs)
    rows = target.rows(dataset, "dataset")
    return estimate_target(
        target,
        rows,
        rows if valset is None else target.rows(valset, "valset"),
        prompts=None if target.has_hidden_parts else _prompts(target.traced),
        optimizer=optimizer,
        budget=budget,
        minibatch_size=minibatch_size,
        max_steps=max_steps,
    )


def _prompts(traced: Traced) -> list[str] | None:
    """What the models of a chain are told, the first of them all texts of the chain; None if it has no model."""
    parts = [part for path, part in walk(traced.chain) if _runs(path)]
    models = sum(isinstance(part, BaseLanguageModel) for part in parts)
    found = [one for part in parts for one in traced.inventory.found if one.owner is part and one.part.kind != CODE]
    return ["\n".join(_text(one.part.value) for one in found), *[""] * (models - 1)] if models else None


def _runs(path: Sequence[tuple[str, Any]]) -> bool:
    """Whether a part runs if nothing fails and nobody chooses another."""
    return all(kind != "alternative" and (kind != "attempt" or which == 1) for kind, which in path)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
