"""What judged runs tell about one parameter: expected values, where they stand, what form they have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trace_adapters.nodes import Node, Parameter, Value
from trace_adapters.optimizers.literals import read_literal
from trace_adapters.traces import TraceGraph

_QUOTED = re.compile(r""""([^"\n]{1,400})"|'([^'\n]{1,400})'|`([^`\n]{1,400})`|“([^”\n]{1,400})”""")
_CUE = re.compile(r"expect|correct|should|target|gold|reference|right answer", re.IGNORECASE)
_NEGATION = re.compile(r"\b(got|returned|gave|was|but|not|instead)\b[^.;]*$", re.IGNORECASE)
_AFTER_CUE = re.compile(r"(?:expected|correct|target|reference)\b[^:\n]{0,40}:[ \t]*([^\n]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Call:
    """One recorded call of a trainable function.

    Attributes:
        arguments: Name -> value, in order, without the code itself.
        output: What it returned; the exception if it failed.
        failed: Whether it raised.
        expected: What it should have returned, if that is known.
        located: Names of the arguments in which the expected value stands. Only computed ones (a model's reply) count
            if there are any, as the options of a given question hold every answer; or a given one with a line that
            holds the expected value and all of a computed one.
        judged: Whether its output is the one that was judged.
    """

    arguments: dict[str, Any]
    output: Any
    failed: bool
    expected: Any
    located: tuple[str, ...]
    judged: bool

    @property
    def right(self) -> bool:
        """Whether it returned what was expected."""
        return not self.failed and self.expected is not None and self.output == self.expected


def calls_of(parameter: Parameter, traces: Iterable[TraceGraph]) -> list[Call]:
    """The recorded calls that read a parameter, in order."""
    return [
        _call(node, trace)
        for trace in traces
        for node in trace.nodes
        if any(isinstance(source, Value) and source.parameter is parameter for source in node.sources)
    ]


def feeds_a_model(parameter: Parameter, traces: Iterable[TraceGraph]) -> bool:
    """Whether a language model was asked with what this parameter made: then a new value costs new model calls."""
    return any(_feeds_a_model(parameter, trace) for trace in traces)


def expected_values(trace: TraceGraph) -> list[str]:
    """What the output should have been, as far as the run's record or its feedback says so, likeliest first.

    `info["expected"]` if it is there; else what stands after "Expected …:" on its line, or in quotes after a word
    like "expected".
    """
    if trace.info.get("expected") is not None:
        return [str(trace.info["expected"])]
    text = trace.feedback.text
    found = [value for match in _AFTER_CUE.finditer(text) for value in _plain_values(match.group(1).strip())]
    for match in _QUOTED.finditer(text):
        before = re.split(r"[.;]\s", text[: match.start()])[-1][-80:]
        cues = list(_CUE.finditer(before))
        if cues and not _NEGATION.search(before[cues[-1].end() :]):
            found.append(next(group for group in match.groups() if group is not None))
    return list(dict.fromkeys(found))


def expected_of(trace: TraceGraph) -> str | None:
    """The likeliest expected value; the output itself if the run was right and gave a text."""
    output = trace.output._data
    if trace.feedback.score is not None and trace.feedback.score >= 1.0 and isinstance(output, str):
        return output
    return next(iter(expected_values(trace)), None)


def occurs(expected: str, text: str) -> bool:
    """Whether a value stands in a text as a whole token."""
    return bool(expected) and re.search(_token(expected), text) is not None


def window(expected: str, text: str, size: int = 220) -> str:
    """The part of a text, at most about `size` characters, in which a value stands last."""
    if len(text) <= size:
        return text
    places = list(re.finditer(_token(expected), text))
    if not places or places[-1].end() > len(text) - size:
        return "... " + text[-size:]
    start = max(0, places[-1].start() - size // 2)
    return ("... " if start else "") + text[start : start + size] + " ..."


def shape_of(values: Sequence[str]) -> str:
    """The form that texts have in common, in words; empty if there is none to name."""
    if not values:
        return ""
    distinct = sorted(set(values))
    few = len(distinct) <= _FEW < len(values) and all(re.fullmatch(r"[A-Za-z]+", value) for value in distinct)
    if few:
        return "one of " + ", ".join(repr(value) for value in distinct)
    return next((words for pattern, words in _SHAPES if all(re.fullmatch(pattern, value) for value in values)), "")


_FEW = 3  # different words up to which they are listed
_SHAPES = (
    (r"-?\d+", "digits only"),
    (r"-?\d+\.\d+", "a decimal number"),
    (r"\([A-Z]\)", "one capital letter in round brackets, brackets included"),
    (r"[A-Z]", "one capital letter"),
    (r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", "a date in digits"),
    (r"[A-Za-z]+", "one word"),
    (r"[a-z]+( [a-z]+)+", "words in lower case, separated by single spaces"),
)


def _feeds_a_model(parameter: Parameter, trace: TraceGraph) -> bool:
    reached: set[Node] = set()
    for node in trace.nodes:
        mine = isinstance(node, Value) and node.parameter is parameter
        if mine or any(source in reached for source in node.sources):
            if node.operation is not None and node.operation.language_model:
                return True
            reached.add(node)
    return False


def _plain_values(text: str) -> list[str]:
    """The texts in `'8'`, `{'answer': '8'}`, `answer = '8'` or `8.`"""
    text = re.sub(r"^[A-Za-z_]\w* = (?=\S)", "", text)
    try:
        value = read_literal(text)
    except ValueError:
        return [] if text[:1] in "\"'{[“`" else [text.removesuffix(".")]
    values = list(value.values()) if isinstance(value, dict) else [value]
    return [str(value) for value in values if isinstance(value, (str, int, float))]


def _call(node: Node, trace: TraceGraph) -> Call:
    arguments = {
        name: source._data
        for name, source in node.recorded_inputs.items()
        if not (isinstance(source, Value) and source.parameter.kind == "code")
    }
    judged = node is trace.output or any(node is source for source in trace.output.sources)
    expected: Any = None
    if judged and not node.failed and trace.feedback.score is not None and trace.feedback.score >= 1.0:
        expected = node._data
    elif judged:
        candidates = expected_values(trace)
        found = next((value for value in candidates if _places(value, arguments, node)), None)
        expected = _typed(found or next(iter(candidates), None), node)
    located = () if expected is None else _places(str(expected), arguments, node)
    return Call(arguments, node._data, node.failed, expected, located, judged)


def _places(expected: str, arguments: Mapping[str, Any], node: Node) -> tuple[str, ...]:
    """The arguments in which a value stands, or a given one with it and all of a computed one on one line."""
    texts = {name: value for name, value in arguments.items() if isinstance(value, str)}
    computed = {n: text for n, text in texts.items() if node.recorded_inputs[n].operation is not None}
    direct = tuple(name for name, text in (computed or texts).items() if occurs(expected, text))
    if direct:
        return direct
    for given in texts.keys() - computed.keys():
        for name, text in computed.items():
            if any(occurs(expected, line) and occurs(text.strip(), line) for line in texts[given].splitlines()):
                return tuple(argument for argument in arguments if argument in (given, name))
    return ()


def _typed(expected: str | None, node: Node) -> Any:
    """The expected value in the type that the call returned."""
    if expected is None or node.failed or isinstance(node._data, str):
        return expected
    try:
        value = read_literal(expected)
    except ValueError:
        return expected
    return value if type(value) is type(node._data) else expected


def _token(expected: str) -> str:
    start = r"(?<!\w)" if expected[0].isalnum() else ""
    end = r"(?!\w)" if expected[-1].isalnum() else ""
    return start + re.escape(expected) + end
