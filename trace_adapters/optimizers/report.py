"""Traces as a text that a model can read: the pseudo-program, its values, the feedback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trace_adapters.errors import SettingError
from trace_adapters.lines import annotate, split_lines
from trace_adapters.lm.messages import count_tokens
from trace_adapters.nodes import FailedCall, Node, Parameter, Value
from trace_adapters.optimizers.budget import MESSAGE, Cuttable, Said, cut_middle, error_line, shorten, show_value
from trace_adapters.traces import TraceGraph, unique_names

SECTIONS = ("code", "documentation", "variables", "constraints", "inputs", "others", "outputs", "feedback")
_SHORT = 40  # characters up to which a nameless text stands in the call itself
REPEATS = 6  # calls of one operation in a trace that are shown without folding
ARGUMENTS = 20  # of one call that are all shown
_FEW = 16  # traces up to which every number of them is tried


@dataclass(frozen=True)
class Report:
    """A problem (f, g) of OPTO as text.

    Attributes:
        text: The sections, in Markdown.
        names: The variable names that stand in it -> parameter.
        tokens: Estimate of the length.
        traces: How many of the traces are in it; fewer than given if not all fit.
        nodes: The nodes of the first trace -> their names.
    """

    text: str
    names: dict[str, Parameter]
    tokens: int
    traces: int
    nodes: dict[Node, str]


def write_report(
    traces: Sequence[TraceGraph],
    parameters: Sequence[Parameter],
    base: Mapping[str, Any],
    *,
    tag: str = "value",
    mask: Iterable[str] = (),
    max_tokens: int = 16_000,
) -> Report:
    """Write traces of one program as one report (OptoPrime, arXiv 2406.16218 sec. 3.2).

    Code and documentation are printed once for all traces that share them; every trace has its own inputs, outputs
    and feedback. Values of `parameters` are never cut. Other values, error messages among them, lose their middle,
    farthest from the output first; then long feedback does, the longest first, down to some hundred tokens each, with
    the number of characters left out in its place; then repeated calls are folded harder; then whole traces are left
    out, the last first.

    Args:
        traces: Judged runs, at least one.
        parameters: What is to be changed; other parameters in the traces are shown as inputs.
        base: Parameter key -> current value.
        tag: The tag around the variables' values.
        mask: Sections to leave out, of `SECTIONS` (the masked variant of the article).
        max_tokens: Limit of the estimated length.

    Raises:
        SettingError: If not even the variables and the cut feedback of one trace fit, or a masked section is unknown.
    """
    hidden = read_mask(mask)
    names = parameter_names(parameters)
    by_name = {names[parameter]: parameter for parameter in parameters}
    variables = _variables(by_name, base, tag, hidden)
    pieces: list[str | Cuttable] = []

    def write(count: int) -> Report | None:
        views = [_View(trace, names) for trace in traces[:count]]
        for repeats in (REPEATS, 3, 1, 0):
            pieces[:] = [*variables, *_program(views, by_name, hidden, repeats)]
            pieces.extend(_runs(views, len(traces), hidden, repeats))
            if shorten(pieces, max_tokens):
                text = "\n".join(str(piece) for piece in pieces).strip() + "\n"
                shown = {node: views[0].name(node) for node in (*traces[0].blanket, *traces[0].nodes)}
                return Report(text, by_name, count_tokens(text), count, shown)
        return None

    found = _largest(write, len(traces))
    if found is not None:
        return found
    needed = sum(count_tokens(str(piece)) for piece in pieces)
    raise SettingError(
        f"The variables {list(by_name)} and the feedback of one trace need about {needed} tokens, and only "
        f"{max_tokens} are left of max_prompt_tokens; values of variables are never cut, so raise max_prompt_tokens or "
        "train fewer parameters at once."
    )


def _largest(write: Callable[[int], Report | None], total: int) -> Report | None:
    """The report of as many traces as fit; of very many, as of a large batch, found by halving."""
    if total <= _FEW:
        return next((report for report in map(write, range(total, 0, -1)) if report is not None), None)
    best, fits, too_many, count = None, 0, total + 1, 1
    while too_many - fits > 1:
        report = write(count)
        if report is None:
            too_many = count
        else:
            best, fits = report, count
        grows = too_many > total and fits > 0
        count = min(2 * fits, total) if grows else (fits + too_many) // 2
    return best


def parameter_names(parameters: Sequence[Parameter]) -> dict[Parameter, str]:
    """Parameter -> the variable name that stands for it in every prompt."""
    names = unique_names(parameters)
    return {parameter: names[parameter] for parameter in parameters}


def read_mask(mask: Iterable[str]) -> frozenset[str]:
    """Section names from a mask, which may write them as the article does: `#Code`.

    Raises:
        SettingError: If there is no such section.
    """
    names = [mask] if isinstance(mask, str) or not isinstance(mask, Iterable) else list(mask)
    plain = {str(name).lstrip("# ").lower(): name for name in names}
    unknown = [name for key, name in plain.items() if key not in SECTIONS]
    if unknown:
        raise SettingError(f"mask holds section names of {', '.join(SECTIONS)}; got {unknown[0]!r}.")
    return frozenset(plain)


class _View:
    """One trace with names that agree over all traces of the report."""

    def __init__(self, trace: TraceGraph, variables: Mapping[Parameter, str]) -> None:
        self.trace = trace
        self.variables = variables
        inside = set(trace.nodes)
        rest = [node for node in trace.nodes if not self.is_variable(node)]
        given = set(trace.blanket)
        extra = [] if trace.output in inside or trace.output in given else [trace.output]
        everything = unique_names([*variables, *trace.blanket, *rest, *extra])
        self.names: dict[Node, str] = everything
        self.distance = _distances(trace)
        self.calls = [node for node in [*rest, *extra] if node.operation is not None]
        called = set(self.calls)
        self.inputs = [node for node in [*trace.blanket, *rest, *extra] if node not in called]

    def is_variable(self, node: Node) -> bool:
        """Whether a node is the value of a parameter that may be changed."""
        return isinstance(node, Value) and node.parameter in self.variables

    def name(self, node: Node) -> str:
        if isinstance(node, Value) and node.parameter in self.variables:
            return self.variables[node.parameter]
        return self.names.get(node) or node.name

    def argument(self, node: Node) -> str:
        """A name, or the value itself where a nameless constant stands."""
        if self.is_constant(node):
            return json.dumps(node._data, ensure_ascii=False)
        return self.name(node)

    def is_constant(self, node: Node) -> bool:
        value = node._data
        plain = value is None or isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= _SHORT)
        return plain and node._name is None and node.operation is None and not isinstance(node, Value)

    def kept(self, repeats: int) -> tuple[list[Node | str], set[Node]]:
        """The calls to be shown, with a remark where calls were folded, and the calls that were."""
        return self._fold(self.calls, [self._call_group(node, repeats) for node in self.calls], repeats)

    def kept_inputs(self, repeats: int) -> list[Node | str]:
        """The inputs to be shown, with a remark where inputs of one name were folded."""
        shown = [node for node in self.inputs if not self.is_constant(node) and node is not self.trace.output]
        return self._fold(shown, [("inputs", node.name) for node in shown], repeats)[0]

    def _call_group(self, node: Node, repeats: int) -> tuple[str, str]:
        """What folds with what: calls of one operation. Failed calls stand alone while there is room for that."""
        operation = _operation_name(node)
        if isinstance(node, FailedCall):
            return (
                (self.name(node), "") if repeats > 1 else (f"calls of {operation} that raised", error_line(node._data))
            )
        return (self.name(node), "") if repeats > 1 and node in self.near_failures else ("calls of", operation)

    @cached_property
    def near_failures(self) -> set[Node]:
        """What went into failed calls."""
        return {source for node in self.calls if node.failed for source in node.sources}

    def _fold(
        self, nodes: Sequence[Node], groups: Sequence[tuple[str, str]], repeats: int
    ) -> tuple[list[Node | str], set[Node]]:
        members: dict[tuple[str, str], list[Node]] = {}
        for node, key in zip(nodes, groups, strict=True):
            members.setdefault(key, []).append(node)
        folded: dict[Node, str] = {}
        for (what, which), group in members.items():
            edge = max(repeats // 2, 1) if repeats else 0
            middle = group[edge : len(group) - max(edge, 1)] if len(group) > max(repeats, 1) else []
            middle = [node for node in middle if node is not self.trace.output]
            for node in middle:
                folded[node] = ""
            if middle:
                first, last = self.name(middle[0]), self.name(middle[-1])
                span = f"{first} … {last}" if len(middle) > 1 else first
                folded[middle[0]] = f"# … {len(middle)} more {what} {cut_middle(which, MESSAGE)}: {span}"
        lines: list[Node | str] = [folded.get(node, node) for node in nodes if folded.get(node, node) != ""]
        return lines, set(folded)


def _distances(trace: TraceGraph) -> dict[Node, int]:
    """Node -> number of calls between it and the output."""
    found = {trace.output: 0}
    front = [trace.output]
    inside = {*trace.nodes, *trace.blanket}
    while front:
        following = []
        for node in front:
            for source in node.sources:
                if source in inside and source not in found:
                    found[source] = found[node] + 1
                    following.append(source)
        front = following
    return found


def _variables(
    names: Mapping[str, Parameter], base: Mapping[str, Any], tag: str, hidden: frozenset[str]
) -> list[str | Cuttable]:
    if "variables" in hidden:
        return []
    lines: list[str | Cuttable] = ["# Variables"]
    for name, parameter in names.items():
        value = base.get(parameter.key)
        lines.append(f"\n## {name} ({_kind(parameter, value)})")
        if parameter.description:
            lines.append(parameter.description)
        if parameter.constraint and "constraints" not in hidden:
            lines.append(f"Constraint: {parameter.constraint}")
        lines.append(tagged(name, value, tag))
    return lines


def tagged(name: str, value: Any, tag: str) -> str:
    """A value in the form in which replies give it."""
    text = value if isinstance(value, str) else show_value(value)[0]
    if isinstance(value, str) or "\n" in text:
        return f'<{tag} name="{name}">\n{text.rstrip() if text.endswith(chr(10)) else text}\n</{tag}>'
    return f'<{tag} name="{name}">{text}</{tag}>'


def _kind(parameter: Parameter, value: Any) -> str:
    if parameter.kind == "choice":
        return "one of " + ", ".join(show_value(choice)[0] for choice in parameter.choices)
    if parameter.kind == "code":
        return "Python function"
    return parameter.kind if parameter.kind == "text" else f"{parameter.kind}, {type(value).__name__}"


def _program(
    views: Sequence[_View], names: Mapping[str, Parameter], hidden: frozenset[str], repeats: int
) -> list[str | Cuttable]:
    lines: list[str | Cuttable] = []
    if "code" not in hidden:
        programs: dict[str, list[int]] = {}
        for number, view in enumerate(views, 1):
            programs.setdefault("\n".join(_call_lines(view, repeats)), []).append(number)
        for program, numbers in programs.items():
            which = "" if len(programs) == 1 else f" (run {', '.join(map(str, numbers))})"
            lines += [f"\n# Code{which}", program or "# no call is known"]
    if "documentation" not in hidden:
        known = {" ".join(parameter.description.split()) for parameter in names.values()}
        documents = {
            f"- {_operation_name(node)}: ": " ".join(node.operation.description.split())
            for view in views
            for node in view.calls
            if node.operation is not None and node.operation.description
        }
        shown = [Cuttable(p, text, 1, quoted=False) for p, text in documents.items() if text not in known]
        lines += ["\n# Documentation", *shown] if shown else []
    return lines


def _call_lines(view: _View, repeats: int) -> list[str]:
    lines, _ = view.kept(repeats)
    return [line if isinstance(line, str) else _call_line(view, line, repeats) for line in lines]


def _call_line(view: _View, node: Node, repeats: int) -> str:
    operation = _operation_name(node)
    arguments = []
    left_out = 0
    count = len(node.sources)
    for number, (argument, source) in enumerate(node.recorded_inputs.items()):
        name = view.argument(source)
        is_own_code = isinstance(source, Value) and source.parameter.kind == "code"
        if is_own_code and (name == operation or argument.startswith("_")):
            continue
        at_an_end = number <= repeats or number >= count - 1 - repeats
        if count > ARGUMENTS and not at_an_end and not source.failed and not view.is_variable(source):
            left_out += 1
            if left_out == 1:
                arguments.append("")  # to be said below, in its place
                place = len(arguments) - 1
            continue
        arguments.append(f"{argument}={name}")
    if left_out:
        arguments[place] = f"… {left_out} more …"
    return f"{view.name(node)} = {operation}({', '.join(arguments)})" + ("  # raises" if node.failed else "")


def _runs(views: Sequence[_View], total: int, hidden: frozenset[str], repeats: int) -> list[str | Cuttable]:
    lines: list[str | Cuttable] = []
    explained: set[str] = set()
    for number, view in enumerate(views, 1):
        lines.append(f"\n# Run {number}" if total > 1 else "\n# Run")
        _, folded = view.kept(repeats)
        outputs = [view.trace.output]
        others = [node for node in view.calls if node not in folded and node is not view.trace.output]
        inputs = view.kept_inputs(repeats)
        sections: list[tuple[str, Sequence[Node | str]]] = [
            ("inputs", inputs),
            ("others", others),
            ("outputs", outputs),
        ]
        for section, nodes in sections:
            if section not in hidden and nodes:
                lines.append(f"## {section.capitalize()}")
                for node in nodes:
                    lines += [node] if isinstance(node, str) else _value_lines(view, node, explained)
        if "feedback" not in hidden:
            lines += ["## Feedback", *_feedback_lines(view.trace)]
    if len(views) < total:
        lines.append(f"\n({total - len(views)} more runs are left out for want of room.)")
    return lines


def _feedback_lines(trace: TraceGraph) -> list[str | Cuttable]:
    feedback = trace.feedback
    lines: list[str | Cuttable] = [] if feedback.score is None else [f"Score: {feedback.score:g}"]
    return lines + ([Said(feedback.text)] if feedback.text else [])


def _value_lines(view: _View, node: Node, explained: set[str]) -> list[str | Cuttable]:
    if isinstance(node, FailedCall):
        return _failure_lines(view, node, explained)
    text, quoted = show_value(node._data)
    return [Cuttable(f"{view.name(node)} = ", text, view.distance.get(node, 0), quoted=quoted)]


def _failure_lines(view: _View, node: FailedCall, explained: set[str]) -> list[str | Cuttable]:
    message = error_line(node._data)
    lines: list[str | Cuttable] = [
        Cuttable(f"{view.name(node)} = raised ", message, view.distance.get(node, 0), quoted=False)
    ]
    source = failing_source(node)
    if node.place is None:
        return lines
    if source is None:  # an ordinary function: its line, not its source
        return [*lines, f"  at line {node.place[0]}: {cut_middle(node.place[1].strip(), MESSAGE)}"]
    annotated = annotate(source, node.place, cut_middle(message, MESSAGE))
    if annotated in explained:
        failing = split_lines(annotated)[node.place[0] - 1].strip()
        return [*lines, f"  at line {node.place[0]}: {failing}"]
    explained.add(annotated)
    return [*lines, "  in:", *(f"  | {line}" for line in split_lines(annotated.removesuffix("\n")))]


def failing_source(node: FailedCall) -> str | None:
    """The text of the code parameter in which a failed call failed."""
    if node.place is None:
        return None
    number, line = node.place
    for source in node.sources:
        if isinstance(source, Value) and source.parameter.kind == "code" and isinstance(source._data, str):
            lines = split_lines(source._data)
            if 1 <= number <= len(lines) and lines[number - 1].strip() == line.strip():
                return source._data
    return None


def _operation_name(node: Node) -> str:
    return node.operation.name if node.operation is not None else ""
