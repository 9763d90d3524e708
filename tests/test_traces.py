"""What propagation promises."""

from __future__ import annotations

import pytest

import trace_adapters as ta
from trace_adapters.errors import DataError
from trace_adapters.traces import unique_names


def test_the_minimal_subgraph_has_only_what_a_parameter_reaches():
    """Ancestors that no parameter reaches are left out, but for direct inputs."""
    p = ta.node(1, name="p", trainable=True)
    big = ta.node(10, name="doc") * 2 * 3
    z = (p + 1) * big
    graph = ta.propagate(z, "bad")
    assert [graph.names[n] for n in graph.nodes] == ["p", "add", "mul"]
    assert {n.data for n in graph.blanket} == {1, 60}
    assert graph.parameters == [p]


def test_no_parameter_gives_an_empty_graph():
    """Feedback on what cannot be trained is no error."""
    assert len(ta.propagate(ta.node(1) + 1, "x")) == 0


def test_names_are_unique_where_concatenation_would_clash():
    """`x`, `x` and `x_2` get three names."""
    nodes = [ta.node(1, name=n) for n in ("x", "x", "x_2", "x", "a b")]
    names = list(unique_names(nodes).values())
    assert len(set(names)) == 5
    assert all(name.isidentifier() for name in names)


def test_depth_is_no_limit():
    """Fifty thousand operations propagate without recursion."""
    x = ta.node(0, name="x", trainable=True)
    y = x
    for _ in range(50_000):
        y = y + 1
    assert len(ta.propagate(y, "x")) == 50_001


def test_outputs_of_one_step_have_feedback_of_their_own():
    """Two outputs with different feedback bring two graphs to the parameter."""
    x = ta.node(1, name="x", trainable=True)
    (x + 1).backward(ta.Feedback(0.0, "too small"))
    (x + 2).backward(ta.Feedback(1.0, "right"))
    assert [g.feedback.text for g in x.feedback] == ["too small", "right"]
    x.zero_feedback()
    assert x.feedback == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, (1.0, "")),
        (0.5, (0.5, "")),
        ("no", (None, "no")),
        ((0, "no"), (0.0, "no")),
        ({"score": 1}, (1.0, "")),
    ],
)
def test_feedback_reads_what_metrics_return(given, expected):
    """Numbers, texts, pairs and mappings are feedback."""
    feedback = ta.Feedback.of(given)
    assert (feedback.score, feedback.text) == expected


def test_a_trace_survives_json():
    """Structure, values, failures and feedback come back; what is no JSON comes back as its repr."""

    @ta.bundle()
    def crash(x, thing):
        raise IndexError("list index out of range")

    x = ta.node("v", name="x", trainable=True)
    with pytest.raises(ta.ExecutionError) as caught:
        crash(x, object)
    graph = ta.propagate(caught.value.node, ta.Feedback(0.0, "expected 8"), info={"example_id": "3"})
    text = graph.to_json()
    back = ta.TraceGraph.from_json(text, [x])
    assert back.to_json() == text
    assert back.parameters == [x]
    assert back.failure is not None
    assert back.feedback == ta.Feedback(0.0, "expected 8")
    assert repr(back.blanket[0].data) == repr(object)


def test_a_foreign_text_is_no_trace():
    """Reading something else is a clear error."""
    with pytest.raises(DataError, match="not a trace graph"):
        ta.TraceGraph.from_json('{"nodes": []}')
