"""Questions for a small model: one parameter at a time, and the work of form done for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trace_adapters.errors import SettingError
from trace_adapters.lm.messages import count_tokens
from trace_adapters.lm.replies import LanguageModel
from trace_adapters.nodes import Node, Parameter, Value
from trace_adapters.optimizers.base import same
from trace_adapters.optimizers.budget import cut_middle, error_line, show_value
from trace_adapters.optimizers.evidence import Call, calls_of, occurs, shape_of, window
from trace_adapters.optimizers.grammars import definition_line, placeholders, reply_grammar
from trace_adapters.optimizers.memory import Memory
from trace_adapters.optimizers.questions import Question
from trace_adapters.optimizers.replies import free_tag
from trace_adapters.optimizers.report import parameter_names
from trace_adapters.optimizers.templates import fill
from trace_adapters.traces import TraceGraph

SMALL_TEMPERATURE = 0.8
SMALL_REPLY_TOKENS = 400
_MOST_ASSERTS = 6
_MOST_RUNS = 3


def small_question(
    lm: LanguageModel,
    traces: Sequence[TraceGraph],
    parameters: Sequence[Parameter],
    base: Mapping[str, Any],
    memory: Memory,
    *,
    seed: int,
    max_prompt_tokens: int,
    temperature: float | None,
) -> Question:
    """Ask for a new value of the parameter that the runs blame most.

    Of a function whose output was judged the prompt shows no source but what must hold: its recorded arguments and
    the expected values, as asserts. (Measured with a 1.5B model: shown the failing source, it repairs that line's
    idea; given asserts, it writes what satisfies them.)
    """
    parameter = choose_parameter(traces, parameters, base, memory, seed)
    name = parameter_names(parameters)[parameter]
    value = base[parameter.key]
    tag = free_tag([show_value(value)[0]])
    for size in (3, 2, 1, 0):
        prompt = _prompt(parameter, name, value, traces, memory, tag, size)
        if count_tokens(prompt) <= max_prompt_tokens:
            break
    else:
        raise SettingError(
            f"The question for {parameter.key!r} needs about {count_tokens(prompt)} tokens and max_prompt_tokens is "
            f"{max_prompt_tokens}; its value is never cut, so raise max_prompt_tokens."
        )
    options: dict[str, Any] = {
        "temperature": SMALL_TEMPERATURE if temperature is None else temperature,
        "max_tokens": SMALL_REPLY_TOKENS + count_tokens(show_value(value)[0]),
    }
    if lm.supports_grammar:
        options["grammar"] = reply_grammar(parameter, name, value, tag)
    return Question([{"role": "user", "content": prompt}], {name: parameter}, base, tag, options)


def choose_parameter(
    traces: Sequence[TraceGraph],
    parameters: Sequence[Parameter],
    base: Mapping[str, Any],
    memory: Memory,
    seed: int,
) -> Parameter:
    """The parameter with the most blame for the attempts made since the last success; the seed breaks ties.

    A failed call blames its code with 3, a call whose argument has the expected value in it and whose output is
    another one with 2, any other run that is not right every parameter with 1. Each 4 attempts in vain halve, third, …
    the blame.
    """
    names = parameter_names(parameters)
    reached = {p for trace in traces for p in trace.parameters} or set(parameters)
    candidates = [p for p in parameters if p in reached] or list(parameters)
    turn = seed % len(candidates)
    rotated = candidates[turn:] + candidates[:turn]
    return max(rotated, key=lambda p: _blame(p, traces) / (1 + _attempts(p, names[p], base, memory) / 4))


def _blame(parameter: Parameter, traces: Sequence[TraceGraph]) -> float:
    total = 0.0
    for trace in traces:
        if trace.feedback.score is not None and trace.feedback.score >= 1.0:
            continue
        if parameter in trace.parameters:
            total += max((_call_blame(parameter, call) for call in calls_of(parameter, [trace])), default=1.0)
    return total


def _call_blame(parameter: Parameter, call: Call) -> float:
    if parameter.kind != "code":
        return 1.0
    if call.failed:
        return 3.0
    return 2.0 if call.judged and not call.right and _located(call) else 1.0


def _attempts(parameter: Parameter, name: str, base: Mapping[str, Any], memory: Memory) -> int:
    key = parameter.key
    return sum(
        f'name="{name}"' in outcome.reply
        if outcome.candidate is None
        else key in outcome.candidate and not same(outcome.candidate[key], base.get(key))
        for outcome in memory.since_accepted()
    )


def _prompt(
    parameter: Parameter, name: str, value: Any, traces: Sequence[TraceGraph], memory: Memory, tag: str, size: int
) -> str:
    remarks = _remarks(memory, name) if size else ""
    if parameter.kind == "code":
        shown = _assertable(calls_of(parameter, traces))[: size * 2]
        if shown:
            return _extract_prompt(parameter, str(value), shown, remarks)
        return fill(
            "small_code",
            source=str(value).strip(),
            purpose=parameter.description,
            runs=_runs(traces, size),
            remarks=remarks,
        )
    common = {"purpose": _purpose(parameter), "runs": _runs(traces, size), "remarks": remarks, "tag": tag, "name": name}
    if parameter.kind == "text":
        fields = placeholders(str(value))
        keep = f"Keep {', '.join(fields)} in it." if fields else ""
        return fill("small_text", value=str(value).strip("\n"), fields=keep, **common)
    constraint = parameter.constraint and f"It must be: {parameter.constraint}"
    if parameter.kind == "choice":
        constraint += " Allowed: " + ", ".join(show_value(choice)[0] for choice in parameter.choices)
    return fill("small_value", value=show_value(value)[0], constraint=constraint.strip(), **common)


def _extract_prompt(parameter: Parameter, source: str, calls: Sequence[Call], remarks: str) -> str:
    header = definition_line(source)
    function = header.split("def ", 1)[1].split("(", 1)[0]
    expected = [call.expected for call in calls if isinstance(call.expected, str)]
    shape = shape_of(expected) if len(expected) == len(calls) else ""
    return fill(
        "small_extract",
        signature=header.removeprefix("async ").removeprefix("def ").rstrip(":") + ".",
        purpose=parameter.description,
        shape=f"All expected return values have this form: {shape}." if shape else "",
        asserts="\n".join(_assertion(function, call) for call in calls),
        remarks=remarks,
    )


def _assertion(function: str, call: Call) -> str:
    shown = []
    for name, value in call.arguments.items():
        if isinstance(value, str) and occurs(str(call.expected), value):
            shown.append(repr(window(str(call.expected), value)))
        else:
            text = repr(value)
            shown.append(text if len(text) <= 40 else name)
    return f"assert {function}({', '.join(shown)}) == {call.expected!r}"


def _assertable(calls: Sequence[Call]) -> list[Call]:
    """Calls whose expected value stands in an argument: different ones first, wrong ones before right ones."""
    located = [call for call in calls if call.judged and call.expected is not None and _located(call)]
    distinct: dict[str, Call] = {}
    for call in sorted(located, key=lambda call: call.right):
        distinct.setdefault(_sketch(call), call)
    rest = [call for call in located if call not in distinct.values()]
    return [*distinct.values(), *rest][:_MOST_ASSERTS]


def _located(call: Call) -> bool:
    return any(isinstance(v, str) and occurs(str(call.expected), v) for v in call.arguments.values())


def _sketch(call: Call) -> str:
    """Where the expected value stands: calls of one sketch teach the same."""
    expected = str(call.expected)
    text = next(v for v in call.arguments.values() if isinstance(v, str) and occurs(expected, v)).strip()
    if text == expected:
        return "whole"
    before, _, after = text.rpartition(expected)
    return f"{before[-12:]}|{after[:6]}"


def _runs(traces: Sequence[TraceGraph], size: int) -> str:
    """Inputs, model replies and feedback of runs, those that went wrong first."""
    ordered = sorted(traces, key=lambda t: t.feedback.score is not None and t.feedback.score >= 1.0)
    texts = []
    for trace in ordered[: min(size, _MOST_RUNS)]:
        given = [n for n in trace.blanket if isinstance(n._data, str) and not isinstance(n, Value)]
        made = [n for n in trace.nodes if n is trace.output or (n.operation and n.operation.language_model)]
        lines = [f"- {trace.names.get(node, node.name)}: {_excerpt(node)}" for node in [*given, *made]]
        texts.append("\n".join([*lines, f"  Feedback: {trace.feedback.text or trace.feedback.score}"]))
    return "Runs of the program:\n" + "\n\n".join(texts) + "\n" if texts else ""


def _excerpt(node: Node) -> str:
    if isinstance(node._data, BaseException):
        return f"raised {error_line(node._data)}"
    return repr(cut_middle(show_value(node._data)[0], 300))


def _purpose(parameter: Parameter) -> str:
    constraint = f" It must be: {parameter.constraint}" if parameter.constraint and parameter.kind == "text" else ""
    return (parameter.description or f"{parameter.key} is a value of a program.") + constraint


def _remarks(memory: Memory, name: str) -> str:
    """The reasons why earlier replies for this parameter could not be used."""
    reasons = [o.rejected or "" for o in memory.rejections() if f'name="{name}"' in o.reply]
    return "".join(f"An earlier version could not be used: {cut_middle(reason, 200)}\n" for reason in reasons[-2:])
