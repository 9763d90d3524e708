"""The prompts for a small model, one for each kind of parameter.

What a function must return is shown as asserts, without its source: a 1.5B model that sees a failing line repairs that
line's idea (0 of 8 samples read the answer), given asserts it writes what satisfies them (8 of 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trace_adapters.nodes import Node, Parameter, Value
from trace_adapters.optimizers.budget import MESSAGE, WHOLE, cut_middle, error_line, show_value
from trace_adapters.optimizers.evidence import Call, calls_of, expected_of, shape_of, window
from trace_adapters.optimizers.grammars import asks_sentences, definition_line
from trace_adapters.optimizers.memory import Memory
from trace_adapters.optimizers.replies import free_tag
from trace_adapters.optimizers.templates import fill
from trace_adapters.traces import TraceGraph

_EXCERPT = 300  # characters of a value in a run
_REASON = 200  # characters of the reason of a rejection
_PLAIN_ARGUMENT = 40  # characters up to which an argument that does not matter is written out


@dataclass(frozen=True)
class Problem:
    """What is asked about one parameter.

    Attributes:
        name: The parameter's name in the prompt.
        value: Its current value.
        tag: The reply's tag.
        traces: The runs of this step.
        evidence: These and further runs, the most telling first.
        replace: Whether new sentences take the place of a text's present ones, or are added.
        long_feedback: Whether feedback is whole, or loses its middle beyond `WHOLE` characters.
    """

    parameter: Parameter
    name: str
    value: Any
    tag: str
    traces: Sequence[TraceGraph]
    evidence: Sequence[TraceGraph]
    memory: Memory
    replace: bool = False
    long_feedback: bool = True


def write_prompt(problem: Problem, size: int) -> str:
    """The prompt with `size` runs, or twice as many asserts.

    Of a function's description only the first paragraph goes with asserts: forms listed as examples mislead.
    """
    kind = problem.parameter.kind
    if kind == "code":
        calls = _distinct(calls_of(problem.parameter, problem.evidence))[: size * 2]
        return _asserting(problem, calls, size) if calls else _code(problem, size)
    return _text(problem, size) if asks_sentences(problem.parameter) else _value(problem, size)


def _asserting(problem: Problem, calls: Sequence[Call], size: int) -> str:
    header = definition_line(str(problem.value))
    function = header.split("def ", 1)[1].split("(", 1)[0]
    expected = [call.expected for call in calls if isinstance(call.expected, str)]
    shape = shape_of(expected) if len(expected) == len(calls) else ""
    return fill(
        "small_asserts",
        signature=header.removeprefix("async ").removeprefix("def ").rstrip(":"),
        purpose="\n".join([problem.parameter.description.strip().split("\n\n")[0], *_reach(problem)]),
        shape=f"All expected return values have this form: {shape}." if shape else "",
        asserts="\n".join(_assertion(function, call) for call in calls),
        remarks=_remarks(problem, size),
    )


def _assertion(function: str, call: Call) -> str:
    expected = str(call.expected)
    shown = []
    for name, value in call.arguments.items():
        text = repr(window(expected, value)) if name in call.located else repr(value)
        shown.append(text if name in call.located or len(text) <= _PLAIN_ARGUMENT else name)
    return f"assert {function}({', '.join(shown)}) == {call.expected!r}"


def _distinct(calls: Sequence[Call]) -> list[Call]:
    """The calls whose expected value stands in an argument: those that differ first, wrong ones before right ones."""
    located = [call for call in calls if call.judged and call.located]
    different: dict[tuple[str, ...], Call] = {}
    for call in sorted(located, key=lambda call: call.right):
        different.setdefault(_sketch(call), call)
    chosen = {id(call) for call in different.values()}
    seen = {_assertion("", call) for call in different.values()}
    rest = [call for call in located if id(call) not in chosen and _assertion("", call) not in seen]
    return [*different.values(), *{_assertion("", call): call for call in rest}.values()]


def _sketch(call: Call) -> tuple[str, ...]:
    """How the expected value stands in the text: calls of one sketch teach the same."""
    text, expected = str(call.arguments[call.located[-1]]).strip(), str(call.expected)
    if text == expected:
        return ("whole",)
    before, _, after = text.rpartition(expected)
    return ("start" if not before else before[-12:], "end" if len(after) < 2 else after[:6])


def _code(problem: Problem, size: int) -> str:
    source, purpose = str(problem.value).strip(), problem.parameter.description
    told = " ".join(purpose.split()) in " ".join(source.split())
    return fill(
        "small_code",
        source=source,
        purpose="\n".join([*([] if told else [purpose]), *_reach(problem)]),
        runs=_runs(problem, size),
        remarks=_remarks(problem, size),
    )


def _reach(problem: Problem) -> list[str]:
    """What code may use and what not: of its constraint the lines after the one on its form."""
    return problem.parameter.constraint.splitlines()[1:]


def _text(problem: Problem, size: int) -> str:
    expected = _expected(problem.evidence)
    shape, examples = shape_of(expected), ", ".join(repr(value) for value in dict.fromkeys(expected[:3]))
    where = "in the place of the present ones" if problem.replace else "beside the present ones"
    return fill(
        "small_text",
        purpose=_purpose(problem.parameter),
        tag=free_tag([str(problem.value)], "text"),
        value=str(problem.value).strip("\n"),
        runs=_runs(problem, size),
        remarks=_remarks(problem, size),
        shape=f"All expected answers have this form: {shape}. For example: {examples}." if shape else "",
        place=where,
        reply=problem.tag,
        name=problem.name,
    )


def last_sentence(problem: Problem) -> str:
    """What new sentences for a text end with: the expected answers' form, if it has a name and is not said yet."""
    shape = shape_of(_expected(problem.evidence))
    sentence = f"End with the answer in this form: {shape}."
    return sentence if shape and sentence not in str(problem.value) else ""


