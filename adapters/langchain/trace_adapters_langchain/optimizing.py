"""`optimize`: one call on an existing chain."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import trace_adapters as ta
from trace_adapters.extend import Optimizer
from trace_adapters_langchain.metrics import as_metric
from trace_adapters_langchain.target import TIMEOUT_S, LangchainTarget


def optimize(
    chain: Any,
    dataset: Any,
    metric: Any,
    *,
    trainable: Any = (),
    valset: Any = None,
    inputs: str | Sequence[str] | None = None,
    config: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    timeout_s: float | None = TIMEOUT_S,
    trust: str | None = None,
    batch: bool | None = None,
    optimizer: str | Optimizer | Sequence[str | Optimizer] = "optoprime",
    search: str = "greedy",
    lm: Any = None,
    store: str | os.PathLike[str] | ta.Store = "sqlite:///study.db",
    study: str | None = None,
    resume: bool = False,
    budget: ta.Budget | int | None = None,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    minibatch_size: int = 4,
    proposals: int | None = None,
    max_steps: int | None = None,
    patience: int = 8,
    full_score: float = 1.0,
    objective: str | None = None,
    sandbox: str | None = None,
    progress: bool = True,
    listener: Callable[[str, Mapping[str, Any]], None] | None = None,
    return_result: bool = False,
) -> Any:
    """Optimize what is named of a chain, from its own prompts on.

    `better = tal.optimize(chain, rows, metric, trainable=["prompt", "code"], lm="gpt-4o-mini")`

    Args:
        chain: A runnable, or what `tal.trace` made of one; never changed.
        dataset: Examples to learn from: dicts with the chain's inputs and what the metric wants beside them; dicts or
            objects with `inputs` and `outputs`, as LangSmith has them; or a data frame.
        metric: A function of (example, output) that returns a score, (score, text) or `ta.Feedback`; a function with
            the arguments of LangSmith's evaluators; or an evaluator object of LangSmith or LangChain.
        trainable: Kinds, names or globs, as for `tal.trace`, and what `tal.trainable` and `tal.middleware` made; the
            rest stays as it is.
        valset: Examples to choose by. Default: the dataset.
        inputs: Fields of an example that the chain gets, or the one whose value it gets. Default: what it says.
        config: The `RunnableConfig` of each run, or a function that makes one.
        timeout_s: Wall-clock limit of a run; None for none. A run over it fails, with that as feedback.
        trust: "sandbox" (the default) or "in-process": where functions run that a model wrote.
        batch: Whether `workers` examples of a candidate run as one batch of the chain. Default: if a model in it has a
            batch of its own, such as one request for many prompts; else side by side, none waiting for another.
        optimizer: See `ta.optimize`, like all that follows. "demos" fills few-shot examples from runs that went well.
        search: Which candidate next.
        lm: The optimizer's model; a LangChain chat model will do.
        store: Where everything is written as it happens.
        study: Name in the store.
        resume: Go on with that study.
        budget: Hard limits.
        seed: The same seed with the same replies gives the same trials.
        workers: Runs side by side, or in a batch.
        executor: Runs them instead.
        minibatch_size: Examples that a step looks at.
        proposals: Candidates asked for in a step.
        max_steps: Steps at most.
        patience: Steps without a new candidate after which the search ends.
        full_score: The score that cannot be improved.
        objective: What to achieve, in words.
        sandbox: Where learned functions run that choose none themselves.
        progress: Show progress.
        listener: Called with (kind, facts) for everything that happens.
        return_result: Return a pair, the chain and the `ta.Result` with scores, best values and study.

    Returns:
        A plain chain of the same type with the best values. Functions
        that a model wrote ran in the sandbox so far; in the plain chain they are functions of your process: read them
        first, in the result's `best.candidate`, or by `trace-adapters show`.
        `tal.trace(chain, trainable=…).with_values(…)` of it keeps them there.

    Raises:
        AdapterError: If nothing is trainable.
        SettingError: If `trainable` names what is not there, or an option cannot work.
        DataError: If an example lacks what the chain takes; no model has been called then.
        MetricError: If the metric fails: the study keeps what was done.
        ModelError: If a model fails: go on later with `resume=True`.
    """
    chosen = [optimizer] if isinstance(optimizer, str) or not isinstance(optimizer, Sequence) else optimizer
    target = LangchainTarget(
        chain,
        trainable,
        inputs=inputs,
        config=config,
        timeout_s=timeout_s,
        trust=trust,
        batch=batch,
        demonstrations=any(one == "demos" or isinstance(one, ta.Demonstrations) for one in chosen),
    )
    result = ta.optimize(
        target,
        target.rows(dataset, "dataset"),
        as_metric(metric),
        valset=None if valset is None else target.rows(valset, "valset"),
        optimizer=optimizer,
        search=search,
        lm=lm,
        store=store,
        study=study,
        resume=resume,
        budget=budget,
        seed=seed,
        workers=workers,
        executor=executor,
        minibatch_size=minibatch_size,
        proposals=proposals,
        max_steps=max_steps,
        patience=patience,
        full_score=full_score,
        objective=objective,
        sandbox=sandbox,
        progress=progress,
        listener=listener,
    )
    return (result.program, result) if return_result else result.program
