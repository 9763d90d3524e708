"""What an optimization may cost, said before anything is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trace_adapters.errors import SettingError
from trace_adapters.lm.messages import count_tokens
from trace_adapters.search.budget import Budget
from trace_adapters.targets import Target


@dataclass(frozen=True)
class Estimate:
    """What an optimization may cost at most.

    Attributes:
        metric_calls: Judged runs of the program.
        program_calls: Calls of the program's language models, if every one is asked once a run; None if that is
            unknown.
        prompt_tokens: Rough, of these calls, as the prompts are now.
        optimizer_calls: Questions to the optimizer's model; None if that is unknown: "textgrad" asks about every call
            of a run, and an optimizer of your own as it likes.
        keys: The parameters that would be trained.
    """

    metric_calls: int
    program_calls: int | None
    prompt_tokens: int | None
    optimizer_calls: int | None
    keys: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        tokens = "" if self.prompt_tokens is None else f" ({self.prompt_tokens} prompt tokens)"
        about = "" if self.program_calls is None else "about "
        return (
            f"at most {self.metric_calls} runs of the program with {about}{_number(self.program_calls)} model calls"
            f"{tokens}, and {_number(self.optimizer_calls)} optimizer calls; training {', '.join(self.keys)}"
        )


def estimate(
    target: Target,
    trainset: Sequence[Any],
    valset: Sequence[Any],
    *,
    prompts: Sequence[str] | None,
    optimizer: Any,
    budget: Budget | int | None,
    minibatch_size: int,
    max_steps: int | None,
) -> Estimate:
    """What `optimize` with these arguments may cost at most; asks no model and runs nothing.

    Args:
        target: The program.
        trainset: Examples to learn from.
        valset: Examples to choose by.
        prompts: What each call of a language model in a run is told, without the example; None if nobody knows.
        optimizer: As for `optimize`, like the rest.
        budget: Must limit the metric calls.
        minibatch_size: Training examples that a step looks at.
        max_steps: Steps at most.

    Raises:
        SettingError: If the budget does not limit the metric calls.
    """
    limits = Budget.default(len(valset)) if budget is None else Budget.of(budget)
    runs = limits.metric_calls
    if runs is None:
        raise SettingError("Only a budget with metric_calls can be estimated.")
    examples = [count_tokens(target.example_text(example)) for example in (*trainset, *valset)]
    mean = sum(examples) / max(1, len(examples))
    steps = runs // (2 * minibatch_size)
    steps = steps if max_steps is None else min(steps, max_steps)
    calls = None if prompts is None else runs * len(prompts)
    tokens = None if prompts is None else int(runs * sum(count_tokens(prompt) + mean for prompt in prompts))
    return Estimate(runs, calls, tokens, _optimizer_calls(optimizer, steps), list(target.parameters()))


def _optimizer_calls(optimizer: Any, steps: int) -> int | None:
    is_one = isinstance(optimizer, str) or not isinstance(optimizer, Sequence)
    asks = {"optoprime": steps, "demos": 0}
    asked = [asks.get(one) if isinstance(one, str) else None for one in ([optimizer] if is_one else optimizer)]
    known = [calls for calls in asked if calls is not None]
    return max(known) if known and len(known) == len(asked) else None


def _number(count: int | None) -> str:
    return "an unknown number of" if count is None else str(count)
