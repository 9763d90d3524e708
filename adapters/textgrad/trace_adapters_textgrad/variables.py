"""Variables that hold more than a free text: numbers, choices, templates, sources of functions."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from trace_adapters import ParameterError
from trace_adapters.extend import LearnedFunction
from trace_adapters_textgrad import shims

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


def stored(variable: Any) -> Any:
    """What a Variable itself holds, whatever is in force here."""
    return vars(variable).get("value")


def fresh_copy(variable: Any, memo: dict[int, Any]) -> Any:
    """A Variable with the same value and role, without history and gradients."""
    if id(variable) not in memo:
        twin = copy.copy(variable)
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
