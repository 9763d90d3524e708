"""TextGrad's optimizers with their signatures, and ours behind them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from trace_adapters import SettingError
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.engines import as_engine
from trace_adapters_textgrad.training import MEMORY, Options, Step, Task, Trainer


class TextualGradientDescent(shims.TextualGradientDescent):  # type: ignore[misc]
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

    defaults = Options()
    trainer: Any = None  # set last; tells our optimizers from TextGrad's

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
        options = _chosen(
            self.defaults,
            optimizer=optimizer,
            feedback=feedback,
            on_error=on_error,
            memory=memory,
            names=names,
            max_prompt_tokens=max_prompt_tokens,
            on_step=on_step,
        )
        self.trainer = _trainer(self, options, gradient_memory)

    @property
    def last(self) -> Step | None:
        found: Step | None = self.trainer.last
        return found

    def zero_grad(self) -> None:
        """Forget gradients and the losses so far."""
        super().zero_grad()
        self.trainer.forget()

    def step(self) -> None:
        """Set new values, from one model call.

        Raises:
            SettingError: If no `backward()` came since the last step, and no parameter has a gradient.
            ModelError: If no reply could be used and `on_error` is "raise".
        """
        step = _step(self)
        _log(self, step)
        for parameter in self.parameters:
            if self.verbose:
                print(f"{'TextualGradientDescent':-^68}\n{parameter.value}")  # noqa: T201  # what `verbose` does
            if self.do_gradient_memory:
                self.update_gradient_memory(parameter)


class TextualGradientDescentwithMomentum(shims.TextualGradientDescentwithMomentum):  # type: ignore[misc]
    """TextGrad's variant that shows past values, `momentum_window` of them; a window of 0 shows none.

    Everything else is as in `TextualGradientDescent`.
    """

    defaults = Options()
    trainer: Any = None  # set last; tells our optimizers from TextGrad's

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
        options = _chosen(
            self.defaults,
            optimizer=optimizer,
            feedback=feedback,
            on_error=on_error,
            memory=momentum_window if memory is None else memory,
            names=names,
            max_prompt_tokens=max_prompt_tokens,
            on_step=on_step,
        )
        self.trainer = _trainer(self, options, momentum_window)

    @property
    def last(self) -> Step | None:
        found: Step | None = self.trainer.last
        return found

    def zero_grad(self) -> None:
        """Forget gradients and the losses so far."""
        super().zero_grad()
        self.trainer.forget()

    def step(self) -> None:
        """Set new values, from one model call; see `TextualGradientDescent.step`."""
        _log(self, _step(self))


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


def _trainer(self: Any, options: Options, past: int) -> Trainer:
    if not self.parameters:
        raise SettingError("An optimizer needs at least one parameter: a textgrad.Variable with a text.")
    if tuple(self.new_variable_tags) != shims.NEW_VARIABLE_TAGS:
        warnings.warn("new_variable_tags has no use here: replies name the variables that they change.", stacklevel=3)
    memory = options.memory if options.memory is not None else past or MEMORY
    return Trainer(self.parameters, self.engine, _task(self), options, memory)


def _task(self: Any) -> Task:
    """What the attributes say now."""
    start, end = self.new_variable_tags
    usual = shims.OPTIMIZER_SYSTEM_PROMPT.format(new_variable_start_tag=start, new_variable_end_tag=end)
    own = "" if self.optimizer_system_prompt == usual else self.optimizer_system_prompt
    insist = getattr(self, "momentum_window", 0) > 0
    return Task(tuple(_listed(self.constraints)), tuple(_listed(self.in_context_examples)), own, insist)


def _step(self: Any) -> Step:
    """A step under the attributes of now, which TextGrad reads at every step, too; its parameters stay."""
    if set(self.parameters) != set(self.trainer.parameters):
        raise SettingError(
            f"The parameters of a {type(self).__name__} cannot change after it was made; make a new one with them all."
        )
    self.trainer.heed(self.engine, _task(self))
    step: Step = self.trainer.step()
    return step


def _log(self: Any, step: Step) -> None:
    shims.tg.logger.info(
        f"{type(self).__name__} updated text",
        extra={"optimizer.prompt": step.prompt, "optimizer.response": step.reply, "parameter.value": step.changed},
    )
