"""Graphs of TextGrad's Variables as nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trace_adapters import AdapterError, Node
from trace_adapters.extend import Operation
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.naming import name_of_role, unique_names
from trace_adapters_textgrad.operations import Made, children_of, how_made
from trace_adapters_textgrad.parameters import VariableParameter, parameter
from trace_adapters_textgrad.telling import tell


def to_node(variable: Any, parameters: Iterable[Any] | None = None, *, names: Sequence[str] | None = None) -> Node:
    """A Variable with everything that led to it as a node; makes no model call.

    Args:
        variable: A `textgrad.Variable`, often a loss.
        parameters: The Variables that may be trained, also such as were computed: the graph ends there. Default:
            every text without predecessors that has `requires_grad`, which is TextGrad's default.
        names: Their keys, in the same order; default the beginning of each role description.

    Returns:
        The node; `ta.propagate(node, feedback).parameters` are those that reach it, each a view on its Variable.

    Raises:
        AdapterError: If `variable` is no Variable, or a parameter holds no text.

    Time O(Variables + predecessors), no recursion.
    """
    if not isinstance(variable, shims.Variable):
        raise AdapterError(f"to_node() takes a textgrad.Variable, got {variable!r}.")
    chosen = trainable_leaves(variable) if parameters is None else list(parameters)
    given = list(names) if names is not None else [None] * len(chosen)
    if len(given) != len(chosen):
        raise AdapterError(f"Expected one name for each of {len(chosen)} parameters, got {given!r}.")
    views = {v: parameter(v, name) for v, name in zip(chosen, given, strict=True)}
    recovery = Recovery(views)
    node = recovery.node(variable)
    recovery.warn_of_changes()
    return node


def trainable_leaves(variable: Any) -> list[Any]:
    """The texts without predecessors that have `requires_grad`, in an order that does not depend on sets."""
    recovery = Recovery({})
    recovery.survey(variable)
    leaves = [v for v in recovery.ranks if v.requires_grad and isinstance(v.value, str) and not children_of(v)]
    return sorted(leaves, key=recovery.rank)


class Recovery:
    """Makes nodes of Variables; those made once are used again.

    Args:
        parameters: Variable -> its parameter; the graph ends there.
        given: Variable -> the node that it was made from, for Variables that stand for values of a larger graph.

    Attributes:
        ranks: Variable -> a text that depends on its value, its role and its history only, children first.
    """

    def __init__(self, parameters: Mapping[Any, VariableParameter], given: Mapping[Any, Node] | None = None) -> None:
        self.ranks: dict[Any, str] = {}
        self._parameters = parameters
        self._given: dict[Any, Node] = dict(given or {})
        self._led: set[Any] = set()
        self._nodes: dict[Any, Node] = {}
        self._earlier: dict[tuple[Any, str], Node] = {}
        self._operations: dict[tuple[str, str], Operation] = {}
        self._changed: dict[str, None] = {}

    def rank(self, variable: Any) -> str:
        """What Variables of one call are ordered by where their values tell nothing."""
        return self.ranks.get(variable, "")

    def survey(self, output: Any) -> None:
        """Visit everything that `output` depends on, down to the parameters."""
        stack = [output]
        while stack:
            variable = stack[-1]
            children = self._children(variable)
            waiting = [child for child in children if child not in self.ranks]
            if variable in self.ranks or not waiting:
                stack.pop()
                if variable not in self.ranks:
                    self._note(variable, children)
            else:
                stack += waiting

    def node(self, output: Any) -> Node:
        """The node of a Variable, with what some parameter reaches on its way to it; other inputs are plain values."""
        self.survey(output)
        for variable in self.ranks:  # children first
            if variable not in self._nodes and variable in self._led:
                self._nodes[variable] = self._make(variable)
        return self._node_of(output, None)

    def warn_of_changes(self) -> None:
        """Warn if a Variable has another value now than in the call that used it."""
        if self._changed:
            names = ", ".join(map(repr, self._changed))
            tell(f"Changed between the forward pass and backward: {names}. The trace shows the values that were used.")

    def _children(self, variable: Any) -> set[Any]:
        ends = variable in self._parameters or variable in self._given
        return set() if ends else children_of(variable)

    def _note(self, variable: Any, children: set[Any]) -> None:
        parts = [str(variable.role_description), repr(variable.value), *sorted(self.ranks[c] for c in children)]
        self.ranks[variable] = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
        ends = variable in self._parameters or variable in self._given
        if ends or any(child in self._led for child in children):
            self._led.add(variable)

    def _make(self, variable: Any) -> Node:
        if variable in self._given:
            return self._given[variable]
        if variable in self._parameters:
            return self._parameters[variable].read()
        made = how_made(variable, self.rank)
        if made is None:
            return _leaf(variable)
        sources = tuple(self._node_of(argument.variable, argument.used) for argument in made.arguments)
        names = tuple(unique_names(argument.name for argument in made.arguments))
        return Node(shown_value(variable.value), made.shown, "", self._operation(made), names, sources)

    def _operation(self, made: Made) -> Operation:
        key = (made.name, made.description)
        return self._operations.setdefault(key, Operation(made.name, made.description, made.language_model))

    def _node_of(self, variable: Any, used: str | None) -> Node:
        """The node of a Variable as a call used it."""
        if variable not in self._nodes:
            self._nodes[variable] = _leaf(variable)
        if used is None or used == variable.value or variable in self._given:
            return self._nodes[variable]
        key = (variable, used)
        if key not in self._earlier:
            self._changed[str(variable.role_description)] = None
            self._earlier[key] = self._as_used(variable, used)
        return self._earlier[key]

    def _as_used(self, variable: Any, used: str) -> Node:
        view = self._parameters.get(variable)
        if view is not None:
            return view.holding(view.decode(used))
        now = self._nodes[variable]
        return Node(used, _given_name(now), now.description, now.operation, tuple(now.recorded_inputs), now.sources)


def shown_value(value: Any) -> Any:
    """A value as it stands in traces: a placeholder for bytes, which are pictures."""
    return f"<image, {len(value):,} bytes>" if isinstance(value, bytes) else value


def _leaf(variable: Any) -> Node:
    role = str(variable.role_description or "")
    return Node(shown_value(variable.value), name_of_role(role), role)


def _given_name(node: Node) -> str | None:
    """The name that a node was given; None if it goes by its operation."""
    return None if node.operation is not None and node.name == node.operation.name else node.name
