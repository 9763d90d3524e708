"""What every target and every optimizer must keep, as checks that strangers can call in their tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, cast

from trace_adapters.errors import ParameterError
from trace_adapters.lm.ledger import CallRecord, hearing
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.base import Optimizer, Outcome
from trace_adapters.targets import BatchTarget, Run, Target
from trace_adapters.traces import TraceGraph, propagate


def check_target(
    target: Target, example: Any, metric: Callable[..., Any], changed: Mapping[str, Any], failing: Mapping[str, Any]
) -> None:
    """Check an adapter's side of a program.

    Args:
        target: The program, as the loop sees it.
        example: One on which the program runs, with its own values and with `changed`.
        metric: Judges the program.
        changed: Values of some parameters that change the output.
        failing: Values under which the program raises.

    Raises:
        AssertionError: Naming the promise that is broken.
    """
    base = _check_parameters(target)
    before = _check_run(target, base, example, metric)
    after = _check_run(target, {**base, **changed}, example, metric)
    _require(after.output != before.output, "another candidate gives another output")
    again = target.run(base, example)
    _require(again.output == before.output, "a candidate leaves nothing behind for the next run")
    _check_failure(target, {**base, **failing}, example, metric)
    _check_values(target, base, changed)
    if getattr(target, "batches", False):
        _check_batch(cast(BatchTarget, target), {**base, **changed}, {**base, **failing}, example, after.output)
    name = target.example_id(example, 0)
    _require(name == target.example_id(example, 0) and isinstance(name, str), "an example's id is a stable text")
    _require(isinstance(target.example_text(example), str), "an example has a readable text")


def check_optimizer(make: Callable[[], Optimizer], traces: Sequence[TraceGraph], base: Mapping[str, Any]) -> None:
    """Check an optimizer.

    Args:
        make: Makes one anew; with the same replies from its model each time.
        traces: Judged runs.
        base: Parameter key -> current value; proposals hold all of these keys.

    Raises:
        AssertionError: Naming the promise that is broken.
    """
    optimizer = make()
    optimizer.observe(traces)
    kept = dict(base)
    proposals = optimizer.suggest(traces, n=3, base=base, seed=1)
    _require(dict(base) == kept, "suggest() does not change the base")
    _require(len(proposals) <= 3, "suggest() makes at most n proposals")
    for proposal in proposals:
        _require((proposal.candidate is None) == (proposal.rejected is not None), "no candidate has a reason, and v.v.")
        if proposal.candidate is not None:
            _require(set(base) <= set(proposal.candidate), "a candidate holds every key of the base")
            json.dumps(proposal.candidate)
    other = make()
    other.observe(traces)
    repeated = other.suggest(traces, n=3, base=base, seed=1)
    _require([p.candidate for p in repeated] == [p.candidate for p in proposals], "the same calls, the same proposals")
    for proposal in proposals:
        optimizer.tell(Outcome(proposal.candidate, proposal.origin, 0.0, False))


def _check_parameters(target: Target) -> dict[str, Any]:
    parameters = target.parameters()
    _require(bool(parameters), "a target has parameters")
    for key, parameter in parameters.items():
        _require(isinstance(parameter, Parameter) and parameter.key == key, f"the parameter {key!r} knows its key")
        _require(parameter.trainable, f"the parameter {key!r} is trainable")
    _require(list(target.parameters()) == list(parameters), "parameters come in a stable order")
    return {key: parameter.data for key, parameter in parameters.items()}


def _check_run(target: Target, candidate: Mapping[str, Any], example: Any, metric: Callable[..., Any]) -> Run:
    run = target.run(candidate, example)
    _require(run.error is None and not run.node.failed, f"the program runs, and did not: {run.error!r}")
    feedback = target.judge(metric, example, run)
    _require(feedback.score is not None, "a judged run has a score")
    graph = propagate(run.node, feedback)
    _require(bool(graph.parameters), "the trace leads from the output to a parameter")
    for key, value in graph.candidate.items():
        _require(value == candidate[key], f"the trace shows the value of {key!r} that was used")
    _require(TraceGraph.from_json(graph.to_json()).to_json() == graph.to_json(), "the trace survives JSON")
    return run


def _check_failure(target: Target, candidate: Mapping[str, Any], example: Any, metric: Callable[..., Any]) -> None:
    run = target.run(candidate, example)
    _require(run.error is not None and run.node.failed, "a program that raises gives a failed run")
    feedback = target.judge(metric, example, run)
    _require(feedback.score == 0.0 and bool(feedback.text), "a failed run scores 0 and says why")
    _require(bool(propagate(run.node, feedback).parameters), "a failed run leads to the parameters that caused it")


def _check_batch(
    target: BatchTarget, changed: Mapping[str, Any], failing: Mapping[str, Any], example: Any, output: Any
) -> None:
    heard: list[CallRecord] = []
    runs = target.run_batch(changed, [example] * 3, [hearing(heard.append) for _ in range(3)])
    _require(len(runs) == 3, "a batch has a run for each example")
    for run in runs:
        _require(isinstance(run, Run) and run.output == output, "a batch gives what single runs give")
    calls = len(heard)
    alone: list[CallRecord] = []
    hearing(alone.append).run(target.run, changed, example)
    _require(calls == 3 * len(alone), "the model calls of a batch are heard in the contexts of its examples")
    for run in target.run_batch(failing, [example] * 2, [copy_context() for _ in range(2)]):
        _require(isinstance(run, Run) and run.node.failed, "a program that raises gives failed runs, in a batch too")


def _check_values(target: Target, base: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    program = target.program
    copied = target.with_values({**base, **changed})
    _require(copied is not program, "with_values() gives a copy")
    _require({k: p.data for k, p in target.parameters().items()} == dict(base), "the user's program is not changed")
    try:
        target.with_values({"no such parameter": 1})
    except ParameterError:
        return
    _require(False, "an unknown key is refused with ParameterError")


def _require(condition: bool, promise: str) -> None:
    if not condition:
        raise AssertionError(f"broken promise: {promise}")
