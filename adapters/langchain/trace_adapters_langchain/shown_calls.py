"""Calls of a chain as few-shot examples: what went into a prompt with examples, and what the model answered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trace_adapters import Node
from trace_adapters.extend import Demonstration, Value, unwrap


def find_demonstrations(output: Node, fields: Mapping[str, Sequence[str]]) -> dict[str, list[Demonstration]]:
    """Key of a parameter that holds examples -> the calls of one run that could be such examples.

    An example's fields are those of the prompt's variables that it names, and one more: the model's answer.

    Args:
        output: What the run gave.
        fields: Key -> the fields of an example.
    """
    if not fields:
        return {}
    nodes = _ancestors(output)
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for source in node.sources:
            users.setdefault(source, []).append(node)
    found: dict[str, list[Demonstration]] = {key: [] for key in fields}
    for node in nodes:
        for key in {source.parameter.key for source in node.sources if isinstance(source, Value)} & fields.keys():
            reply = _reply_to(node, users)
            call = None if reply is None else _call(node, reply, fields[key])
            if call is not None:
                found[key].append(call)
    return found


def _ancestors(output: Node) -> list[Node]:
    found, stack = {output: None}, [output]
    while stack:
        for source in stack.pop().sources:
            if source not in found:
                found[source] = None
                stack.append(source)
    return list(found)


def _reply_to(prompt: Node, users: Mapping[Node, Iterable[Node]]) -> Node | None:
    """The first call of a model that a prompt went into."""
    level, met = [prompt], {prompt}
    while level:
        level = [user for node in level for user in users.get(node, ()) if user not in met]
        met.update(level)
        for node in level:
            if node.operation is not None and node.operation.language_model:
                return None if node.failed else node
    return None


def _call(prompt: Node, reply: Node, fields: Sequence[str]) -> Demonstration | None:
    inputs = {name: unwrap(node) for name, node in prompt.recorded_inputs.items() if not isinstance(node, Value)}
    given = {name: inputs[name] for name in fields if name in inputs}
    missing = [name for name in fields if name not in given]
    text = _text(unwrap(reply))
    if not given or len(missing) != 1 or not text:
        return None
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return given, {missing[0]: text}


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, Mapping) else getattr(message, "content", message)
    return content if isinstance(content, str) else ""
