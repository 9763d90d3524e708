"""TextGrad: feedback in words, carried back call by call, then one new value a parameter (arXiv 2406.07496)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, Literal

from trace_adapters.errors import SettingError
from trace_adapters.lm.messages import count_tokens, sendable
from trace_adapters.lm.replies import Usage
from trace_adapters.nodes import Node, Parameter, Value
from trace_adapters.optimizers.asking import SPARE_TOKENS, AskingVerbs, report_and_past, shown_texts
from trace_adapters.optimizers.base import Proposal, base_values, canonical
from trace_adapters.optimizers.budget import MESSAGE, cut_middle
from trace_adapters.optimizers.gradients import Gradient, gradients, in_threads, one_call
from trace_adapters.optimizers.grammars import asks_sentences, frame_of
from trace_adapters.optimizers.memory import Memory
from trace_adapters.optimizers.questions import Question, Sample, repeated, samples
from trace_adapters.optimizers.replies import free_tag
from trace_adapters.optimizers.report import parameter_names, write_report
from trace_adapters.optimizers.small import replaces_text, reply_options
from trace_adapters.optimizers.templates import fill
from trace_adapters.traces import TraceGraph

SMALL_GRADIENT_TOKENS = 200
_NAME_TOKENS = 48  # for the name in a question, which is known only when the report is written
_AGAIN_TOKENS = 240  # for the reason why a reply could not be used


class TextGrad(AskingVerbs):
    """Asks a language model about every call that leads to a parameter, then once for each parameter.

    Textual gradient descent on any trace, also one without a language model in it. The feedback on an output is its
    gradient; from there, call by call, the model is asked what should change about the inputs that some parameter
    went into; then it gives each parameter that was reached a new value. On a chain of L prompts and B runs these
    are (2L - 1)B + L questions, and 2LB + L if a judge that is part of the program gives the verdict: one for each
    edge that leads to a parameter, of each run, and one for each parameter. `OptoPrime` asks one.

    All new values are used together or none. A reply that cannot be read is asked for once more.
    Parameters of kind "demos" are left to `Demonstrations`.

    Args:
        parameters: What to train, at least one trainable.
        lm: A model, or anything that `as_lm` takes; called from several threads.
        objective: What better means; the default refers to the feedback.
        constraints: What every new value must satisfy, in words, beside the parameters' own constraints.
        memory_size: How many past outcomes, and how many rejected replies, the question for a parameter shows.
        max_prompt_tokens: Limit of a prompt's estimated length. Trainable values are never cut; other values lose
            their middle, then long feedback does, then whole runs are left out.
        workers: How many questions of one level are asked at a time.
        profile: "small" asks with short replies, and with a grammar where the model's server knows grammars.
            Default: the model's own profile.
        temperature: Of the questions for new values. Default: the model's own, and 0.8 for a small one.

    Raises:
        SettingError: If nothing can be trained, or an option is out of range.
    """

    name = "textgrad"

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lm: Any = None,
        *,
        objective: str | None = None,
        constraints: str | Iterable[str] = (),
        memory_size: int = 5,
        max_prompt_tokens: int = 16_000,
        workers: int = 8,
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
        if not isinstance(workers, int) or workers < 1:
            raise SettingError(f"workers must be a whole number of at least 1, got {workers!r}.")
        self.workers = workers
        self.constraints = [constraints] if isinstance(constraints, str) else _texts(constraints)

    def suggest(
        self,
        traces: Sequence[TraceGraph],
        *,
        n: int = 1,
        base: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> list[Proposal]:
        """Carry the feedback back once, then ask for n samples of every parameter that it reached.

        Args:
            traces: Judged runs, together.
            n: Number of proposals, usable ones first; the i-th is made of the i-th samples.
            base: Parameter key -> current value; default: what the traces recorded.
            seed: Chooses the samples.

        Returns:
            n proposals; a single rejected one if no feedback reached a parameter: then no parameter is asked for.

        Raises:
            SettingError: If there are no traces, or a prompt cannot fit `max_prompt_tokens`.
            ModelError: If the model cannot be asked.
        """
        if not traces:
            raise SettingError("suggest() needs at least one judged trace; got none.")
        current = base_values(self.parameters, traces, base)
        spent: list[Usage] = []
        with in_threads(self.workers) as each:
            criticize = partial(self._criticize, seed=seed, spent=spent)
            found = gradients(traces, self.parameters, criticize, each)
            update = partial(self._update, base=current, n=n, seed=seed, spent=spent)
            answers = each(update, list(found.items()))
        if not found:
            keys = [parameter.key for parameter in self.parameters]
            return [Proposal(None, self.name, rejected=f"No feedback reached a parameter of {keys!r}.")]
        return self._proposals(dict(zip(found, answers, strict=True)), found, current, spent)

    def _criticize(self, call: Node, source: Node, said: str, *, seed: int, spent: list[Usage]) -> str:
        """Ask what should change about an input of a call."""
        trace = one_call(call, said)
        known = set(self.parameters)
        used = {value.parameter: value._data for value in trace.values if value.parameter in known}
        values = {parameter.key: value for parameter, value in used.items()}
        system, origin = fill("textgrad_gradient_system"), _origin(source)
        frame = fill("textgrad_gradient_user", objective=self.objective, report="", name="", origin=origin)
        room = self.max_prompt_tokens - count_tokens(system) - count_tokens(frame) - _NAME_TOKENS
        report = write_report(
            [trace],
            list(used),
            values,
            tag=free_tag(shown_texts([trace], values, Memory(0))),
            mask=() if used else ("variables",),
            max_tokens=room,
        )
        user = fill(
            "textgrad_gradient_user",
            objective=self.objective,
            report=report.text,
            name=report.nodes[source],
            origin=origin,
        )
        options = {"max_tokens": SMALL_GRADIENT_TOKENS} if self.profile == "small" else {}
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        (reply,) = self.lm(sendable(messages), role="optimizer", sample_index=seed, **options)
        spent.append(reply.usage)
        return reply.text

    def _update(
        self,
        asked: tuple[Parameter, Sequence[Gradient]],
        *,
        base: Mapping[str, Any],
        n: int,
        seed: int,
        spent: list[Usage],
    ) -> list[Sample]:
        """Ask for n samples of one parameter's new value; those that cannot be read are asked for again."""
        question = self._question(*asked, base, seed)
        answers = []
        for number, sample in enumerate(samples(self.lm, question, n=n, first=seed * n), seed * n):
            spent.append(sample.reply.usage)
            if _is_faulty(sample):
                (sample,) = samples(self.lm, _again(question, sample.reading.rejected or ""), n=1, first=number)
                spent.append(sample.reply.usage)
            answers.append(sample)
        return answers

    def _question(
        self, parameter: Parameter, found: Sequence[Gradient], base: Mapping[str, Any], seed: int
    ) -> Question:
        """What is asked about one parameter that something was said of."""
        name, value = parameter_names([parameter])[parameter], base[parameter.key]
        distinct: dict[str, Gradient] = {}
        for gradient in found:
            distinct.setdefault(gradient.text, gradient)
        traces = [one_call(gradient.call, gradient.text) for gradient in distinct.values()]
        memory = self.memory.about(parameter.key, name, base)
        tag = free_tag(shown_texts(traces, {parameter.key: value}, memory))
        fields = {"objective": self.objective, "constraints": self._rules()}
        system, template = "", "textgrad_update_user"
        if self.profile == "strong":
            system = fill("textgrad_update_system", tag=tag, name=name)
        else:
            template = "textgrad_small_text" if asks_sentences(parameter) else "textgrad_small_value"
            fields |= {"name": name, "tag": tag}
        replace = replaces_text(parameter, value, seed)
        if template == "textgrad_small_text":
            fields["place"] = "in the place of the present ones" if replace else "beside the present ones"
        frame = count_tokens(system) + count_tokens(fill(template, **fields, report="", memory=""))
        room = self.max_prompt_tokens - frame - _AGAIN_TOKENS - SPARE_TOKENS
        report, past = report_and_past(traces, [parameter], base, memory, tag=tag, max_tokens=room)
        messages = [{"role": "user", "content": fill(template, **fields, report=report.text, memory=past)}]
        if self.profile == "strong":
            options: dict[str, Any] = {} if self.temperature is None else {"temperature": self.temperature}
            return Question([{"role": "system", "content": system}, *messages], {name: parameter}, base, tag, options)
        options = reply_options(self.lm, parameter, name, value, tag, temperature=self.temperature)
        around = {name: frame_of(str(value), replace=replace)} if asks_sentences(parameter) else {}
        return Question(messages, {name: parameter}, base, tag, options, around)

    def _rules(self) -> str:
        rules = "\n".join(f"- {rule}" for rule in self.constraints)
        return f"Every new value must satisfy:\n{rules}\n" if rules else ""

    def _proposals(
        self,
        answers: Mapping[Parameter, Sequence[Sample]],
        found: Mapping[Parameter, Sequence[Gradient]],
        base: Mapping[str, Any],
        spent: Sequence[Usage],
    ) -> list[Proposal]:
        """One proposal of the first samples of all parameters, one of the second ones, and so on."""
        usage = reduce(add, spent)
        proposals: list[Proposal] = []
        seen: set[str] = set()
        for row in zip(*answers.values(), strict=True):
            of_one = dict(zip(answers, row, strict=True))
            values, unread = _together(of_one)
            candidate = {**base, **values}
            known = None if unread else _known(values) or repeated(candidate, self.memory, seen)
            rejected = unread or known
            seen.add(canonical(candidate))
            proposals.append(
                Proposal(
                    None if rejected else candidate,
                    self.name,
                    "\n\n".join(_reasoning(p, found[p], sample) for p, sample in of_one.items()),
                    rejected,
                    "\n".join(_replies(row)),
                    usage.prompt_tokens if not proposals else 0,
                    usage.completion_tokens if not proposals else 0,
                    repeats=known is not None,
                )
            )
        return sorted(proposals, key=lambda proposal: proposal.candidate is None)


