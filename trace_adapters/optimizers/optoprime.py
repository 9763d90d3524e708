"""OptoPrime: a model reads the trace and writes new values (arXiv 2406.16218 sec. 3.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from trace_adapters.errors import SettingError
from trace_adapters.lm.messages import count_tokens
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.asking import SPARE_TOKENS, AskingVerbs, report_and_past, shown_texts
from trace_adapters.optimizers.base import Proposal, base_values
from trace_adapters.optimizers.evidence import feeds_a_model
from trace_adapters.optimizers.questions import Question, ask
from trace_adapters.optimizers.replies import free_tag
from trace_adapters.optimizers.report import read_mask
from trace_adapters.optimizers.small import small_question
from trace_adapters.optimizers.templates import fill
from trace_adapters.traces import TraceGraph

COSTLY_SAMPLES = 3
_EVIDENCE = 8
_OBSERVED = 24  # runs that a small model's questions may quote beside those of the step


class OptoPrime(AskingVerbs):
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
        super().__init__(
            parameters,
            lm,
            objective=objective,
            memory_size=memory_size,
            max_prompt_tokens=max_prompt_tokens,
            profile=profile,
            temperature=temperature,
        )
        self.mask = read_mask(mask)
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
        tag = free_tag(shown_texts(traces, base, self.memory))
        system = fill("optoprime_system", tag=tag)
        frame = fill("optoprime_user", objective=self.objective, report="", memory="")
        room = self.max_prompt_tokens - count_tokens(system) - count_tokens(frame) - SPARE_TOKENS
        report, past = report_and_past(
            traces, self.parameters, base, self.memory, tag=tag, max_tokens=room, mask=self.mask
        )
        user = fill("optoprime_user", objective=self.objective, report=report.text.strip(), memory=past)
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        options = {} if self.temperature is None else {"temperature": self.temperature}
        return Question(messages, report.names, base, tag, options)
