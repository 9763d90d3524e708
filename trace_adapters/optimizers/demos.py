"""Demonstrations: a program's own successful calls, proposed as its examples without any model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trace_adapters.errors import ParameterError, SettingError
from trace_adapters.nodes import Node, Parameter, Value
from trace_adapters.optimizers.base import Outcome, Proposal, Verbs, base_values, canonical, listed
from trace_adapters.optimizers.replies import check_value
from trace_adapters.traces import TraceGraph

_DRAWS = 20  # tries to find a list that was not proposed before, for each one wanted


class Demonstrations(Verbs):
    """Fills parameters of kind "demos" with calls from runs that went well (bootstrapping).

    A demonstration is one call that read the parameter: its plain arguments, and its output (a mapping's items, or
    "output"). Values of parameters, such as instructions, are not part of it. A target may say better what a call
    looks like as an example (`Run.demonstrations`).

    Args:
        parameters: Of kind "demos", at least one; others are left out.
        max_demos: The longest list to propose.
        threshold: The score from which on a run went well.
        prefer_short: Draw short demonstrations more often: they cost tokens at every later call.

    Attributes:
        wants_traces: How many training runs this optimizer wants to have observed before it proposes.
        default_proposals: How many candidates a step should ask for.

    Raises:
        SettingError: If no parameter is of kind "demos", or an option is out of range.
    """

    name = "demos"

    def __init__(
        self,
        parameters: Iterable[Parameter],
        max_demos: int = 4,
        *,
        threshold: float = 1.0,
        prefer_short: bool = True,
    ) -> None:
        mine = [p for p in listed(parameters) if isinstance(p, Parameter) and p.kind == "demos" and p.trainable]
        if not mine:
            raise SettingError(
                'Demonstrations needs a trainable parameter of kind "demos"; got none. Its value is a list of mappings.'
            )
        if max_demos < 1:
            raise SettingError(f"max_demos must be at least 1, got {max_demos!r}.")
        super().__init__(mine)
        self.max_demos = max_demos
        self.threshold = threshold
        self.prefer_short = prefer_short
        self.wants_traces = 4 * max_demos
        self.default_proposals = 2
        self._pools: dict[str, dict[str, _Demo]] = {p.key: {} for p in self.parameters}
        self._tried: set[str] = set()

    def observe(self, traces: Sequence[TraceGraph]) -> None:
        """Collect demonstrations from the runs that went well."""
        self._collect(self._pools, traces)

    def tell(self, outcome: Outcome) -> None:
        """Note that these lists were tried."""
        if outcome.candidate is not None:
            self._tried.add(self._mine(outcome.candidate))

    def suggest(
        self,
        traces: Sequence[TraceGraph],
        *,
        n: int = 1,
        base: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> list[Proposal]:
        """Draw up to n different lists of demonstrations; fewer, or none, if not enough is known.

        Args:
            traces: Runs to draw from, beside those observed.
            n: Proposals at most.
            base: Parameter key -> current value.
            seed: Of the draws; the size, the choice and the order of the demonstrations.
        """
        pools = {key: dict(pool) for key, pool in self._pools.items()}
        self._collect(pools, traces)
        current = base_values(self.parameters, traces, base)
        seen = {*self._tried, self._mine(current)}
        rng = random.Random(f"demos:{seed}")
        proposals: list[Proposal] = []
        for _ in range(n * _DRAWS):
            if len(proposals) == n:
                break
            drawn = {key: self._draw(pool, rng) for key, pool in pools.items()}
            values = {key: [demo.value for demo in demos] for key, demos in drawn.items() if demos}
            candidate = {**current, **values}
            if not values or self._mine(candidate) in seen:
                continue
            seen.add(self._mine(candidate))
            proposals.append(self._proposal(candidate, [demo for demos in drawn.values() for demo in demos]))
        return proposals

    def _proposal(self, candidate: dict[str, Any], demos: Sequence[_Demo]) -> Proposal:
        examples = tuple(dict.fromkeys(demo.example for demo in demos if demo.example))
        for parameter in self.parameters:
            try:
                check_value(parameter, candidate[parameter.key])
            except ParameterError as error:
                return Proposal(None, self.name, rejected=f"{parameter.key}: {error}")
        return Proposal(candidate, self.name, examples=examples)

    def _mine(self, candidate: Mapping[str, Any]) -> str:
        return canonical({key: candidate.get(key) for key in self._by_key})

    def _draw(self, pool: Mapping[str, _Demo], rng: random.Random) -> list[_Demo]:
        known = sorted(pool.values(), key=lambda demo: (demo.length, canonical(demo.value)))
        largest = min(self.max_demos, len(known))
        size = max(rng.randint(1, largest), rng.randint(1, largest)) if largest else 0
        chosen: list[_Demo] = []
        for _ in range(size):
            weights = [1.0 / (rank + 2) if self.prefer_short else 1.0 for rank in range(len(known))]
            demo = rng.choices(known, weights)[0]
            known.remove(demo)
            chosen.append(demo)
        return chosen

    def _collect(self, pools: dict[str, dict[str, _Demo]], traces: Sequence[TraceGraph]) -> None:
        for trace in traces:
            score = trace.feedback.score
            if score is None or score < self.threshold:
                continue
            example = str(trace.info.get("example_id", ""))
            said = trace.info.get("demonstrations")
            if said is not None:
                for key in pools.keys() & said.keys():
                    for arguments, output in said[key]:
                        self._add(pools[key], _Demo.read(arguments, output, example))
                continue
            for node in trace.nodes:
                for source in node.sources:
                    if isinstance(source, Value) and source.parameter.key in pools:
                        self._add(pools[source.parameter.key], _Demo.of(node, example))

    def _add(self, pool: dict[str, _Demo], demo: _Demo | None) -> None:
        if demo is None:
            return
        known = pool.get(demo.inputs)
        if known is None or (demo.length, canonical(demo.value)) < (known.length, canonical(known.value)):
            pool[demo.inputs] = demo


class _Demo:
    """One demonstration.

    Args:
        value: The mapping that becomes an item of the list.
        inputs: The arguments as a canonical text: one demonstration for each.
        example: Id of the training example that it comes from.
    """

    def __init__(self, value: dict[str, Any], inputs: str, example: str) -> None:
        self.value = value
        self.inputs = inputs
        self.example = example
        self.length = len(canonical(value))

    @classmethod
    def of(cls, node: Node, example: str) -> _Demo | None:
        """The demonstration that a call gives; None if it failed or is no JSON."""
        if node.failed:
            return None
        arguments = {
            name: source._data for name, source in node.recorded_inputs.items() if not isinstance(source, Value)
        }
        output = dict(node._data) if isinstance(node._data, Mapping) else {"output": node._data}
        return cls.read(arguments, output, example)

    @classmethod
    def read(cls, arguments: Mapping[str, Any], output: Mapping[str, Any], example: str) -> _Demo | None:
        """The demonstration of given arguments and output; None if they are no JSON."""
        value = {**arguments, **output}
        try:
            if not arguments or json.loads(json.dumps(value, allow_nan=False)) != value:
                return None
        except (TypeError, ValueError, RecursionError):
            return None
        return cls(value, canonical(arguments), example)
