"""Recording anything that runs in a block: chains called inside functions, agents, graphs, all unmodified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trace_adapters import DataError, Node
from trace_adapters.extend import FailedCall
from trace_adapters_langchain.lifting import Lifting, given
from trace_adapters_langchain.recording import RecordedRun, Recorder, active, recording


class Tape:
    """What ran in a `record` block."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def runs(self) -> list[RecordedRun]:
        """Every run, in the order in which they began."""
        return list(self._recorder.runs.values())

    def nodes(self) -> list[Node]:
        """The output of each call that began in the block itself, with everything that led to it."""
        lifting = Lifting(self._recorder)
        found = []
        for run in lifting.tree.roots:
            node = lifting.run(run, None, given(run.inputs)).node()
            if not isinstance(node, FailedCall) and node._data is not run.output:
                node = Node(run.output, node._name, "", node.operation, tuple(node.recorded_inputs), node.sources)
            found.append(node)
        return found

    def node(self) -> Node:
        """The output of the last call in the block; a failed call if it raised.

        Raises:
            DataError: If nothing was called.
        """
        found = self.nodes()
        if not found:
            raise DataError("Nothing was called in the record block, or only in threads that lost the context.")
        return found[-1]


@contextmanager
def record() -> Iterator[Tape]:
    """Record what runs in the block, unmodified: `with tal.record() as tape: agent.invoke(...)`, then `tape.node()`.

    Parameters appear where a traced chain runs. Bound steps inside a map or a nested batch of an unmodified chain
    may be told as part of the wrong item: LangChain's own events say so; `trace` repairs that on a copy.
    """
    recorder = Recorder(active())
    with recording(recorder):
        yield Tape(recorder)
