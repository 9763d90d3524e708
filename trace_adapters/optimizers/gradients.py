"""What feedback on outputs says of the values before them, call by call: textual gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from trace_adapters.context import carry_context
from trace_adapters.nodes import Node, Parameter, Value
from trace_adapters.optimizers.base import same
from trace_adapters.threads import threads
from trace_adapters.traces import Feedback, TraceGraph

T = TypeVar("T")
R = TypeVar("R")

Criticize = Callable[[Node, Node, str], str]
"""(a call, one of its inputs, what was said of its output) -> what is to be said of the input; empty for nothing."""


class Each(Protocol):
    """Applies a function to every item, possibly side by side; the results are in the items' order."""

    def __call__(self, function: Callable[[T], R], items: Sequence[T], /) -> list[R]: ...


@dataclass(frozen=True)
class Gradient:
    """What should change about a value.

    Attributes:
        text: In words.
        call: The call through which it came; the value itself if it was the judged output.
    """

    text: str
    call: Node


def gradients(
    traces: Sequence[TraceGraph], parameters: Iterable[Parameter], criticize: Criticize, each: Each
) -> dict[Parameter, list[Gradient]]:
    """Carry the feedback on outputs back to parameters (textual gradients, arXiv 2406.07496 sec. 2).

    The feedback on an output is its gradient. Every call on the way hands on what was said of its output to each of
    its inputs that some parameter went into: by one `criticize`, with everything said of the output together. A call
    that only put its inputs together (see `only_joins`) hands it on unchanged. Traces that share nodes are walked
    together: a shared call is asked about once. Inputs of which nothing was said cost nothing.

    Args:
        traces: Judged runs.
        parameters: The parameters that gradients are wanted for.
        criticize: Asked once for every edge that leads to a parameter.
        each: Runs the edges of one level; calls of one level do not depend on each other.

    Returns:
        Parameter -> its gradients, of the first trace first; parameters that got none are left out.
    """
    nodes = _leading(traces, set(parameters))
    said: dict[Node, list[Gradient]] = {node: [] for node in nodes}
    for trace in traces:
        text = feedback_text(trace.feedback)
        if text and trace.output in said:
            said[trace.output].append(Gradient(text, trace.output))
    for level in levels(nodes):
        heard = {call: join(said[call]) for call in level if said[call]}
        joining = {call for call in heard if only_joins(call)}
        edges = [(call, source) for call in heard for source in dict.fromkeys(call.sources) if source in said]
        asked = [(call, source, heard[call]) for call, source in edges if call not in joining]
        replies = iter(each(lambda edge: criticize(*edge), asked))
        for call, source in edges:
            text = heard[call] if call in joining else next(replies).strip()
            if text:
                said[source].append(Gradient(text, call))
    return _of_parameters(said)


def levels(nodes: Sequence[Node]) -> list[list[Node]]:
    """The nodes by the longest way to an output, outputs first.

    Args:
        nodes: Parents before children.
    """
    depth: dict[Node, int] = dict.fromkeys(nodes, 0)
    for node in reversed(nodes):
        for source in node.sources:
            if source in depth:
                depth[source] = max(depth[source], depth[node] + 1)
    found: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node in nodes:
        found[depth[node]].append(node)
    return found


def only_joins(call: Node) -> bool:
    """Whether a call gave its inputs back as they were: as texts one after another, or as a list or mapping of them.

    Then what is said of the output is said of each input: `+` of texts, a sum of losses, an output with two parts.
    """
    if call.failed or not call.sources or (call.operation is not None and call.operation.language_model):
        return False
    given = [source._data for source in call.sources]
    made = call._data
    if isinstance(made, str):
        return bool(made.strip()) and all(isinstance(g, str) for g in given) and _letters(made) == _letters(*given)
    parts = list(made.values()) if isinstance(made, Mapping) else made
    if not isinstance(parts, (list, tuple)) or len(parts) < len(given):
        return False
    return all(any(same(one, part) for part in parts) for one in given)


def one_call(call: Node, said: str) -> TraceGraph:
    """A call alone, with its inputs, as a trace that was judged so."""
    sources = list(dict.fromkeys(call.sources))
    values = [source for source in sources if isinstance(source, Value)]
    given = [source for source in sources if not isinstance(source, Value)]
    return TraceGraph([*values, call], given, call, Feedback(None, said))


def feedback_text(feedback: Feedback) -> str:
    """Score and text of a metric's feedback as one text; empty if it says nothing."""
    lines = [] if feedback.score is None else [f"Score: {feedback.score:g}"]
    return "\n".join([*lines, feedback.text] if feedback.text.strip() else lines)


def join(said: Iterable[Gradient]) -> str:
    """What was said of one value as one text, each thing once."""
    texts = list(dict.fromkeys(gradient.text for gradient in said))
    return texts[0] if len(texts) == 1 else "\n".join(f"- {text}" for text in texts)


@contextmanager
def in_threads(workers: int) -> Iterator[Each]:
    """Work on several items at a time, each under the context variables that hold here.

    When one fails, those that have not begun are dropped, and its error is raised.
    """
    with threads(workers, "textgrad") as pool:

        def each(function: Callable[[T], R], items: Sequence[T], /) -> list[R]:
            if workers == 1 or len(items) < 2:
                return [function(item) for item in items]
            return list(pool.map(carry_context(function), items))

        yield each


def _leading(traces: Sequence[TraceGraph], parameters: set[Parameter]) -> list[Node]:
    """The nodes between these parameters and the outputs, parents first."""
    reached: dict[Node, None] = {}
    for trace in traces:
        for node in trace.nodes:
            mine = isinstance(node, Value) and node.parameter in parameters
            if mine or any(source in reached for source in node.sources):
                reached[node] = None
    return list(reached)


def _of_parameters(said: Mapping[Node, Sequence[Gradient]]) -> dict[Parameter, list[Gradient]]:
    found: dict[Parameter, list[Gradient]] = {}
    for node, gradients in said.items():
        if isinstance(node, Value) and gradients:
            found.setdefault(node.parameter, []).extend(gradients)
    return found


def _letters(*texts: Any) -> str:
    return "".join("".join(texts).split())
