"""OptoPrime: a model reads the trace and writes new values (arXiv 2406.16218 sec. 3.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from trace_adapters.errors import SettingError
from trace_adapters.lm.convert import as_lm
from trace_adapters.lm.messages import count_tokens
from trace_adapters.lm.replies import LanguageModel
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.base import Outcome, Proposal, Verbs, base_values, listed
from trace_adapters.optimizers.budget import show_value
from trace_adapters.optimizers.evidence import feeds_a_model
from trace_adapters.optimizers.memory import Memory
from trace_adapters.optimizers.questions import Question, ask
from trace_adapters.optimizers.replies import free_tag
from trace_adapters.optimizers.report import Report, parameter_names, read_mask, write_report
from trace_adapters.optimizers.small import small_question
from trace_adapters.optimizers.templates import fill
from trace_adapters.traces import TraceGraph

_MEMORY_SHARE = 0.25  # of the prompt's tokens, at most
_SPARE_TOKENS = 16
COSTLY_SAMPLES = 3
_EVIDENCE = 8
_OBSERVED = 24  # runs that a small model's questions may quote beside those of the step


class OptoPrime(Verbs):
    """Asks a language model for new values, once a step.

    Parameters of kind "demos" are left to `Demonstrations`: a model would have to invent the program's outputs.

    Args:
        parameters: What to train, at least one trainable.
        lm: A model, or anything that `as_lm` takes.
        objective: What better means; the default refers to the feedback.
        memory_size: How many past outcomes, and how many rejected replies, the prompt shows.
        mask: Sections to leave out of the prompt, e.g. ("#Code", "#Others"): the masked variant of the article.
        max_prompt_tokens: Limit of the prompt's estimated length. Trainable values are never cut; of error messages
            and feedback the middle is left out where they are too long, of feedback never below some hundred tokens.
        profile: "strong" asks for all parameters at once; "small" asks for one, with a grammar for the reply where the
            model's server knows grammars. Default: the model's own profile.
        temperature: Of the model calls. Default: the model's own, and 0.8 for a small one.

    Attributes:
        default_proposals: How many samples a step should ask for: 1, or 4 of a small model.
        wants_evidence: How many training runs of the current values it wants to have observed, those of the step
            included: a small model is asked with examples of what must hold, and a few wrong runs may hold none.

    Raises:
        SettingError: If nothing can be trained, or an option is out of range.
    """

    name = "optoprime"

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lm: Any = None,
        *,
        objective: str | None = None,
        memory_size: int = 5,
        mask: Iterable[str] = (),
        max_prompt_tokens: int = 16_000,
        profile: Literal["strong", "small"] | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__(p for p in listed(parameters) if not (isinstance(p, Parameter) and p.kind == "demos"))
        if lm is None:
            raise SettingError('OptoPrime asks a language model; give one: OptoPrime(parameters, lm=LM("…")).')
        if memory_size < 0 or max_prompt_tokens < 1:
            raise SettingError(
                f"Expected memory_size >= 0 and max_prompt_tokens >= 1, got {memory_size!r} and {max_prompt_tokens!r}."
            )
        self.lm: LanguageModel = as_lm(lm)
        self.objective = objective or fill("objective").strip()
        self.mask = read_mask(mask)
        self.max_prompt_tokens = max_prompt_tokens
        self.profile = profile or self.lm.profile
        if self.profile not in ("strong", "small"):
            raise SettingError(f"profile is 'strong', 'small' or None, got {profile!r}.")
        self.temperature = temperature
        self.memory = Memory(memory_size)
        self._observed: deque[TraceGraph] = deque(maxlen=_OBSERVED)
        self.default_proposals = 1 if self.profile == "strong" else 4
        self.wants_evidence = 0 if self.profile == "strong" else _EVIDENCE

    def suggest(
        self,
        traces: Sequence[TraceGraph],
        *,
        n: int = 1,
        base: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> list[Proposal]:
        """Ask the model once, for n samples.

        Args:
            traces: Judged runs, together in one prompt.
            n: Number of samples, each one proposal, usable ones first. Of a small model at most `COSTLY_SAMPLES` for a
                parameter that a language model's input is made of: judging each costs a model call for every example.
            base: Parameter key -> current value; default: what the traces recorded.
            seed: Chooses the samples and, for a small model, among equally blamed parameters.

        Raises:
            SettingError: If there are no traces, or their prompt cannot fit `max_prompt_tokens`.
            ModelError: If the model cannot be asked.
        """
        if not traces:
            raise SettingError("suggest() needs at least one judged trace; got none.")
        current = base_values(self.parameters, traces, base)
        question = self._strong(traces, current) if self.profile == "strong" else self._small(traces, current, seed)
        if self.profile == "small" and any(feeds_a_model(p, traces) for p in question.names.values()):
            n = min(n, COSTLY_SAMPLES)
        return ask(self.lm, question, self.memory, n=n, seed=seed, origin=self.name)

    def observe(self, traces: Sequence[TraceGraph]) -> None:
        """Keep the latest runs: for a small model they are evidence beside the runs of a step."""
        if self.profile == "small":
            self._observed.extend(traces)

    def tell(self, outcome: Outcome) -> None:
        """Remember what became of a proposal, of this optimizer or another one."""
        self.memory.tell(outcome)

    def _small(self, traces: Sequence[TraceGraph], base: Mapping[str, Any], seed: int) -> Question:
        return small_question(
            self.lm,
            traces,
            self.parameters,
            base,
            self.memory,
            beside=list(self._observed)[::-1],
            seed=seed,
            max_prompt_tokens=self.max_prompt_tokens,
            temperature=self.temperature,
        )

    def _strong(self, traces: Sequence[TraceGraph], base: Mapping[str, Any]) -> Question:
        tag = free_tag(_texts(traces, base, self.memory))
        system = fill("optoprime_system", tag=tag)
        frame = fill("optoprime_user", objective=self.objective, report="", memory="")
        room = self.max_prompt_tokens - count_tokens(system) - count_tokens(frame) - _SPARE_TOKENS
        names = {name: parameter for parameter, name in parameter_names(self.parameters).items()}
        past = self.memory.text(names, base, tag=tag, max_tokens=int(room * _MEMORY_SHARE))
        past = f"\n# Past attempts\n\n{past}\n" if past else ""
        try:
            report = self._report(traces, base, tag, room - count_tokens(past))
        except SettingError:  # no room beside the memory
            past, report = "", self._report(traces, base, tag, room)
        user = fill("optoprime_user", objective=self.objective, report=report.text.strip(), memory=past)
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        options = {} if self.temperature is None else {"temperature": self.temperature}
        return Question(messages, report.names, base, tag, options)

    def _report(self, traces: Sequence[TraceGraph], base: Mapping[str, Any], tag: str, max_tokens: int) -> Report:
        return write_report(traces, self.parameters, base, tag=tag, mask=self.mask, max_tokens=max_tokens)


def _texts(traces: Sequence[TraceGraph], base: Mapping[str, Any], memory: Memory) -> Iterator[str]:
    """Every text that the prompt may show."""
    for trace in traces:
        yield trace.feedback.text
        yield from (show_value(node._data)[0] for node in (*trace.blanket, *trace.nodes, trace.output))
    for values in (base, *(outcome.candidate or {} for outcome in memory.entries)):
        yield from (show_value(value)[0] for value in values.values())
