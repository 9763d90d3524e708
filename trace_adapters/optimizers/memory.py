"""What an optimizer remembers of past proposals, and how it tells a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_adapters.lm.messages import count_tokens
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.base import Outcome, canonical, same
from trace_adapters.optimizers.budget import WHOLE, cut_middle
from trace_adapters.optimizers.report import tagged

REPEATED = "These values "  # how the reason begins when a reply only repeats what is known
_QUOTED_REPLY = 600  # characters of a rejected reply that are shown again


class Memory:
    """What became of past proposals, in order.

    Args:
        size: How many outcomes are shown, and how many rejections; 0 shows none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries: list[Outcome] = []

    def tell(self, outcome: Outcome) -> None:
        """Remember an outcome."""
        self.entries.append(outcome)

    def find(self, candidate: Mapping[str, Any]) -> Outcome | None:
        """The outcome of a candidate with the same values, if it was tried."""
        wanted = canonical(dict(candidate))
        tried = (o for o in reversed(self.entries) if o.candidate is not None)
        return next((o for o in tried if canonical(o.candidate) == wanted), None)

    def about(self, key: str, name: str, base: Mapping[str, Any]) -> Memory:
        """What is remembered of one parameter: its other values, and replies that named it.

        Args:
            key: The parameter's key.
            name: Its name in prompts.
            base: Parameter key -> current value.
        """
        found = Memory(self.size)
        found.entries = [outcome for outcome in self.entries if concerns(outcome, key, name, base)]
        return found

    def since_accepted(self) -> list[Outcome]:
        """The entries after the last one that was accepted."""
        positions = [position for position, outcome in enumerate(self.entries) if outcome.accepted]
        return self.entries[positions[-1] + 1 :] if positions else self.entries

    def rejections(self) -> list[Outcome]:
        """The latest replies that could not be used, each reason once; at most `size`."""
        kept = [o for o in self.entries if o.candidate is None and not (o.rejected or "").startswith(REPEATED)]
        latest: dict[str | None, Outcome] = {}
        for outcome in kept:
            latest.pop(outcome.rejected, None)
            latest[outcome.rejected] = outcome
        return list(latest.values())[-self.size :] if self.size else []

    def outcomes(self, base: Mapping[str, Any]) -> list[Outcome]:
        """The latest outcomes of values that differ from `base`, each candidate once; at most `size`."""
        latest: dict[str, Outcome] = {}
        for outcome in self.entries:
            if outcome.candidate is not None and _differs(outcome.candidate, base):
                key = canonical(outcome.candidate)
                latest.pop(key, None)
                latest[key] = outcome
        return list(latest.values())[-self.size :] if self.size else []

    def text(self, names: Mapping[str, Parameter], base: Mapping[str, Any], *, tag: str, max_tokens: int) -> str:
        """The latest entries that fit, oldest first; empty if there are none.

        Of past values only those are shown that differ from the current ones. Values are never cut, long feedback
        and reasons lose their middle; an entry that does not fit is left out.
        """
        entries = [_outcome_text(o, names, base, tag) for o in self.outcomes(base)]
        entries += [_rejection_text(o) for o in self.rejections()]
        chosen: list[str] = []
        for entry in reversed(entries):
            tokens = count_tokens(entry) + 1
            if tokens <= max_tokens:
                max_tokens -= tokens
                chosen.insert(0, entry)
        return "\n\n".join(chosen)


def concerns(outcome: Outcome, key: str, name: str, base: Mapping[str, Any]) -> bool:
    """Whether an outcome is one of another value of a parameter, or of a reply that named it."""
    if outcome.candidate is None:
        return f'name="{name}"' in outcome.reply
    return key in outcome.candidate and not same(outcome.candidate[key], base.get(key))


def _differs(values: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    return any(not same(value, base.get(key)) for key, value in values.items())


def _outcome_text(outcome: Outcome, names: Mapping[str, Parameter], base: Mapping[str, Any], tag: str) -> str:
    score = "not scored" if outcome.score is None else f"score {outcome.score:.3g}"
    verdict = "kept" if outcome.accepted else "not kept"
    lines = [f"## Tried: {score}, {verdict}"]
    for name, parameter in names.items():
        value = (outcome.candidate or {}).get(parameter.key, base.get(parameter.key))
        if not same(value, base.get(parameter.key)):
            lines.append(tagged(name, value, tag))
    if outcome.feedback:
        lines.append(f"Feedback: {cut_middle(outcome.feedback, WHOLE)}")
    return "\n".join(lines)


def _rejection_text(outcome: Outcome) -> str:
    lines = ["## A reply that could not be used", f"Reason: {cut_middle(outcome.rejected or '', WHOLE)}"]
    if outcome.reply:
        quoted = cut_middle(outcome.reply.strip(), _QUOTED_REPLY)
        lines += [f"> {line}" for line in quoted.splitlines()]
    return "\n".join(lines)
