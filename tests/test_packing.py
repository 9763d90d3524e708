"""What copies and pickles of graphs promise."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest

import trace_adapters as ta


@ta.bundle(trainable=True)
def shout(text):
    """Say it loudly."""
    return text.upper()


class Agent(ta.Module):
    def __init__(self):
        self.template = ta.node("Answer: {q}", name="template", trainable=True)
        self.shout = shout

    @ta.bundle(trainable=True)
    def fill(self, template, q):
        return template.format(q=q)

    def forward(self, q):
        return self.shout(self.fill(self.template, q))


@ta.model
class Small:
    def __init__(self):
        super().__init__()
        self.factor = ta.node(2, name="factor", trainable=True)

    def forward(self, x):
        return self.factor * x


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))


BOTH = pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])


@BOTH
def test_a_node_keeps_its_history(copied):
    """Values, names, operations and parents come along; nothing is shared with the original."""
    x = ta.node([1, 2], name="x", trainable=True)
    y = x[0] + 1
    z = copied(y)
    assert (z.data, z.name, z.description) == (2, "add", "x add y")
    assert z.parents[0].parents[0].key == "x"
    assert z.parents[0].parents[0] is not x
    assert ta.propagate(z, "more").candidate == {"x": [1, 2]}


@BOTH
def test_depth_is_no_limit(copied):
    """Twenty thousand operations in a row are copied without recursion."""
    y = ta.node(0, name="x", trainable=True)
    for _ in range(20_000):
        y = y + 1
    assert len(ta.propagate(copied(y), "x")) == 20_001


@BOTH
def test_what_nodes_share_is_one_thing_in_the_copy(copied):
    """Identity survives inside one copy, in a list, a dict and a trace."""
    x = ta.node(1, name="x", trainable=True)
    y = x + 1
    z = y * 2
    one, two, three = copied([z, y, x])
    assert one.parents[0] is two
    assert two.parents[0] is three
    assert two.sources[0].parameter is three


@BOTH
def test_many_nodes_of_one_chain_cost_what_the_chain_costs(copied):
    """A list of all intermediate results is copied in linear time."""
    chain = [ta.node(0, name="x", trainable=True) + 1]
    for _ in range(3_000):
        chain.append(chain[-1] + 1)
    again = copied(chain)
    assert all(later.sources[0] is earlier for earlier, later in itertools.pairwise(again))


@BOTH
def test_a_trace_is_copied_with_its_feedback(copied):
    """A trace of a failed call comes back whole."""
    with pytest.raises(ta.ExecutionError) as caught:
        Agent().fill(ta.node("{other}", name="t", trainable=True), "q")
    graph = copied(ta.propagate(caught.value.node, ta.Feedback(0.0, "wrong"), info={"example_id": "3"}))
    assert graph.feedback == ta.Feedback(0.0, "wrong")
    assert isinstance(graph.failure.data, KeyError)
    assert graph.failure.place is not None
    assert [graph.names[node] for node in graph.nodes] == ["t", "fill", "fill_2"]
    assert graph.to_json() == copied(graph).to_json()


@BOTH
@pytest.mark.parametrize("make", [Agent, Small])
def test_programs_are_copied(copied, make):
    """A module keeps its values, also learned sources of its methods, and goes its own way."""
    program = make()
    if make is Agent:
        program.fill.parameter.data = "def fill(self, template, q):\n    return 'learned ' + q"
    other = copied(program)
    assert other.values() == program.values()
    assert other(3 if make is Small else "x").data == program(3 if make is Small else "x").data
    key = next(iter(program.values()))
    other.parameters_dict()[key].data = "changed"
    assert program.values()[key] != "changed"


def test_a_bundle_of_a_module_travels_by_name():
    """As functions do; one that was made on the spot travels with its function's name."""
    assert through_pickle(shout) is shout
    assert through_pickle(Agent.fill) is Agent.fill
    made = through_pickle(ta.bundle("[count] Length.")(len))
    assert made("abc").data == 3


def test_execution_errors_travel():
    """Between processes, the failed call comes along."""
    with pytest.raises(ta.ExecutionError) as caught:
        shout(5)
    again = through_pickle(caught.value)
    assert str(again) == str(caught.value)
    assert again.node.failed


def test_detach_and_clone():
    """A detached node has the value alone, a clone has the original as its parent."""
    x = ta.node([1], name="x", trainable=True)
    assert x.detach().parents == []
    assert x.detach().data == [1]
    assert x.clone().parents == [x]
