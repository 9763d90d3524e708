"""TextGrad code as a stage of a larger graph, with DSPy or LangChain stages beside it."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import trace_adapters as ta
from trace_adapters import AdapterError, Node
from trace_adapters.extend import FailedCall, Operation, error_place, is_tracing, unwrap
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.functions import TrainableFunction
from trace_adapters_textgrad.graph import Recovery, shown_value
from trace_adapters_textgrad.naming import name_of_function, name_of_role, unique_names
from trace_adapters_textgrad.operations import ancestors_of, children_of
from trace_adapters_textgrad.parameters import VariableParameter, parameter
from trace_adapters_textgrad.variables import fresh_copy

_lock = threading.Lock()


def wrap(
    program: Callable[..., Any], *, parameters: Iterable[Any] | None = None, names: Sequence[str] | None = None
) -> Stage:
    """Make TextGrad code callable with nodes.

    Args:
        program: A `textgrad` Module such as `BlackboxLLM`, or a function of Variables that returns one.
        parameters: The Variables that may be trained. Default: those with `requires_grad` and a text that the program
            holds, as attributes or in its closure, and such as turn up in what it returns.
        names: Their keys, in the same order.

    Raises:
        AdapterError: If it is not callable.
    """
    return Stage(program, parameters=parameters, names=names)


class Stage(ta.Module):
    """TextGrad code that takes nodes or plain values and returns a node with the graph of what it did.

    The parameters are views: a step of any optimizer sets the Variables, and what is set there is seen here. Under
    `ta.using` the program runs with the candidate's values, in this thread or task only.

    Attributes:
        program: The TextGrad code.
        found: Key -> parameter.
    """

    def __init__(
        self,
        program: Callable[..., Any],
        *,
        parameters: Iterable[Any] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if not callable(program):
            raise AdapterError(f"wrap() takes a textgrad Module or a function of Variables, got {program!r}.")
        self.program = program
        self._fixed = parameters is not None
        chosen = list(_held_variables(program)) if parameters is None else list(parameters)
        given = list(names) if names is not None else [None] * len(chosen)
        if len(given) != len(chosen):
            raise AdapterError(f"Expected one name for each of {len(chosen)} parameters, got {given!r}.")
        self.found: dict[str, VariableParameter] = {}
        for variable, name in zip(chosen, given, strict=True):
            self._add(variable, name)
        self._name = name_of_function(program, "stage")
        self._signature = _signature_of(program)
        if self._signature is not None:
            self.__signature__ = self._signature

    def __call__(self, *args: Any, **kwargs: Any) -> Node:
        """Run the program; plain texts become Variables without `requires_grad`.

        Returns:
            A node with the text; not recorded under `ta.no_trace`.

        Raises:
            ExecutionError: If the program raises; `.node` is the failed call.
            ModelError: If a model's server cannot be asked.
        """
        known = list(self._signature.parameters) if self._signature is not None else []
        names = [known[number] if number < len(known) else f"input_{number + 1}" for number in range(len(args))]
        given: dict[Any, Node] = {}
        values = [self._take(name, value, given) for name, value in zip(names, args, strict=True)]
        keywords = {name: self._take(name, value, given) for name, value in kwargs.items()}
        try:
            output = self.program(*values, **keywords)
        except Exception as error:
            failure = shims.model_failure(error)
            if failure is not None:
                raise ta.ModelError(
                    f"The language model of {self._name} failed: {type(failure).__name__}: {failure}"
                ) from error
            raise self._failed(error, given) from error
        return self._recorded(output, given)

    def _add(self, variable: Any, name: str | None = None) -> None:
        """Take a parameter in, under a key that is unique here."""
        view = parameter(variable, name)
        with _lock:
            if any(view is known for known in self.found.values()):  # `in` would compare values
                return
            key = unique_names([*self.found, view.key])[-1]
            if key != view.key or not view.named:
                view.rename(key)
            self.found = {**self.found, key: view}  # a new one: other threads may be reading

    def _take(self, name: str, value: Any, given: dict[Any, Node]) -> Any:
        """What the program gets for an argument; notes where Variables that are made here come from."""
        if isinstance(value, list | tuple):
            items = [self._take(f"{name}_{number}", item, given) for number, item in enumerate(value, 1)]
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, Mapping):
            return {key: self._take(str(key), item, given) for key, item in value.items()}
        plain = unwrap(value)
        if isinstance(plain, shims.Variable) or not isinstance(plain, str | bytes):
            return plain
        node = value.read() if isinstance(value, Node) else None
        role = (node.description or node.name if node is not None else "") or name.replace("_", " ")
        variable = shims.Variable(plain, requires_grad=False, role_description=role)
        given[variable] = node if node is not None else Node(shown_value(plain), name)
        return variable

    def _recorded(self, output: Any, given: Mapping[Any, Node]) -> Node:
        if not isinstance(output, shims.Variable):
            operation = Operation(self._name, inspect.getdoc(self.program) or "")
            return Node(output, None, "", operation, *self._sources(given)) if is_tracing() else Node(output)
        if not is_tracing():
            return Node(output.value)
        if not self._fixed:
            self._discover(output, given)
        return Recovery({view.variable: view for view in self.found.values()}, given).node(output)

    def _discover(self, output: Any, given: Mapping[Any, Node]) -> None:
        known = {view.variable for view in self.found.values()}
        recovery = Recovery({})
        recovery.survey(output)
        new = [v for v in ancestors_of([output]) if _is_trainable(v) and v not in known and v not in given]
        for variable in sorted((v for v in new if not children_of(v)), key=recovery.rank):
            self._add(variable)

    def _failed(self, error: Exception, given: Mapping[Any, Node]) -> ta.ExecutionError:
        operation = Operation(self._name, inspect.getdoc(self.program) or "")
        return FailedCall(error, None, "", operation, *self._sources(given), place=error_place(error)).as_error()

    def _sources(self, given: Mapping[Any, Node]) -> tuple[tuple[str, ...], tuple[Node, ...]]:
        """Everything that may have gone into a call whose inside is not known."""
        nodes = (*given.values(), *(view.read() for view in self.found.values()))
        return tuple(unique_names([name_of_role(node.name) for node in nodes])), nodes

    def __deepcopy__(self, memo: dict[int, Any]) -> Stage:
        """A stage with a program and Variables of its own; engines are shared."""
        if inspect.isfunction(self.program) and self.found:
            raise AdapterError(
                f"{self._name} is a function: its Variables cannot be copied with it. Make it a textgrad Module that "
                "holds them as attributes."
            )
        for engine in _held(self.program, shims.ENGINES):
            memo[id(engine)] = engine
        for view in self.found.values():
            fresh_copy(view.variable, memo)
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(self.__dict__)
        twin.program = copy.deepcopy(self.program, memo)
        twin.found = {key: copy.deepcopy(view, memo) for key, view in self.found.items()}
        return twin


def _held_variables(program: Any) -> Iterator[Any]:
    """The trainable Variables that a program holds, each once, in the order of its attributes."""
    return (variable for variable in _held(program, shims.Variable) if _is_trainable(variable))


def _is_trainable(variable: Any) -> bool:
    return bool(variable.requires_grad) and isinstance(variable.value, str)


def _held(root: Any, kind: Any) -> Iterator[Any]:
    """Objects of a kind in a program: in attributes of TextGrad's and its own objects, containers and closures."""
    seen: set[int] = set()
    stack = [root]
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, kind):
            yield value
        elif isinstance(value, VariableParameter):
            stack.append(value.variable)
        else:
            stack += reversed(_parts(value, value is root))


def _parts(value: Any, is_root: bool) -> list[Any]:
    if inspect.ismethod(value):
        return [value.__self__, value.__func__]
    if inspect.isfunction(value):
        around = inspect.getclosurevars(value)
        return [*around.nonlocals.values(), *(v for v in around.globals.values() if _is_ours_to_search(v))]
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if is_root or _is_ours_to_search(value):
        return list(getattr(value, "__dict__", {}).values())
    return []


def _is_ours_to_search(value: Any) -> bool:
    return isinstance(value, (shims.Variable, shims.Module, shims.Function, TrainableFunction))


def _signature_of(program: Any) -> inspect.Signature | None:
    called = program.forward if isinstance(program, shims.Module | shims.Function) else program
    try:
        return inspect.signature(called)
    except (TypeError, ValueError):
        return None
