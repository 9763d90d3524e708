"""Variables of TextGrad as parameters: views that read and write through."""

from __future__ import annotations

import json
import re
import threading
import weakref
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from trace_adapters import AdapterError, Parameter, ParameterError
from trace_adapters.extend import Value, unwrap
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.naming import name_of_role, unique_names
from trace_adapters_textgrad.variables import Choice, CodeVariable, Number, Template, fresh_copy, stored

_VALUE: Any = Parameter.data  # the property, as it is on the class
_TOLD = re.compile(r"prompt|instruction|guideline", re.IGNORECASE)
_lock = threading.RLock()
# Beside the Variables, not in them: they are copied and pickled by others. A view holds its Variable, not the reverse.
_views: WeakKeyDictionary[Any, weakref.ref[VariableParameter]] = WeakKeyDictionary()


class VariableParameter(Parameter):
    """A Variable as a parameter: what one of them is set to is the value of the other.

    Attributes:
        variable: The Variable.
    """

    __slots__ = ("_seen", "variable")

    def __init__(self, variable: Any, key: str, constraint: str = "") -> None:
        if not isinstance(variable, shims.Variable):
            raise AdapterError(f"Expected a textgrad.Variable, got {variable!r}.")
        text = stored(variable)
        if not isinstance(text, str):
            raise AdapterError(f"Only texts can be trained; {variable.role_description!r} holds {type(text).__name__}.")
        self.variable = variable
        self._seen = text
        own, kind, choices, check = _nature(variable)
        super().__init__(
            self.decode(text),
            key,
            str(variable.role_description),
            "\n".join(part for part in (own, constraint) if part),
            kind,
            choices=choices,
        )
        self.check = check  # of new values: another optimizer may have left anything here

    @property
    def asked_whole(self) -> bool:  # type: ignore[override]
        """Whether the role is of an answer, and not of what a model is told."""
        return not isinstance(self.variable, Template) and not _TOLD.search(str(self.variable.role_description))

    @property
    def data(self) -> Any:
        """The value in force here."""
        return _VALUE.__get__(self)

    @data.setter
    def data(self, value: Any) -> None:
        self.variable.set_value(self.encode(value))
        self.read()

    def read(self) -> Value:
        text = stored(self.variable)
        if text != self._seen:
            _VALUE.__set__(self, self.decode(text))
            self._seen = text
        return super().read()

    def constrain(self, constraint: str) -> None:
        """Say in words what new values must satisfy, beside what the Variable itself demands."""
        self.constraint = "\n".join(part for part in (_nature(self.variable)[0], constraint) if part)

    def encode(self, value: Any) -> str:
        """A value as the text that stands in the Variable."""
        return json.dumps(value) if isinstance(self.variable, Number) else str(value)

    def decode(self, text: str) -> Any:
        """The value that a text in the Variable stands for."""
        return self.variable.read(text) if isinstance(self.variable, Number) else text

    def __deepcopy__(self, memo: dict[int, Any]) -> VariableParameter:
        twin = VariableParameter(fresh_copy(self.variable, memo), self.key)
        twin.constraint, twin.named, twin._description = self.constraint, self.named, self._description
        twin.rename(self.key)
        twin.named = self.named
        if _view_of(self.variable) is self:
            _keep_view(twin)
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """In a pickle a view becomes a parameter of its own, with the present value."""
        self.read()
        return super().__reduce__()


def parameter(variable: Any, name: str | None = None, constraint: str = "") -> VariableParameter:
    """A Variable as a parameter of larger graphs: the same one at each call, as long as somebody holds it.

    Under `ta.using` the Variable's `value` is the candidate's, in this thread or task only.

    Args:
        variable: A `textgrad.Variable` with a text.
        name: Its key; default the beginning of its role description.
        constraint: What new values must satisfy, in words.
    """
    with _lock:
        found = _view_of(variable)
        if found is None:
            found = VariableParameter(variable, name or name_of_variable(variable), constraint)
            found.named = name is not None
            _keep_view(found)
            _read_values_in_force()
        elif name is not None and name != found.key:
            found.rename(name)
    return found


def parameters_of(
    variables: Iterable[Any], names: Sequence[str] | None = None, constraint: str = ""
) -> dict[Any, VariableParameter]:
    """Variable -> a parameter of its own for one optimizer, with names that are unique among them."""
    chosen = list(dict.fromkeys(variables))
    if names is not None and len(names) != len(chosen):
        raise ParameterError(f"Expected one name for each of {len(chosen)} parameters, got {list(names)!r}.")
    keys = unique_names(names or [name_of_variable(variable) for variable in chosen])
    return {v: VariableParameter(v, key, constraint) for v, key in zip(chosen, keys, strict=True)}


def name_of_variable(variable: Any) -> str:
    """The name of a Variable in traces: that of its function, else the beginning of its role."""
    if isinstance(variable, CodeVariable):
        return variable.learned.name
    return name_of_role(str(getattr(variable, "role_description", "")))


def _check_text(value: Any) -> None:
    if not isinstance(value, str):
        raise ParameterError(f"Expected a text, got {value!r}.")


def _nature(variable: Any) -> tuple[str, str, tuple[Any, ...], Any]:
    """Constraint, kind, choices and check of a Variable."""
    if isinstance(variable, Number):
        return variable.constraint, "number", (), variable.check
    if isinstance(variable, Choice):
        return "", "choice", variable.choices, None
    if isinstance(variable, CodeVariable):
        return variable.learned.constraint, "code", (), variable.learned.check
    # a check of its own, so that braces are plain text: nothing but a Template is filled
    return "", "text", (), None if isinstance(variable, Template) else _check_text


def _view_of(variable: Any) -> VariableParameter | None:
    """The parameter that `parameter()` made for a Variable and that somebody still holds."""
    found = _views.get(variable) if isinstance(variable, shims.Variable) else None
    return None if found is None else found()


def _keep_view(view: VariableParameter) -> None:
    with _lock:
        _views[view.variable] = weakref.ref(view)


class _ValueInForce:
    """`Variable.value` for Variables that are parameters: the candidate's under `ta.using`, else their own."""

    def __get__(self, variable: Any, owner: Any = None) -> Any:
        if variable is None:
            return self
        view = _view_of(variable)
        if view is not None:
            return view.encode(unwrap(view))
        try:
            return vars(variable)["value"]
        except KeyError:
            raise AttributeError("value") from None

    def __set__(self, variable: Any, value: Any) -> None:
        vars(variable)["value"] = value


def _read_values_in_force() -> None:
    if not isinstance(vars(shims.Variable).get("value"), _ValueInForce):
        shims.Variable.value = _ValueInForce()
