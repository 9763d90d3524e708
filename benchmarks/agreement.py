"""Whether the minimal subgraph, with its other direct inputs, is the one that trace-opt computes."""

from __future__ import annotations

import random
from typing import Any

import trace_adapters as ta
from benchmarks import shapes


def different_subgraphs(graphs: int = 300) -> int:
    """Of random graphs, built alike in both libraries, how many have another subgraph here than there."""
    return sum(_ours(seed) != _theirs(seed) for seed in range(graphs))


def _random_graph(seed: int, node: Any, bundle: Any) -> tuple[list[Any], list[Any]]:
    """All nodes in the order of their making, and the trainable ones."""
    chosen = random.Random(seed)
    call = bundle()(shapes.total)
    nodes: list[Any] = []
    trainable: list[Any] = []
    for number in range(chosen.randint(1, 6)):
        is_trainable = chosen.random() < 0.5
        nodes.append(node(0, name=f"root{number}", trainable=is_trainable))
        trainable += nodes[-1:] if is_trainable else []
    for _ in range(chosen.randint(3, 40)):
        places = dict.fromkeys(chosen.randrange(len(nodes)) for _ in range(chosen.randint(1, 3)))
        nodes.append(call(*[nodes[place] for place in places]))
    return nodes, trainable


def _ours(seed: int) -> set[int]:
    nodes, _ = _random_graph(seed, ta.node, ta.bundle)
    graph = ta.propagate(nodes[-1], "feedback")
    places = {id(node.read()): place for place, node in enumerate(nodes)}
    return {places[id(node)] for node in (*graph.nodes, *graph.blanket)}


def _theirs(seed: int) -> set[int]:
    from opto import trace
    from opto.trace.utils import sum_feedback

    trace.GRAPH.clear()
    nodes, trainable = _random_graph(seed, trace.node, trace.bundle)
    nodes[-1].backward("feedback")
    reached = [node for node in trainable if node.feedback]
    if not reached:
        return set()
    places = {id(node): place for place, node in enumerate(nodes)}
    return {places[id(node)] for _, node in sum_feedback(reached).graph}
