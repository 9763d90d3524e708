"""What pictures of traces promise."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

import trace_adapters as ta


def small():
    p = ta.node('a "b" <c>\n#1', name="prompt", trainable=True)
    y = ta.bundle(lambda text, doc: text + doc, name="join")(p, ta.node("the document", name="doc")) + "!"
    return ta.propagate(y, ta.Feedback(0.5, "too <short>"))


def large(n=5_000):
    p = ta.node("prompt", name="prompt", trainable=True)
    step = ta.bundle(lambda prompt, state: state + 1, name="step")
    state = ta.node(0, name="start")
    for _ in range(n):
        state = step(p, state)
    return ta.propagate(state, ta.Feedback(0.0, "wrong"))


def failing():
    with pytest.raises(ta.ExecutionError) as caught:
        ta.bundle(lambda t: 1 / 0, name="crash")(ta.node("p", name="p", trainable=True))
    return ta.propagate(caught.value.node, "no")


def test_mermaid():
    """Parameters, inputs and calls have their shapes; nothing in a value breaks the syntax."""
    assert small().to_mermaid().splitlines() == [
        "flowchart TD",
        "    n0([\"doc = the document\"]):::input",
        "    n1[/\"prompt = a #quot;b#quot; &lt;c&gt; #35;1\"/]:::parameter",
        "    n2[\"join\"]:::call",
        "    n3[\"add = add(y=!)\"]:::call",
        "    n1 --> n2",
        "    n0 --> n2",
        "    n2 --> n3",
        "    style n3 stroke-width:3px",
        "    classDef parameter fill:#fde9c8,stroke:#555",
        "    classDef input fill:#e4ecf7,stroke:#555",
        "    classDef call fill:#eef5ea,stroke:#555",
        "    classDef failed fill:#f9d0cd,stroke:#555",
        "    classDef folded fill:#f2f2f2,stroke:#555",
    ]  # fmt: skip


def test_dot():
    """Quotes and line ends are escaped; values are tooltips."""
    text = small().to_dot()
    assert text.startswith("digraph trace {")
    assert 'tooltip="a \\"b\\" <c>\\n#1"' in text
    assert "n2 -> n3;" in text
    assert text.count("->") == 3


def test_html_stands_alone_and_escapes_everything():
    """No address in it, every tag closed, values on hover."""
    page = small().to_html()
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "<c>" not in page
    assert "&lt;c&gt;" in page
    assert "too &lt;short&gt;" in page
    assert 'title="the document"' in page
    svg = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert len(ElementTree.fromstring(svg[0]).findall(".//{*}rect")) == 4
    assert small()._repr_html_() in page


@pytest.mark.parametrize("make", [small, failing, large])
def test_failures_parameters_and_the_output_are_always_shown(make):
    """Folding hides repetitions only."""
    graph = make()
    text = graph.to_mermaid()
    assert ":::parameter" in text
    assert (":::failed" in text) == (graph.failure is not None)
    assert "stroke-width:3px" in text


def test_a_large_trace_is_folded():
    """Five thousand calls become a few shapes; the list of them opens piece by piece."""
    graph = large()
    text = graph.to_mermaid()
    assert len(text.splitlines()) <= 60
    assert "… 4984 calls of step" in text
    page = graph.to_html()
    assert page.count("<details") == 3 + 50
    assert page.count("<li ") == 5_000
    assert len(graph.to_mermaid(max_shapes=5).splitlines()) < 20


def test_many_parameters_are_folded_too():
    """Ten thousand of them draw in no time."""
    y = ta.node(0)
    for number in range(2_000):
        y = y + ta.node(number, name=f"p{number}", trainable=True)
    text = ta.propagate(y, "x").to_dot()
    assert "parameters" in text
    assert len(text.splitlines()) < 150


def test_a_trace_without_nodes_draws():
    """Feedback on what no parameter reaches."""
    graph = ta.propagate(ta.node(1, name="one"), "x")
    assert "one = 1" in graph.to_mermaid()
    assert "one = 1" in graph.to_html()
