"""What an optimizer is: the protocol, its currency, the verbs of the article on top."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from trace_adapters.errors import SettingError
from trace_adapters.nodes import Node, Parameter, keyed
from trace_adapters.optimizers.printing import printed_calls
from trace_adapters.showing import repr_of
from trace_adapters.traces import Feedback, TraceGraph, backward


@dataclass(frozen=True)
class Proposal:
    """New values for the parameters, or the reason why there are none.

    Attributes:
        candidate: Every key of the base -> value; None if rejected.
        origin: The optimizer's name.
        reasoning: What the model said before the values.
        rejected: Why the reply was not usable, as a sentence that the model can learn from; None if it was.
        reply: The model's text as it came; empty if no model was asked.
        prompt_tokens: Of the request; a request with several samples counts on the first; None if unknown.
        completion_tokens: Of this reply; None if unknown.
        examples: Ids of the training examples that the values quote (`TraceGraph.info["example_id"]`); the proposal
            is not compared on these.
        repeats: Whether the reply was rejected only because it gives values that are known already.
    """

    candidate: dict[str, Any] | None
    origin: str
    reasoning: str = ""
    rejected: str | None = None
    reply: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    examples: tuple[str, ...] = ()
    repeats: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a proposal.

    Attributes:
        candidate: Parameter key -> value; None if the proposal was rejected unread.
        origin: The name of the optimizer that made it.
        score: Higher is better; None if it was not judged.
        accepted: Whether it is the base from now on.
        feedback: What was said of its outputs.
        rejected: The proposal's reason, if it was rejected.
        reply: The reply that was rejected.
    """

    candidate: dict[str, Any] | None
    origin: str
    score: float | None
    accepted: bool
    feedback: str = ""
    rejected: str | None = None
    reply: str = ""

    @classmethod
    def of_rejected(cls, proposal: Proposal) -> Outcome:
        """The outcome of a proposal without a candidate."""
        return cls(None, proposal.origin, None, False, "", proposal.rejected or "", proposal.reply)


