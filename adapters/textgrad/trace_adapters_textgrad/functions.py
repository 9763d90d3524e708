"""Python functions as parameters of TextGrad programs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trace_adapters import AdapterError, ModelError, SandboxUnavailable
from trace_adapters.extend import LearnedFunction, error_place
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.variables import FAILED, CodeVariable, as_text, as_variable, plain_value


def trainable(
    function: Callable[..., Any],
    purpose: str = "",
    *,
    uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
    trust: str = "sandbox",
    timeout_s: float = 5.0,
    sandbox: str | None = None,
) -> TrainableFunction:
    """Make the source of a function a Variable that optimizers may change: ours, and TextGrad's own.

    `extract = tat.trainable(extract_answer, "takes the number out of the answer")`, then
    `y = extract(response=model(x))` and `tat.TGD([prompt, extract.code], ...)`.

    Args:
        function: A plain Python function whose source can be read, and whose arguments are texts.
        purpose: What it is for; default its docstring.
        uses: Host functions that a learned source may call.
        trust: "sandbox", or "in-process" to run learned sources here. The function's own source always runs here.
        timeout_s: Wall-clock limit of one call in the sandbox.
        sandbox: "auto", "strict", "bwrap" or "monty"; see docs/security.md.

    Raises:
        CodeError: If the source cannot be read, or is not all that a call runs.
        AdapterError: If it is a method, async, or a generator.
    """
    return TrainableFunction(
        LearnedFunction(function, uses=uses, trust=trust, timeout_s=timeout_s, sandbox=sandbox), purpose
    )


class TrainableFunction:
    """A function of texts whose calls are in TextGrad's graph, its source a Variable.

    Variables are given to the function as texts (`Number`s as numbers), other arguments as they are. What it returns
    becomes a text: as it is, or as JSON, or by `str`. What it raises becomes one, too: `(execution failed) ValueError:
    … (line 2 of extract_answer: …)`; so a broken source is something to learn from, not the end of the run.

    Attributes:
        code: The source; give it to an optimizer.
        purpose: What the function is for.
    """

    def __init__(self, learned: LearnedFunction, purpose: str = "") -> None:
        if inspect.ismethod(learned.function) or learned.is_async or learned.is_generator or learned.is_async_generator:
            raise AdapterError(f"trainable() takes a plain function, got {learned.function!r}.")
        self.__name__ = learned.name
        self.purpose = purpose or inspect.getdoc(learned.function) or f"the function {learned.name}"
        self.code = CodeVariable(learned, f"Python source of the function {learned.name}: {self.purpose}")
        self._learned = learned
        self._signature = inspect.signature(learned.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; returns a Variable.

        Raises:
            TypeError: If the arguments are not the function's.
            SandboxUnavailable: If this machine does not have the sandbox.
            ModelError: If a model that the function asks cannot be asked.
        """
        bound = self._signature.bind(*args, **kwargs)
        shown = {name: as_variable(name, value) for name, value in _by_name(bound).items()}

        def run(**_: Any) -> str:
            return self._run(bound)

        run.__name__ = self.__name__
        operation = shims.StringBasedFunction(run, self.purpose)
        return operation({f"source_of_{self.__name__}": self.code, **shown})

    def _run(self, bound: inspect.BoundArguments) -> str:
        source = self.code.value
        args = [plain_value(value) for value in bound.args]
        kwargs = {name: plain_value(value) for name, value in bound.kwargs.items()}
        try:
            self._learned.check(source)
            return as_text(self._learned.call(source, args, kwargs))
        except (ModelError, SandboxUnavailable):  # not the source's fault
            raise
        except Exception as error:
            place = error_place(error, self._learned.source if source == self._learned.source.text else source)
            where = "" if place is None else f" (line {place[0]} of {self.__name__}: {place[1].strip()})"
            said = str(error)
            return f"{FAILED} {type(error).__name__}{': ' if said else ''}{said}{where}"

    def __repr__(self) -> str:
        return f"TrainableFunction({self.__name__}{self._signature})"


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named.update({f"{name}_{number}": item for number, item in enumerate(value, 1)})
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            named[name] = value
    return named
