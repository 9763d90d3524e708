"""Observed calls of a program that runs on plain values, turned into nodes after the run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trace_adapters.lineage import NEVER, Call, Lineage, Snapshot, snapshot
from trace_adapters.nodes import FailedCall, Node, Operation, Value

_OUTPUT = Operation("output", "What the program returned.")


class Tape:
    """The calls of one run, in the order in which they ended; may be written by many threads and tasks.

    Args:
        unpack: Shows what a value of a foreign type is made of: returns a mapping, a sequence or a plain
            value, or the value itself if it is to be kept as it is. Called for every value that is no JSON.
    """

    def __init__(self, unpack: Callable[[Any], Any] = lambda value: value) -> None:
        self.calls: list[Call] = []
        self.unpack = unpack
        self._clock = itertools.count()

    def start(
        self,
        operation: Operation,
        inputs: Mapping[str, Any],
        parameters: Sequence[tuple[str, Value]] = (),
        *,
        parent: Call | None = None,
        group: bool = False,
    ) -> Call:
        """Note that a call begins; hand what is returned to `end`."""
        given = self.snapshots(inputs)
        return Call(operation, dict(inputs), given, tuple(parameters), parent, group, next(self._clock))

    def end(
        self,
        call: Call,
        output: Any = None,
        *,
        error: BaseException | None = None,
        place: tuple[int, str] | None = None,
    ) -> None:
        """Note that a call returned `output`, or raised `error`."""
        call.output, call.made, call.error, call.place = output, snapshot(output, self.unpack), error, place
        call.ended = next(self._clock)
        self.calls.append(call)

    def add(
        self,
        operation: Operation,
        inputs: Mapping[str, Any],
        output: Any = None,
        parameters: Sequence[tuple[str, Value]] = (),
        *,
        error: BaseException | None = None,
        parent: Call | None = None,
    ) -> Call:
        """Note a call that has already ended."""
        call = self.start(operation, inputs, parameters, parent=parent)
        self.end(call, output, error=error)
        return call

    def snapshots(self, inputs: Mapping[str, Any]) -> dict[str, Snapshot]:
        """Inputs as they are now, for `node`, if the program may change them."""
        return {name: snapshot(value, self.unpack) for name, value in inputs.items()}

    def node(
        self,
        result: Any = None,
        *,
        inputs: Mapping[str, Any],
        values: Sequence[Value] = (),
        error: BaseException | None = None,
        place: tuple[int, str] | None = None,
        operation: Operation = _OUTPUT,
    ) -> Node:
        """The output of the run as a node, with everything that led to it.

        Data flow is recovered from the values: what an earlier call made is recognized by identity, then
        by equality, then by containment of text (through a node of `lineage.OWN_CODE`); what cannot be
        recognized gets edges from the latest calls through a node of `lineage.UNSEEN`.

        Args:
            result: What the program returned.
            inputs: Argument name -> value that the program was called with, or what `snapshots` made of it before.
            values: Parameters' values that the program's own code may have read, e.g. templates.
            error: The exception that ended the run; then the node is a failed call: the innermost recorded
                one that raised it, else one of `operation`, with the latest calls as its sources.
            place: Where `error` was raised, if no recorded call raised it.
            operation: What the program as a whole does.

        Time O(calls + values), plus calls x recorded texts for texts that are equal to none.
        """
        calls = sorted(self.calls, key=lambda call: call.ended)
        given = {k: v if isinstance(v, Snapshot) else snapshot(v, self.unpack) for k, v in inputs.items()}
        lineage = Lineage(given, values)
        inner = _inner_calls(calls)
        for call in calls:
            _add_node(lineage, call, inner.get(call, []))
        if error is None:
            return lineage.result(snapshot(result, self.unpack), operation)
        failed = _innermost_failure(calls, error)
        if failed is not None and failed in lineage.nodes:
            return lineage.nodes[failed]
        names, sources = lineage.latest(NEVER)
        return FailedCall(error, None, "", operation, names, sources, place=place)


def _add_node(lineage: Lineage, call: Call, inner: Sequence[Call]) -> None:
    if not call.group or not inner:
        lineage.add(call, inner)
    elif call.error is not None:
        if _innermost_failure(inner, call.error) is None:
            lineage.add(call, inner)
    elif not lineage.explains(call):
        lineage.add_result(call, inner)


def _inner_calls(calls: Sequence[Call]) -> dict[Call, list[Call]]:
    """Call -> all calls inside it, in the order in which they ended."""
    inner: dict[Call, list[Call]] = {}
    for call in calls:
        outer = call.parent
        while outer is not None:
            inner.setdefault(outer, []).append(call)
            outer = outer.parent
    return inner


def _innermost_failure(calls: Sequence[Call], error: BaseException) -> Call | None:
    for cause in _causes(error):
        for call in calls:
            if call.error is cause:
                return call
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """The exception, then those it was raised from, then those it was raised while handling."""
    found: dict[int, BaseException] = {id(error): error}
    for attribute in ("__cause__", "__context__"):
        current = getattr(error, attribute)
        while current is not None and id(current) not in found:
            found[id(current)] = current
            current = getattr(current, attribute)
    return list(found.values())