@runtime_checkable
class Optimizer(Protocol):
    """Makes candidates from traces.

    All that it does is a function of its constructor's arguments, the calls of `observe` and `tell` so far, the
    arguments of `suggest` and the replies of its model. `suggest` changes nothing: what became of a proposal,
    rejections too, is learned from `tell`, so that a resumed run, which only tells, goes on as the first would have.

    A search also asks for three attributes that an optimizer may have: `default_proposals`, how many candidates to
    ask for in a step where the user does not say (else 1); `wants_traces`, how many training runs it wants to be
    given instead of a minibatch; `wants_evidence`, how many it wants to have observed, the minibatch's included.
    """

    @property
    def name(self) -> str: ...

    def suggest(
        self,
        traces: Sequence[TraceGraph],
        *,
        n: int = 1,
        base: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> list[Proposal]: ...

    def observe(self, traces: Sequence[TraceGraph]) -> None: ...

    def tell(self, outcome: Outcome) -> None: ...


class Verbs:
    """`zero_feedback`, `backward`, `step` and `propose`, for a class that has `suggest`.

    Args:
        parameters: The parameters to train; those that are not trainable are left out.

    Attributes:
        last_rejection: Why the last `step` changed nothing; None if it did, or there was none.

    Raises:
        SettingError: If none is trainable, or this is no list of parameters.
    """

    name = ""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        known = keyed(listed(parameters))
        self._by_key = {key: parameter for key, parameter in known.items() if parameter.trainable}
        if not self._by_key:
            raise SettingError(
                f"An optimizer needs at least one trainable parameter; got {list(known)!r}. "
                "Make one with node(value, trainable=True) or bundle(trainable=True)."
            )
        self._steps = 0
        self.last_rejection: str | None = None

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters that this optimizer trains."""
        return list(self._by_key.values())

    def suggest(
        self,
        traces: Sequence[TraceGraph],
        *,
        n: int = 1,
        base: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> list[Proposal]:
        """Make up to n proposals, rejected ones among them; see the classes."""
        raise NotImplementedError

    def observe(self, traces: Sequence[TraceGraph]) -> None:
        """Learn from judged runs; nothing by default."""

    def tell(self, outcome: Outcome) -> None:
        """Learn what became of a proposal; nothing by default."""

    def propose(self, traces: Sequence[TraceGraph], n: int = 4, *, seed: int = 0) -> list[dict[str, Any]]:
        """The candidates among n suggestions.

        Raises:
            SettingError: If `traces` or `n` cannot be that.
        """
        if not isinstance(traces, Sequence) or not all(isinstance(trace, TraceGraph) for trace in traces):
            raise SettingError(f"traces must be a list of what propagate() returns, got {traces!r}.")
        if not isinstance(n, int) or n < 1:
            raise SettingError(f"n must be a whole number of at least 1, got {n!r}.")
        suggestions = self.suggest(traces, n=n, seed=seed)
        return [proposal.candidate for proposal in suggestions if proposal.candidate is not None]

    def zero_feedback(self) -> None:
        """Forget the feedback that the parameters have received."""
        for parameter in self.parameters:
            parameter.zero_feedback()

    def backward(
        self, output: Node | Sequence[Node], feedback: Feedback | str | float | Sequence[Feedback | str | float]
    ) -> None:
        """Bring feedback on one output, or one feedback for each of several, to the parameters.

        Args:
            output: The judged node, or several.
            feedback: Anything that `Feedback.of` reads, for all outputs, or a list with one for each.

        Raises:
            SettingError: If there are not as many feedbacks as outputs.
            TypeError: If an output is no node, or a feedback none; nothing is brought then.
        """
        single_output = isinstance(output, Node) or not isinstance(output, Iterable)
        outputs: list[Any] = [output] if single_output else list(output)
        several = isinstance(feedback, Iterable) and not _is_one_feedback(feedback, pair=single_output)
        said: list[Any] = list(feedback) if several else [feedback] * len(outputs)  # type: ignore[arg-type]
        feedbacks = [Feedback.of(one) for one in said]
        if len(feedbacks) != len(outputs):
            raise SettingError(f"Expected one feedback for each of {len(outputs)} outputs, got {len(feedbacks)}.")
        for node, one in zip(outputs, feedbacks, strict=True):
            backward(node, one)

    def step(self, *, verbose: bool | Literal["output"] = False) -> dict[str, Any]:
        """Make one proposal from the feedback received and apply it to the parameters.

        Args:
            verbose: Print what the model is asked and what it replies; "output" prints its replies only.

        Returns:
            Parameter key -> new value of what changed; empty if the proposal was rejected. Then `last_rejection` and a
            warning say why, and the next prompt shows it.

        Raises:
            SettingError: If there has been no `backward` since `zero_feedback`, or `verbose` is something else; no
                model is asked then.
        """
        printing = printed_calls(verbose)
        traces = list({id(graph): graph for p in self.parameters for graph in p.feedback}.values())
        if not traces:
            raise SettingError(
                "step() has no feedback to work with: call backward(output, feedback) first, on an output that depends "
                f"on one of {list(self._by_key)!r}."
            )
        self.observe(traces)
        self._steps += 1
        self.last_rejection = None
        with printing:
            proposals = self.suggest(traces, n=1, base=own_values(self.parameters), seed=self._steps)
        for proposal in proposals:
            if proposal.candidate is None:
                self.tell(Outcome.of_rejected(proposal))
                self.last_rejection = proposal.rejected
                continue
            self.last_rejection = None
            return self._apply(proposal.candidate, traces)
        if self.last_rejection:
            message = f"The proposal of {self.name or type(self).__name__} was not used: {self.last_rejection}"
            warnings.warn(message, stacklevel=2)
        return {}

    def _apply(self, candidate: Mapping[str, Any], traces: Sequence[TraceGraph]) -> dict[str, Any]:
        before = own_values(self.parameters)
        self.tell(Outcome(before, self.name, mean_score(traces), False, joined_feedback(traces)))
        changed = {
            key: candidate[key] for key, value in before.items() if key in candidate and not same(value, candidate[key])
        }
        for key, value in changed.items():
            self._by_key[key].data = value
        return changed


def listed(parameters: Any) -> list[Any]:
    """The members of what must be a list of parameters.

    Raises:
        SettingError: If it is something else, with what was meant, if that can be told.
    """
    hint = ""
    if isinstance(parameters, Node):
        hint = " For a single one write [parameter]."
    elif isinstance(parameters, Mapping):
        hint = " Of a mapping give its .values()."
    elif callable(getattr(parameters, "parameters", None)):
        hint = " Give its .parameters()."
    elif isinstance(parameters, Iterable) and not isinstance(parameters, (str, bytes)):
        return list(parameters)
    raise SettingError(f"An optimizer takes a list of parameters, got {parameters!r}.{hint}")


def _is_one_feedback(value: Any, *, pair: bool) -> bool:
    """Whether something iterable is one feedback, not one for each output; a pair may be (score, text)."""
    if isinstance(value, tuple):
        return pair and len(value) == 2
    return isinstance(value, (str, bytes, Mapping, Node, Feedback)) or hasattr(value, "score")


def own_values(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Parameter key -> its value in force here."""
    return {parameter.key: parameter.read()._data for parameter in parameters}


def base_values(
    parameters: Iterable[Parameter], traces: Sequence[TraceGraph], base: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The values that proposals start from: given, else recorded in the traces, else the parameters' own."""
    values = own_values(parameters)
    if base is None:
        for trace in traces:
            values.update(trace.candidate)
    return {**values, **(base or {})}


def mean_score(traces: Sequence[TraceGraph]) -> float | None:
    """The mean of the scores that are known."""
    scores = [trace.feedback.score for trace in traces if trace.feedback.score is not None]
    return sum(scores) / len(scores) if scores else None


def joined_feedback(traces: Sequence[TraceGraph]) -> str:
    """The different texts of feedback, one a line."""
    return "\n".join(dict.fromkeys(trace.feedback.text for trace in traces if trace.feedback.text))


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same for a parameter: type and content, `1` is not `True` nor `1.0`."""
    return canonical(left) == canonical(right)


def canonical(value: Any) -> str:
    """A text that is equal for equal values; JSON where the value has one."""
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError):
        return repr_of(value)