def _together(answers: Mapping[Parameter, Sample]) -> tuple[dict[str, Any], str | None]:
    """The new values of all parameters, or why none of them is used."""
    reasons = [_reason(p, s.reading.rejected) for p, s in answers.items() if s.reading.rejected and _is_faulty(s)]
    values = {key: value for sample in answers.values() for key, value in sample.reading.values.items()}
    return ({}, "\n".join(reasons)) if reasons else (values, None)


def _known(values: Mapping[str, Any]) -> str | None:
    return None if values else "The replies change nothing: every new value equals the current one."


def _is_faulty(sample: Sample) -> bool:
    return sample.reading.rejected is not None and not sample.reading.repeats


def _reason(parameter: Parameter, rejected: str) -> str:
    name = parameter_names([parameter])[parameter]
    return rejected if rejected.startswith(f"{name}: ") else f"{parameter.key}: {rejected}"


def _replies(row: Sequence[Sample]) -> list[str]:
    """The replies that were used, or those for which none is."""
    faulty = [sample for sample in row if _is_faulty(sample)]
    return [sample.reply.text for sample in faulty or row]


def _reasoning(parameter: Parameter, found: Sequence[Gradient], sample: Sample) -> str:
    texts = dict.fromkeys(gradient.text for gradient in found)
    said = "\n".join(f"- {text}" for text in texts)
    return f"{parameter.key}\n{said}\n{sample.reading.reasoning}".strip()


def _again(question: Question, reason: str) -> Question:
    *before, last = question.messages
    remark = fill("textgrad_again", reason=cut_middle(reason, MESSAGE))
    message = {**last, "content": f"{last['content']}\n{remark}"}
    return dataclasses.replace(question, messages=[*before, message])


def _origin(source: Node) -> str:
    """Where an input came from, to go after its name."""
    if isinstance(source, Value) or source.operation is None:
        return ""
    what = " ".join(source.operation.description.split())
    return f", the result of {source.operation.name}" + (f" ({cut_middle(what, MESSAGE)})" if what else "")


def _texts(constraints: Any) -> list[str]:
    texts = list(constraints) if isinstance(constraints, Iterable) else [constraints]
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise SettingError(f"constraints must be a text, or several, got {wrong!r}.")
    return texts
