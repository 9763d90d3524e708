"""One request to a model for new values, and its replies as proposals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trace_adapters.lm.messages import sendable
from trace_adapters.lm.replies import LanguageModel, Reply
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.base import Proposal, canonical
from trace_adapters.optimizers.memory import REPEATED, Memory
from trace_adapters.optimizers.replies import Reading, read_reply


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        messages: The prompt.
        names: The names in the prompt of the parameters that may be given a value.
        base: Parameter key -> current value, all keys.
        tag: The tag in which values are asked for.
        options: Options of the model call.
        around: Name -> (text before, text after) of a value of which only a part is asked for.
    """

    messages: Sequence[Mapping[str, str]]
    names: Mapping[str, Parameter]
    base: Mapping[str, Any]
    tag: str
    options: Mapping[str, Any] = field(default_factory=dict)
    around: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One reply to a question, as it came and as it was read."""

    reply: Reply
    reading: Reading


def ask(lm: LanguageModel, question: Question, memory: Memory, *, n: int, seed: int, origin: str) -> list[Proposal]:
    """Ask for n samples and read each; usable ones first, and none twice."""
    proposals = []
    seen: set[str] = set()
    for sample in samples(lm, question, n=n, first=seed * n):
        reading = sample.reading
        candidate = None if reading.rejected else {**question.base, **reading.values}
        known = None if reading.rejected else repeated(candidate or {}, memory, seen)
        rejected = reading.rejected or known
        seen.add(canonical(candidate))
        proposal = _proposal(reading, sample.reply, None if rejected else candidate, rejected, origin)
        proposals.append(replace(proposal, repeats=reading.repeats or known is not None))
    return sorted(proposals, key=lambda proposal: proposal.candidate is None)


def samples(lm: LanguageModel, question: Question, *, n: int, first: int) -> list[Sample]:
    """The samples `first`, `first` + 1, … of the replies to a question."""
    messages, options = sendable([dict(message) for message in question.messages]), sendable(dict(question.options))
    replies = lm(messages, n=n, role="optimizer", sample_index=first, **options)
    return [Sample(reply, _read(reply, question)) for reply in replies]


def repeated(candidate: Mapping[str, Any], memory: Memory, seen: set[str]) -> str | None:
    """The reason to reject values that another sample of the step has, or that were tried before; None if neither."""
    if canonical(dict(candidate)) in seen:
        return f"{REPEATED}are the same as those of another sample of this step."
    tried = memory.find(candidate)
    if tried is None:
        return None
    score = "without a score" if tried.score is None else f"with score {tried.score:.3g}"
    return f"{REPEATED}were tried before, {score}."


def _read(reply: Reply, question: Question) -> Reading:
    return read_reply(
        sendable(reply.text),
        question.names,
        question.base,
        tag=question.tag,
        cut_off=reply.finish_reason in ("length", None),  # a model that does not say why it ended may be cut off
        around=question.around,
    )


def _proposal(
    reading: Reading, reply: Reply, candidate: dict[str, Any] | None, rejected: str | None, origin: str
) -> Proposal:
    usage = reply.usage
    return Proposal(
        candidate, origin, reading.reasoning, rejected, reply.text, usage.prompt_tokens, usage.completion_tokens
    )
