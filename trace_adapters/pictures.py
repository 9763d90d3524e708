"""Pictures of traces: Mermaid, DOT and HTML, with repeated calls folded."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trace_adapters.nodes import FailedCall, Node, Value
from trace_adapters.showing import repr_of, str_of

_HOVER = 400  # characters of a value on hover
_PAGE = 100  # calls in one collapsible piece of the list
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 170, 38, 20, 34


@dataclass(frozen=True)
class Shape:
    """One thing in a picture.

    Attributes:
        key: Unique in the picture.
        kind: "parameter", "input", "call", "failed" or "folded" (many calls of one operation).
        label: One line.
        hover: The value.
    """

    key: str
    kind: str
    label: str
    hover: str


@dataclass(frozen=True)
class Picture:
    """What to draw: shapes, parents first as far as nothing is folded, and the edges between their keys."""

    shapes: tuple[Shape, ...]
    edges: tuple[tuple[str, str], ...]
    output: str


def draw(
    nodes: Sequence[Node],
    blanket: Sequence[Node],
    output: Node,
    names: Mapping[Node, str],
    max_shapes: int,
) -> Picture:
    """Choose what to show of a trace.

    Of an operation that is called often the first and the last calls are shown, the others as one shape;
    failed calls and the output always stand for themselves. Nameless numbers and short texts stand in
    the calls they went into.
    """
    shown = [node for node in blanket if not is_constant(node)] + list(nodes)
    shown += [] if output in set(shown) else [output]
    place = _folded(shown, output, max_shapes)
    members = Counter(place.values())
    shapes: dict[str, Shape] = {}
    for node in shown:
        key = place[node]
        if key not in shapes:
            folded = members[key] > 1
            shapes[key] = _fold(key, node, members[key]) if folded else _shape(key, node, names)
    edges = dict.fromkeys(
        (place[source], place[node])
        for node in shown
        for source in node.sources
        if source in place and place[source] != place[node]
    )
    return Picture(tuple(shapes.values()), tuple(edges), place[output])


def mermaid(picture: Picture) -> str:
    """The picture as a Mermaid flowchart."""
    open_close = {"parameter": ("[/", "/]"), "input": ("([", "])"), "folded": ("[[", "]]")}
    lines = ["flowchart TD"]
    for shape in picture.shapes:
        start, end = open_close.get(shape.kind, ("[", "]"))
        label = html.escape(shape.label.replace("#", "#35;"), quote=False).replace('"', "#quot;").replace("\n", " ")
        lines.append(f'    {shape.key}{start}"{label}"{end}:::{shape.kind}')
    lines += [f"    {source} --> {target}" for source, target in picture.edges]
    lines += [f"    style {picture.output} stroke-width:3px"]
    lines += [f"    classDef {kind} fill:{color},stroke:#555" for kind, color in _COLORS.items()]
    return "\n".join(lines) + "\n"


def dot(picture: Picture) -> str:
    """The picture in the DOT language of Graphviz; values are tooltips."""
    lines = ["digraph trace {", '    node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=11];']
    for shape in picture.shapes:
        color, width = _COLORS[shape.kind], 3 if shape.key == picture.output else 1
        lines.append(
            f"    {shape.key} [label={_quoted(shape.label)}, tooltip={_quoted(shape.hover)}, "
            f'fillcolor="{color}", penwidth={width}];'
        )
    lines += [f"    {source} -> {target};" for source, target in picture.edges]
    return "\n".join([*lines, "}"]) + "\n"


def page(fragment: str) -> str:
    """A fragment as an HTML file of its own."""
    return f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Trace</title>\n{fragment}\n</html>\n'


def fragment(
    picture: Picture, nodes: Sequence[Node], names: Mapping[Node, str], feedback: tuple[float | None, str]
) -> str:
    """The picture, the feedback, the parameters and a collapsible list of all calls, as HTML."""
    score, text = feedback
    said = "" if score is None else f"<b>{score:g}</b> "
    parameters = [node for node in nodes if isinstance(node, Value)]
    calls = [node for node in nodes if node.operation is not None]
    parts = [
        f'<div class="trace-adapters"><style>{_STYLE}</style>',
        f"<p>Feedback: {said}{html.escape(text)}</p>",
        f"<details open><summary>Picture</summary>{_svg(picture)}</details>",
        f"<details><summary>Parameters ({len(parameters)})</summary>",
        *(f"<p>{html.escape(names[n])}</p><pre>{html.escape(_text(n._data))}</pre>" for n in parameters),
        "</details>",
        f"<details {'open' if len(calls) <= _PAGE else ''}><summary>Calls ({len(calls)})</summary>",
    ]
    numbers = {node: number for number, node in enumerate(nodes)}
    for start in range(0, len(calls), _PAGE):
        piece = calls[start : start + _PAGE]
        lines = "\n".join(_line(node, names, numbers) for node in piece)
        counted = Counter(node.name for node in piece).most_common(3)
        about = ", ".join(f"{count} × {html.escape(name)}" for name, count in counted)
        summary = f"<summary>{start + 1}–{start + len(piece)}: {about}</summary>"
        parts.append(f"<details {'open' if len(calls) <= _PAGE else ''}>{summary}<ol>{lines}</ol></details>")
    return "\n".join([*parts, "</details></div>"])


def is_constant(node: Node) -> bool:
    """Whether a node is a nameless number, None or short text, best shown in the call it went into."""
    value = node._data
    plain = value is None or isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= 20)
    return plain and node._name is None and node._operation is None and not isinstance(node, Value)


_COLORS = {"parameter": "#fde9c8", "input": "#e4ecf7", "call": "#eef5ea", "failed": "#f9d0cd", "folded": "#f2f2f2"}
_STYLE = (
    ".trace-adapters{font:13px sans-serif}.trace-adapters pre{white-space:pre-wrap;background:#f6f6f6;padding:6px}"
    ".trace-adapters summary{cursor:pointer}.trace-adapters ol{font-family:monospace;list-style:none;padding-left:1em}"
    ".trace-adapters .failed{color:#b3261e}.trace-adapters svg{max-width:100%;height:auto}"
)


def _folded(shown: Sequence[Node], output: Node, max_shapes: int) -> dict[Node, str]:
    """Node -> key of its shape."""
    groups: dict[str, list[Node]] = {}
    for node in shown:
        groups.setdefault(f"{_kind(node)} {node.name if node.operation is not None else ''}", []).append(node)
    for edge in (len(shown), 8, 4, 2, 1, 0):
        hidden: dict[Node, int] = {}
        for number, group in enumerate(groups.values()):
            if (group[0].failed and edge) or len(group) <= max(2 * edge, 1):
                continue
            for node in group[edge : len(group) - edge]:
                if node is not output:
                    hidden[node] = number
        if len(shown) - len(hidden) + len(set(hidden.values())) <= max_shapes:
            break
    return {node: f"f{hidden[node]}" if node in hidden else f"n{number}" for number, node in enumerate(shown)}


def _kind(node: Node) -> str:
    if isinstance(node, FailedCall):
        return "failed"
    if isinstance(node, Value):
        return "parameter"
    return "input" if node.operation is None else "call"


def _shape(key: str, node: Node, names: Mapping[Node, str]) -> Shape:
    name = names.get(node, node.name)
    if node.operation is None:
        return Shape(key, _kind(node), f"{name} = {_short(_text(node._data))}", _short(_text(node._data), _HOVER))
    constants = [
        f"{argument}={_short(_text(source._data), 20)}"
        for argument, source in zip(node._argument_names, node.sources, strict=True)
        if is_constant(source)
    ]
    call = f"{name} = {node.operation.name}({', '.join(constants)})" if constants else name
    return Shape(key, _kind(node), call, _short(_text(node._data), _HOVER))


def _fold(key: str, node: Node, count: int) -> Shape:
    what = {"parameter": "parameters", "input": "inputs", "failed": "failed calls"}.get(_kind(node))
    return Shape(key, "folded", f"… {count} {what or f'calls of {node.name}'}", f"{count} calls, folded")


def _line(node: Node, names: Mapping[Node, str], numbers: Mapping[Node, int]) -> str:
    arguments = ", ".join(
        f"{html.escape(argument)}={_reference(source, names, numbers)}"
        for argument, source in zip(node._argument_names, node.sources, strict=True)
    )
    operation = node.operation.name if node.operation is not None else ""
    css = ' class="failed"' if node.failed else ""
    hover = html.escape(_short(_text(node._data), _HOVER))
    return (
        f'<li id="t{numbers[node]}" title="{hover}"{css}>{html.escape(names[node])} = '
        f"{html.escape(operation)}({arguments}) → {html.escape(_short(_text(node._data), 60))}</li>"
    )


def _reference(node: Node, names: Mapping[Node, str], numbers: Mapping[Node, int]) -> str:
    if is_constant(node):
        return html.escape(_text(node._data))
    hover, name = html.escape(_short(_text(node._data), _HOVER)), html.escape(names.get(node, node.name))
    if node in numbers and node.operation is not None:
        return f'<a href="#t{numbers[node]}" title="{hover}">{name}</a>'
    return f'<span title="{hover}">{name}</span>'


def _svg(picture: Picture) -> str:
    """The picture with parents above children, as far as folding allows."""
    rank: dict[str, int] = {}
    parents: dict[str, list[str]] = {}
    for source, target in picture.edges:
        parents.setdefault(target, []).append(source)
    for shape in picture.shapes:
        rank[shape.key] = 1 + max((rank[p] for p in parents.get(shape.key, []) if p in rank), default=-1)
    rows: Counter[int] = Counter()
    at: dict[str, tuple[int, int]] = {}
    for shape in picture.shapes:
        row = rank[shape.key]
        at[shape.key] = (10 + rows[row] * (_WIDTH + _GAP_X), 10 + row * (_HEIGHT + _GAP_Y))
        rows[row] += 1
    width, height = max(rows.values()) * (_WIDTH + _GAP_X) + 10, (max(rows) + 1) * (_HEIGHT + _GAP_Y) + 10
    drawn = [_arrow(at[source], at[target]) for source, target in picture.edges]
    drawn += [_box(shape, *at[shape.key], shape.key == picture.output) for shape in picture.shapes]
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{"".join(drawn)}</svg>'


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + _WIDTH // 2, start[1] + _HEIGHT, end[0] + _WIDTH // 2, end[1]
    return f'<path d="M{x1},{y1} C{x1},{y1 + 20} {x2},{y2 - 20} {x2},{y2}" fill="none" stroke="#888"/>'


def _box(shape: Shape, x: int, y: int, is_output: bool) -> str:
    border = 3 if is_output else 1
    return (
        f'<g><title>{html.escape(shape.hover)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
        f'fill="{_COLORS[shape.kind]}" stroke="#555" stroke-width="{border}"/><text x="{x + 8}" y="{y + 24}" '
        f'font-size="12">{html.escape(_short(shape.label, 24))}</text></g>'
    )


def _text(value: object) -> str:
    if isinstance(value, BaseException):
        name = getattr(value, "type_name", type(value).__name__)
        message = str_of(value)
        return f"{name}: {message}" if message else str(name)
    return value if isinstance(value, str) else repr_of(value)


def _short(text: str, limit: int = 40) -> str:
    text = " ".join(text.split()) if limit < _HOVER else text
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
