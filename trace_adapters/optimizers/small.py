"""Questions for a small model: one parameter at a time, and the work of form done for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from trace_adapters.errors import SettingError
from trace_adapters.lm.messages import count_tokens
from trace_adapters.lm.replies import LanguageModel
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.budget import show_value
from trace_adapters.optimizers.evidence import Call, calls_of
from trace_adapters.optimizers.grammars import asks_sentences, frame_of, reply_grammar
from trace_adapters.optimizers.memory import Memory, concerns
from trace_adapters.optimizers.questions import Question
from trace_adapters.optimizers.replies import free_tag
from trace_adapters.optimizers.report import parameter_names
from trace_adapters.optimizers.small_prompts import Problem, last_sentence, write_prompt
from trace_adapters.traces import TraceGraph

SMALL_TEMPERATURE = 0.8
SMALL_REPLY_TOKENS = 400
_REPLACEABLE = 800  # characters of a text up to which its sentences may be replaced; longer ones are only added to
_SIZES = (3, 2, 1, 0)  # how much evidence a prompt shows, until it fits


def small_question(
    lm: LanguageModel,
    traces: Sequence[TraceGraph],
    parameters: Sequence[Parameter],
    base: Mapping[str, Any],
    memory: Memory,
    *,
    beside: Sequence[TraceGraph] = (),
    seed: int = 0,
    max_prompt_tokens: int = 16_000,
    temperature: float | None = None,
) -> Question:
    """Ask for a new value of the parameter that the runs blame most.

    Args:
        lm: The model; gets a grammar of the reply if it knows grammars.
        traces: The runs of this step.
        parameters: What may be changed.
        base: Parameter key -> current value.
        memory: Of past proposals.
        beside: Further runs that may be quoted as evidence.
        seed: Breaks ties between parameters; odd ones replace the sentences of a short text, others add to them.
        max_prompt_tokens: Long feedback loses its middle, then the prompt shows less evidence, until it fits.
        temperature: Default `SMALL_TEMPERATURE`.

    Raises:
        SettingError: If the current value alone does not fit.
    """
    parameter = choose_parameter(traces, parameters, base, memory, seed)
    name, value = parameter_names(parameters)[parameter], base[parameter.key]
    tag = free_tag([show_value(value)[0]])
    replace = replaces_text(parameter, value, seed)
    problem = Problem(parameter, name, value, tag, traces, [*traces, *beside], memory, replace)
    prompt = write_prompt(problem, _SIZES[0])
    for size in _SIZES:
        if count_tokens(prompt) > max_prompt_tokens:
            prompt = write_prompt(dataclasses.replace(problem, long_feedback=False), size)
    if count_tokens(prompt) > max_prompt_tokens:
        raise SettingError(
            f"The question for {parameter.key!r} needs at least {count_tokens(prompt)} tokens, max_prompt_tokens "
            f"is {max_prompt_tokens}; its value is never cut, so raise max_prompt_tokens."
        )
    options = reply_options(lm, parameter, name, value, tag, temperature=temperature, last=last_sentence(problem))
    around = {name: frame_of(str(value), replace=replace)} if asks_sentences(parameter) else {}
    return Question([{"role": "user", "content": prompt}], {name: parameter}, base, tag, options, around)


def replaces_text(parameter: Parameter, value: Any, seed: int) -> bool:
    """Whether new sentences take the place of a text's present ones: of short texts, for odd seeds."""
    return asks_sentences(parameter) and seed % 2 == 1 and len(str(value)) <= _REPLACEABLE


def reply_options(
    lm: LanguageModel,
    parameter: Parameter,
    name: str,
    value: Any,
    tag: str,
    *,
    temperature: float | None,
    last: str = "",
) -> dict[str, Any]:
    """Options of a call that asks a small model for a value; with a grammar if it knows grammars.

    Args:
        lm: The model.
        parameter: Of instructions, a few sentences are asked for.
        name: Its name in the prompt.
        value: Its current value.
        tag: The reply's tag.
        temperature: Default `SMALL_TEMPERATURE`.
        last: The sentence that sentences must end with, if any.
    """
    options: dict[str, Any] = {
        "temperature": SMALL_TEMPERATURE if temperature is None else temperature,
        "max_tokens": SMALL_REPLY_TOKENS + count_tokens(show_value(value)[0]),
    }
    if lm.supports_grammar:
        options["grammar"] = reply_grammar(parameter, name, value, tag, last=last)
    return options


def choose_parameter(
    traces: Sequence[TraceGraph],
    parameters: Sequence[Parameter],
    base: Mapping[str, Any],
    memory: Memory,
    seed: int,
) -> Parameter:
    """The parameter with the most blame for the attempts made since the last success; the seed breaks ties.

    A run that is not right blames every parameter on its way with 1. Code gets 3 if it failed although the expected
    value stood in an argument, 2 if it returned another value then, 1.5 if it failed otherwise, and 0.5 if it did
    nothing wrong that can be seen. Every 4 attempts in vain divide the blame, by 2, 3, …
    """
    names = parameter_names(parameters)
    reached = {p for trace in traces for p in trace.parameters}
    candidates = [p for p in parameters if p in reached] or list(parameters)
    turn = seed % len(candidates)
    rotated = candidates[turn:] + candidates[:turn]
    return max(rotated, key=lambda p: _blame(p, traces) / (1 + _attempts(p, names[p], base, memory) / 4))


def _blame(parameter: Parameter, traces: Sequence[TraceGraph]) -> float:
    total = 0.0
    for trace in traces:
        if trace.feedback.score is None or trace.feedback.score < 1.0:
            total += max((_call_blame(parameter, call) for call in calls_of(parameter, [trace])), default=0.0)
    return total


def _call_blame(parameter: Parameter, call: Call) -> float:
    if parameter.kind != "code":
        return 1.0
    if call.failed:
        return 3.0 if call.located else 1.5
    return 2.0 if call.located and not call.right else 0.5


def _attempts(parameter: Parameter, name: str, base: Mapping[str, Any], memory: Memory) -> int:
    return sum(concerns(outcome, parameter.key, name, base) for outcome in memory.since_accepted())
