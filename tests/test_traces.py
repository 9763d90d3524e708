"""What propagation promises."""

from __future__ import annotations

import functools
import json
import random

import pytest
from hypothesis import given, settings, strategies as st

import trace_adapters as ta
from trace_adapters.errors import DataError
from trace_adapters.nodes import Value
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


def test_calls_beside_each_other_stand_in_the_order_of_the_arguments():
    """A trace reads as the program does."""
    p = ta.node(1, name="p", trainable=True)
    first, second, third = (ta.bundle(lambda x: x, name=name)(p) for name in ("first", "second", "third"))
    graph = ta.propagate(ta.bundle(lambda a, b, c: 0, name="join")(third, first, second), "bad")
    assert [node.name for node in graph.nodes] == ["p", "third", "first", "second", "join"]


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
        ((0.5, None), (0.5, "")),
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


@settings(max_examples=60, deadline=None)
@given(
    roots=st.lists(st.sampled_from(["trained", "frozen", "given"]), min_size=1, max_size=5),
    calls=st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=3), min_size=1, max_size=25),
)
def test_the_subgraph_is_every_node_on_a_path_and_their_other_inputs(roots, calls):
    """As the original computes it (compared graph by graph in benchmarks/agreement.py)."""
    nodes = [ta.node(0, name=f"r{n}", trainable=kind != "given") for n, kind in enumerate(roots)]
    for node, kind in zip(nodes, roots, strict=True):
        if kind == "frozen":
            node.trainable = False
    call = ta.bundle(lambda *xs: 0, name="call")
    for places in calls:
        nodes.append(call(*[nodes[place % len(nodes)] for place in places]))
    graph = ta.propagate(nodes[-1], "x")

    above = set()
    stack = [nodes[-1].read()]
    while stack:
        node = stack.pop()
        if node not in above:
            above.add(node)
            stack += node.sources
    reached = {node for node in above if any(n.parameter.trainable for n in values_above(node))}
    assert set(graph.nodes) == reached
    assert set(graph.blanket) == {s for node in reached for s in node.sources} - reached
    places = {node: place for place, node in enumerate(graph.nodes)}
    assert all(places.get(s, -1) < places[node] for node in graph.nodes for s in node.sources)
    assert ta.TraceGraph.from_json(graph.to_json()).to_json() == graph.to_json()


def values_above(node):
    if isinstance(node, Value):
        return [node]
    return [value for source in node.sources for value in values_above(source)]


def test_a_trace_that_leads_back_to_itself_is_no_trace():
    """JSON can say what a program cannot do."""
    entry = {"name": "x", "value": {"json": 1}}
    loop = {"operation": {"name": "f", "description": "", "language_model": False, "inputs": [["x", 0]]}}
    data = {"schema": 1, "nodes": [entry | loop], "blanket": 0, "inside": 1, "output": 0, "info": {}}
    with pytest.raises(DataError):
        ta.TraceGraph.from_json(json.dumps(data | {"feedback": {"score": 1, "text": ""}}))


def test_a_trace_of_another_schema_is_refused():
    """With the number that it has."""
    with pytest.raises(DataError, match="schema 99"):
        ta.TraceGraph.from_json('{"schema": 99}')


def test_a_large_graph_has_every_node_once():
    """No timing here (benchmarks/core.py has it): the sizes are right."""
    x = ta.node(0, name="x", trainable=True)
    y = x
    for _ in range(100_000):
        y = y + 1
    graph = ta.propagate(y, "x")
    assert (len(graph.nodes), len(graph.blanket), len(graph.names)) == (100_001, 100_000, 200_001)


@ta.bundle(traceable_code=True)
def twice_and_one(x):
    return x * 2 + 1


@ta.bundle
def broken(x):
    return x / 0


def places_of(value, place=()):
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places_of(item, (*place, key))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_trace_is_told_as_such_or_can_be_used(seed):
    """Whatever is missing or of another kind, there is no other error, nor later when it is written or drawn."""
    with pytest.raises(ta.ExecutionError) as caught:
        broken(twice_and_one(ta.node(5, name="x", trainable=True)))
    text = ta.propagate(caught.value.node, ta.Feedback(0.5, "wrong")).to_json()
    assert ta.TraceGraph.from_json(text).expand(ta.TraceGraph.from_json(text).nodes[1]).nodes
    chance, refused = random.Random(seed), 0
    for _ in range(250):
        data = json.loads(text)
        *above, key = chance.choice([place for place in places_of(data) if place])
        holder = functools.reduce(lambda inner, step: inner[step], above, data)
        if chance.random() < 0.3:
            del holder[key]
        else:
            holder[key] = chance.choice([None, -1, 99, 1.5, True, "x", "", [], {}, [1], {"a": 1}])
        try:
            graph = ta.TraceGraph.from_json(json.dumps(data))
        except DataError:
            refused += 1
            continue
        assert all((graph.to_json(), graph.to_mermaid(), graph.to_html()))
    assert 0 < refused < 250
