"""TextGrad's optimizers with their signatures, and ours behind them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, takewhile
from types import CodeType
from typing import Any

from trace_adapters import SettingError
from trace_adapters_textgrad import live, shims
from trace_adapters_textgrad.engines import as_engine
from trace_adapters_textgrad.telling import tell
from trace_adapters_textgrad.training import MEMORY, Options, Step, Task, Trainer

_making = threading.RLock()  # threads may find at once that the parameters are others


class _Trained:
    """What our optimizers have in common; stands before TextGrad's class.

    A subclass that makes its own updates from gradients, with `_update_prompt` or a `step` that calls no other, gets
    TextGrad's gradients: it is TextGrad's own, with a warning.
    """

    defaults = Options()
    asks_itself = False
    parameters: list[Any]
    engine: Any
    _trainer: Trainer | None = None
    _options: Options
    _past: int

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        users = takewhile(lambda kind: kind.__module__ != __name__, cls.__mro__)
        cls.asks_itself = any(_makes_updates(name, value) for kind in users for name, value in vars(kind).items())

    def _start(self, past: int, **given: Any) -> None:
        if self.asks_itself:
            tell(f"{type(self).__name__} makes its updates itself: it runs as TextGrad's own, and so does backward().")
            return
        if tuple(self.new_variable_tags) != shims.NEW_VARIABLE_TAGS:  # type: ignore[attr-defined]
            tell("new_variable_tags has no use here: replies name the variables that they change.")
        self._options, self._past = _chosen(self.defaults, **given), past
        self._current()
        live.own(self)

    @property
    def last(self) -> Step | None:
        """What the last step did; None before the first."""
        return None if self._trainer is None else self._trainer.last

    def zero_grad(self) -> None:
        """Forget gradients and the losses so far."""
        super().zero_grad()  # type: ignore[misc]
        if not self.asks_itself:
            self._current().forget()

    def capture(self, loss: Any, spared: live.SparedPass) -> None:
        """Take a loss instead of TextGrad's backward pass; `Variable.backward` calls it."""
        self._current().capture(loss, spared)

    def _current(self) -> Trainer:
        """What trains the present parameters, under the attributes of now: TextGrad reads them at every step, too.

        Other parameters than before begin without losses and past attempts.
        """
        if not self.parameters:
            raise SettingError("An optimizer needs at least one parameter: a textgrad.Variable with a text.")
        task = _task(self)
        with _making:
            known = self._trainer
            if known is None or set(known.parameters) != set(self.parameters):
                options = self._options
                if known is not None:
                    options = replace(options, names=None)  # they were those of the first parameters
                memory = options.memory if options.memory is not None else self._past or MEMORY
                known = self._trainer = Trainer(self.parameters, self.engine, task, options, memory)
        known.heed(self.engine, task)
        return known

    def _learn(self) -> None:
        step = self._current().step()
        shims.tg.logger.info(
            f"{type(self).__name__} updated text",
            extra={
                "optimizer.prompt": step.prompt,
                "optimizer.response": step.reply,
                "parameter.value": step.changed,
            },
        )

    def __getstate__(self) -> dict[str, Any]:
        """A copy trains its own parameters, and begins without losses and past attempts."""
        return {**vars(self), "_trainer": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if not self.asks_itself:
            live.own(self)


class TextualGradientDescent(_Trained, shims.TextualGradientDescent):  # type: ignore[misc]
    """`textgrad.TGD` with one model call a step, whatever the graph.

    While it is alive, `loss.backward()` of a loss that depends on its parameters makes no model call and needs no
    engine. `step()` shows the model the graph with all parameters whole, and sets all new values or none. Losses add
    up until `step()` or `zero_grad()`.

    The arguments up to `gradient_memory` are TextGrad's. `engine` may also be a `ta.LM` or a function of a prompt;
    `gradient_memory` is the number of past attempts that the prompt shows; `new_variable_tags` has no use here, which
    a warning says. The arguments after it are those of `training.Options`, with its defaults.

    Attributes:
        last: What the last step did; None before the first.

    Raises:
        SettingError: If an option is unknown.
        AdapterError: If a parameter is no Variable with a text.
    """

    def __init__(
        self,
        parameters: list[Any],
        verbose: int = 0,
        engine: Any = None,
        constraints: list[str] | None = None,
        new_variable_tags: list[str] | None = None,
        optimizer_system_prompt: str = shims.OPTIMIZER_SYSTEM_PROMPT,
        in_context_examples: list[str] | None = None,
        gradient_memory: int = 0,
        *,
        optimizer: str | None = None,
        feedback: str | Callable[[Any], Any] | None = None,
        on_error: str | None = None,
        memory: int | None = None,
        names: Sequence[str] | None = None,
        max_prompt_tokens: int | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        super().__init__(
            _listed(parameters),
            verbose,
            as_engine(engine),
            _listed(constraints),
            new_variable_tags,
            optimizer_system_prompt,
            _listed(in_context_examples),
            gradient_memory,
        )
        self._start(
            gradient_memory,
            optimizer=optimizer,
            feedback=feedback,
            on_error=on_error,
            memory=memory,
            names=names,
            max_prompt_tokens=max_prompt_tokens,
            on_step=on_step,
        )

    def step(self) -> None:
        """Set new values, from one model call.

        Raises:
            SettingError: If no `backward()` came since the last step, and no parameter has a gradient.
            ModelError: If no reply could be used and `on_error` is "raise".
        """
        if self.asks_itself:
            super().step()
            return
        self._learn()
        for parameter in self.parameters:
            if self.verbose:
                print(f"{'TextualGradientDescent':-^68}\n{parameter.value}")  # noqa: T201  # what `verbose` does
            if self.do_gradient_memory:
                self.update_gradient_memory(parameter)


class TextualGradientDescentwithMomentum(_Trained, shims.TextualGradientDescentwithMomentum):  # type: ignore[misc]
    """TextGrad's variant that shows past values, `momentum_window` of them; a window of 0 shows none.

    Everything else is as in `TextualGradientDescent`.
    """

    def __init__(
        self,
        engine: Any = None,
        parameters: list[Any] | None = None,
        momentum_window: int = 0,
        constraints: list[str] | None = None,
        new_variable_tags: list[str] | None = None,
        in_context_examples: list[str] | None = None,
        optimizer_system_prompt: str = shims.OPTIMIZER_SYSTEM_PROMPT,
        *,
        optimizer: str | None = None,
        feedback: str | Callable[[Any], Any] | None = None,
        on_error: str | None = None,
        memory: int | None = None,
        names: Sequence[str] | None = None,
        max_prompt_tokens: int | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        super().__init__(
            as_engine(engine),
            _listed(parameters),
            momentum_window or 1,  # TextGrad's own returns something from __init__ for 0, which Python refuses
            _listed(constraints),
            new_variable_tags,
            _listed(in_context_examples),
            optimizer_system_prompt,
        )
        self.momentum_window = momentum_window
        self._start(
            momentum_window,
            optimizer=optimizer,
            feedback=feedback,
            on_error=on_error,
            memory=momentum_window if memory is None else memory,
            names=names,
            max_prompt_tokens=max_prompt_tokens,
            on_step=on_step,
        )

    def step(self) -> None:
        """Set new values, from one model call; see `TextualGradientDescent.step`."""
        if self.asks_itself:
            super().step()
            return
        if self.momentum_window:
            for place, parameter in enumerate(self.parameters):
                self._update_momentum_storage(parameter, place)
        self._learn()


TGD = TextualGradientDescent


def _chosen(defaults: Options, **given: Any) -> Options:
    options = replace(defaults, **{name: value for name, value in given.items() if value is not None})
    first, second = defaults.on_step, given["on_step"]
    if first is None or second is None:
        return options

    def tell_both(step: Step) -> None:
        first(step)
        second(step)

    return replace(options, on_step=tell_both)


def _listed(given: Iterable[Any] | None) -> list[Any]:
    """A list as it is; a single text as a list of one."""
    if isinstance(given, list):
        return given
    return [given] if isinstance(given, str) else list(given or ())


def _task(self: Any) -> Task:
    """What the attributes say now."""
    start, end = self.new_variable_tags
    usual = shims.OPTIMIZER_SYSTEM_PROMPT.format(new_variable_start_tag=start, new_variable_end_tag=end)
    own = "" if self.optimizer_system_prompt == usual else self.optimizer_system_prompt
    insist = getattr(self, "momentum_window", 0) > 0
    return Task(tuple(_listed(self.constraints)), tuple(_listed(self.in_context_examples)), own, insist)


def _makes_updates(name: str, value: Any) -> bool:
    """Whether a member of a subclass asks for new values itself."""
    code = getattr(inspect.unwrap(value), "__code__", None) if callable(value) else None
    used = set() if code is None else _names_in(code)
    return name == "_update_prompt" or "_update_prompt" in used or (name == "step" and "step" not in used)


def _names_in(code: CodeType) -> set[str]:
    """The attributes and globals that code names, functions inside it included."""
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *chain.from_iterable(inner)}
