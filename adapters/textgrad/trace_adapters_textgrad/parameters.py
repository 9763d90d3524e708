"""Variables of TextGrad as parameters: views that read and write through."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trace_adapters import AdapterError, Parameter, ParameterError
from trace_adapters.extend import LearnedFunction, Value, unwrap
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.naming import name_of_role, unique_names

VIEW = "_trace_adapters_parameter"  # attribute of a Variable: the parameter that `parameter()` made for it
FAILED = "(execution failed)"
_FENCED = re.compile(r"\s*(`{3,}|~{3,})[^\n`]*\n(.*?)\n?[ \t]*\1\s*", re.DOTALL)


class Number(shims.Variable):  # type: ignore[misc]
    """A number as a Variable: its `value` is a text for TextGrad, its `number` the number.

    Args:
        value: The number to start from; its type is kept.
        role_description: What it is for.
        low: The smallest number allowed.
        high: The largest number allowed.

    Raises:
        ParameterError: If `value`, or what an optimizer sets later, is no such number.
    """

    def __init__(
        self,
        value: int | float,
        *,
        role_description: str,
        low: float | None = None,
        high: float | None = None,
        requires_grad: bool = True,
    ) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ParameterError(f"A Number needs an int or a float, got {value!r}.")
        self.low, self.high, self._kind = low, high, type(value)
        self.check(value)
        super().__init__(json.dumps(value), role_description=role_description, requires_grad=requires_grad)

    @property
    def number(self) -> int | float:
        """The value as a number."""
        return self.read(self.value)

    @property
    def constraint(self) -> str:
        """What holds for it, in words."""
        if self.low is None and self.high is None:
            return ""
        least = "" if self.low is None else f" of at least {self.low:g}"
        most = "" if self.high is None else f" of at most {self.high:g}"
        return f"A number{least}{' and' if least and most else ''}{most}."

    def read(self, text: Any) -> int | float:
        """A text as a number of the right type; raises `ParameterError` if it is none that is allowed."""
        try:
            number = self._kind(str(text).strip())
        except (ValueError, OverflowError):
            raise ParameterError(f"Expected {'a whole' if self._kind is int else 'a'} number, got {text!r}.") from None
        self.check(number)
        return number

    def check(self, number: Any) -> None:
        """Raise `ParameterError` if a number is not allowed."""
        if not math.isfinite(number):
            raise ParameterError(f"Expected a finite number, got {number!r}.")
        if (self.low is not None and number < self.low) or (self.high is not None and number > self.high):
            raise ParameterError(f"Expected {self.constraint[0].lower()}{self.constraint[1:-1]}, got {number!r}.")

    def set_value(self, value: Any) -> None:
        """Set a number, given as such or as a text."""
        super().set_value(json.dumps(self.read(value)))


class Choice(shims.Variable):  # type: ignore[misc]
    """One of several texts as a Variable.

    Raises:
        ParameterError: If `value`, or what an optimizer sets later, is none of `choices`.
    """

    def __init__(
        self, value: str, choices: Sequence[str], *, role_description: str, requires_grad: bool = True
    ) -> None:
        self.choices = tuple(choices)
        self.check(value)
        super().__init__(value, role_description=role_description, requires_grad=requires_grad)

    def check(self, value: Any) -> None:
        """Raise `ParameterError` if a text is none of the choices."""
        if value not in self.choices:
            raise ParameterError(f"Expected one of {', '.join(map(repr, self.choices))}, got {value!r}.")

    def set_value(self, value: Any) -> None:
        chosen = value.strip() if isinstance(value, str) else value
        self.check(chosen)
        super().set_value(chosen)


class Template(shims.Variable):  # type: ignore[misc]
    """A text with placeholders in braces that `format` fills; our optimizers keep them.

    In other Variables braces are plain text: TextGrad fills none of them.
    """

    def format(self, **fields: Any) -> Any:
        """The text with its placeholders filled, as a Variable; what cannot be filled becomes an output that says why.

        Args:
            fields: Variables, or values as they are.
        """
        variables = {name: as_variable(name, value) for name, value in fields.items()}
        plain = {name: plain_value(value) for name, value in fields.items()}

        def format(**_: Any) -> str:
            try:
                return str(self.value.format(**plain))
            except Exception as error:  # a placeholder that is not given, braces that do not pair
                return f"{FAILED} {type(error).__name__}: {error}"

        return shims.StringBasedFunction(format, "fills the placeholders of the template")(
            {"template": self, **variables}
        )


class CodeVariable(shims.Variable):  # type: ignore[misc]
    """The source of a function as a Variable; `trainable` makes it."""

    def __init__(self, learned: LearnedFunction, role_description: str) -> None:
        self.learned = learned
        super().__init__(learned.source.text, role_description=role_description)

    def set_value(self, value: Any) -> None:
        """Set a source; fences around it are taken away."""
        fenced = _FENCED.fullmatch(value) if isinstance(value, str) else None
        super().set_value(fenced.group(2) if fenced else value)

    def __deepcopy__(self, memo: dict[int, Any]) -> CodeVariable:
        return fresh_copy(self, memo)  # type: ignore[no-any-return]


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
            check=check,
        )

    @property
    def data(self) -> Any:
        """The value in force here."""
        return Parameter.data.__get__(self)

    @data.setter
    def data(self, value: Any) -> None:
        self.variable.set_value(self.encode(value))
        self.read()

    def read(self) -> Value:
        text = stored(self.variable)
        if text != self._seen:
            Parameter.data.__set__(self, self.decode(text))
            self._seen = text
        return super().read()

    def rename(self, key: str) -> None:
        super().rename(key)
        self._seen = stored(self.variable)

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
        if vars(self.variable).get(VIEW) is self:
            vars(twin.variable)[VIEW] = twin
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        raise AdapterError(f"The parameter {self.key!r} is a view on a Variable; pickle the Variable's value instead.")


def parameter(variable: Any, name: str | None = None, constraint: str = "") -> VariableParameter:
    """A Variable as a parameter of larger graphs: the same one at each call.

    Under `ta.using` the Variable's `value` is the candidate's, in this thread or task only.

    Args:
        variable: A `textgrad.Variable` with a text.
        name: Its key; default the beginning of its role description.
        constraint: What new values must satisfy, in words.
    """
    found = vars(variable).get(VIEW) if isinstance(variable, shims.Variable) else None
    if found is None:
        found = VariableParameter(variable, name or name_of_variable(variable), constraint)
        found.named = name is not None
        vars(variable)[VIEW] = found
        _read_values_in_force()
    elif name is not None and name != found.key:
        found.rename(name)
    view: VariableParameter = found
    return view


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


def stored(variable: Any) -> Any:
    """What a Variable itself holds, whatever is in force here."""
    return vars(variable).get("value")


def fresh_copy(variable: Any, memo: dict[int, Any]) -> Any:
    """A Variable with the same value and role, without history and gradients."""
    if id(variable) not in memo:
        twin = copy.copy(variable)
        vars(twin).pop(VIEW, None)
        twin.predecessors, twin.grad_fn = set(), None
        twin.reset_gradients()
        memo[id(variable)] = twin
    return memo[id(variable)]


def as_variable(name: str, value: Any) -> Any:
    """A Variable as it is, anything else as one without `requires_grad`."""
    if isinstance(value, shims.Variable):
        return value
    return shims.Variable(as_text(value), requires_grad=False, role_description=name.replace("_", " "))


def plain_value(value: Any) -> Any:
    """What a function of plain values gets for a Variable: its text, or its number."""
    if isinstance(value, Number):
        return value.number
    return value.value if isinstance(value, shims.Variable) else value


def as_text(value: Any) -> str:
    """A text as it is, anything else as JSON, or by `str`."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


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


class _ValueInForce:
    """`Variable.value` for Variables that are parameters: the candidate's under `ta.using`, else their own."""

    def __get__(self, variable: Any, owner: Any = None) -> Any:
        if variable is None:
            return self
        attributes: Mapping[str, Any] = vars(variable)
        view = attributes.get(VIEW)
        if view is not None:
            return view.encode(unwrap(view))
        try:
            return attributes["value"]
        except KeyError:
            raise AttributeError("value") from None

    def __set__(self, variable: Any, value: Any) -> None:
        vars(variable)["value"] = value


def _read_values_in_force() -> None:
    if not isinstance(vars(shims.Variable).get("value"), _ValueInForce):
        shims.Variable.value = _ValueInForce()
