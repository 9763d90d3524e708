"""What the optimizers have in common that ask a language model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from trace_adapters.errors import SettingError
from trace_adapters.lm.convert import as_lm
from trace_adapters.lm.messages import count_tokens
from trace_adapters.lm.replies import LanguageModel
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.base import Outcome, Verbs, listed
from trace_adapters.optimizers.budget import show_value
from trace_adapters.optimizers.memory import Memory
from trace_adapters.optimizers.report import Report, parameter_names, write_report
from trace_adapters.optimizers.templates import fill
from trace_adapters.traces import TraceGraph

SPARE_TOKENS = 16  # of a prompt, for what stands between its parts
MEMORY_SHARE = 0.25  # of a prompt's tokens, at most


class AskingVerbs(Verbs):
    """The verbs of an optimizer with a model and a memory.

    Parameters of kind "demos" are left to `Demonstrations`: a model would have to invent the program's outputs.

    Args:
        parameters: What to train, at least one trainable.
        lm: A model, or anything that `as_lm` takes.
        objective: What better means; the default refers to the feedback.
        memory_size: How many past outcomes, and how many rejected replies, a prompt shows.
        max_prompt_tokens: Limit of a prompt's estimated length.
        profile: What the model can be asked at once. Default: the model's own profile.
        temperature: Of the model calls that propose values.

    Raises:
        SettingError: If nothing can be trained, or an option is out of range.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lm: Any,
        *,
        objective: str | None,
        memory_size: int,
        max_prompt_tokens: int,
        profile: Literal["strong", "small"] | None,
        temperature: float | None,
    ) -> None:
        super().__init__(p for p in listed(parameters) if not (isinstance(p, Parameter) and p.kind == "demos"))
        if lm is None:
            kind = type(self).__name__
            raise SettingError(f'{kind} asks a language model; give one: {kind}(parameters, lm=LM("…")).')
        if not (isinstance(memory_size, int) and isinstance(max_prompt_tokens, int)) or (
            memory_size < 0 or max_prompt_tokens < 1
        ):
            raise SettingError(
                f"Expected memory_size >= 0 and max_prompt_tokens >= 1, got {memory_size!r} and {max_prompt_tokens!r}."
            )
        self.lm: LanguageModel = as_lm(lm)
        self.objective = objective or fill("objective").strip()
        self.max_prompt_tokens = max_prompt_tokens
        self.profile = profile or self.lm.profile
        if self.profile not in ("strong", "small"):
            raise SettingError(f"profile is 'strong', 'small' or None, got {profile!r}.")
        self.temperature = temperature
        self.memory = Memory(memory_size)

    def tell(self, outcome: Outcome) -> None:
        """Remember what became of a proposal, of this optimizer or another one."""
        self.memory.tell(outcome)


def report_and_past(
    traces: Sequence[TraceGraph],
    parameters: Sequence[Parameter],
    base: Mapping[str, Any],
    memory: Memory,
    *,
    tag: str,
    max_tokens: int,
    mask: Iterable[str] = (),
) -> tuple[Report, str]:
    """The report of some traces, and beside it what the memory says, if there is room for both."""
    names = {name: parameter for parameter, name in parameter_names(parameters).items()}
    past = memory.text(names, base, tag=tag, max_tokens=int(max_tokens * MEMORY_SHARE))
    past = f"\n# Past attempts\n\n{past}\n" if past else ""
    room = max_tokens - count_tokens(past)
    try:
        return write_report(traces, parameters, base, tag=tag, mask=mask, max_tokens=room), past
    except SettingError:  # no room beside the memory
        return write_report(traces, parameters, base, tag=tag, mask=mask, max_tokens=max_tokens), ""


def shown_texts(traces: Sequence[TraceGraph], base: Mapping[str, Any], memory: Memory) -> Iterator[str]:
    """Every text that a prompt may show."""
    for trace in traces:
        yield trace.feedback.text
        yield from (show_value(node._data)[0] for node in (*trace.blanket, *trace.nodes, trace.output))
    for values in (base, *(outcome.candidate or {} for outcome in memory.entries)):
        yield from (show_value(value)[0] for value in values.values())