def _expected(evidence: Sequence[TraceGraph]) -> list[str]:
    return [value for trace in evidence if (value := expected_of(trace)) is not None]


def _value(problem: Problem, size: int) -> str:
    parameter = problem.parameter
    rules = [f"It must be: {parameter.constraint}"] if parameter.constraint else []
    if parameter.kind == "choice":
        rules.append("Allowed: " + ", ".join(show_value(choice)[0] for choice in parameter.choices))
    return fill(
        "small_value",
        purpose=parameter.description or f"{parameter.key} is a value of a program.",
        tag=problem.tag,
        name=problem.name,
        value=show_value(problem.value)[0],
        constraint="\n".join(rules),
        runs=_runs(problem, size),
        remarks=_remarks(problem, size),
    )


def _purpose(parameter: Parameter) -> str:
    purpose = parameter.description or f"{parameter.key} is a text that a program uses."
    return f"{purpose}\nIt must be: {parameter.constraint}" if parameter.constraint else purpose


def _runs(problem: Problem, size: int) -> str:
    """Inputs, model replies and feedback of runs, those that went wrong first."""
    ordered = sorted(problem.traces, key=lambda trace: (trace.feedback.score or 0.0) >= 1.0)
    texts = []
    for trace in ordered[:size]:
        given = [node for node in trace.blanket if isinstance(node._data, str) and not isinstance(node, Value)]
        made = [n for n in trace.nodes if n is trace.output or (n.operation and n.operation.language_model)]
        lines = [f"- {trace.names.get(node, node.name)}: {_excerpt(node)}" for node in [*given, *made]]
        said = str(trace.feedback.text or trace.feedback.score)
        said = said if problem.long_feedback else cut_middle(said, WHOLE)
        texts.append("\n".join([*lines, f"  Feedback: {said}"]))
    return "Runs of the program:\n" + "\n\n".join(texts) + "\n" if texts else ""


def _excerpt(node: Node) -> str:
    if isinstance(node._data, BaseException):
        return f"raised {cut_middle(error_line(node._data), MESSAGE)}"
    return repr(cut_middle(show_value(node._data)[0], _EXCERPT))


def _remarks(problem: Problem, size: int) -> str:
    """The reasons why earlier replies for this parameter could not be used."""
    if not size:
        return ""
    mine = [o for o in problem.memory.rejections() if f'name="{problem.name}"' in o.reply]
    reasons = [cut_middle(outcome.rejected or "", _REASON) for outcome in mine[-2:]]
    return "".join(f"An earlier version could not be used: {reason}\n" for reason in reasons)
