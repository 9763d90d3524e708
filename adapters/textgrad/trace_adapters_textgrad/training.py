"""What stands behind each of our optimizers: losses in, one question to a model, new values out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import trace_adapters as ta
from trace_adapters.extend import (
    CallRecord,
    LanguageModel,
    Outcome,
    Usage,
    count_tokens,
    record_calls,
    unwrap,
)
from trace_adapters_textgrad import shims
from trace_adapters_textgrad.engines import as_lm
from trace_adapters_textgrad.graph import Recovery
from trace_adapters_textgrad.live import SparedPass
from trace_adapters_textgrad.operations import judged_parts
from trace_adapters_textgrad.parameters import parameters_of
from trace_adapters_textgrad.telling import tell

OPTIMIZERS = ("optoprime", "textgrad")
ON_ERROR = ("skip", "raise")
MEMORY = 5
OBJECTIVE = (
    "Every output is an evaluation of what the program made.\n"
    "Change the variables so that the evaluations become better."
)
FEEDBACK = "The output is the evaluation of this run. It should become better."
_ATTEMPTS = {"optoprime": 2, "textgrad": 1}  # the latter asks once more itself, where only one reply was at fault
_JUDGED = 200  # characters of each evaluation that are remembered with the values it was of


@dataclass(frozen=True)
class Step:
    """What one `step()` did.

    Attributes:
        prompt: The last question, as one text.
        reply: The last reply.
        reasoning: What the model said before the values.
        changed: Name of a parameter -> its new value.
        rejected: Why replies were not used, in order; empty if the first one was.
        calls: Model calls that were made.
        usage: Their tokens; estimated where the engine does not say them.
        estimated: Whether they are.
        textgrad_calls: Model calls that TextGrad's backward passes and its step would have made.
    """

    prompt: str
    reply: str
    reasoning: str
    changed: dict[str, Any]
    rejected: tuple[str, ...]
    calls: int
    usage: Usage
    estimated: bool
    textgrad_calls: int


@dataclass(frozen=True)
class Options:
    """What our optimizers take beside TextGrad's own arguments.

    Attributes:
        optimizer: "optoprime": one model call a step. "textgrad": textual backpropagation, its calls made in `step()`.
        feedback: Said of every evaluation: a text, or a function of the loss Variable that returns a text, a number
            or (number, text), higher is better. Summands of `tg.sum` count as one evaluation each.
        on_error: When a reply cannot be used, and neither can the one to a second question: "skip" warns and leaves the
            values, "raise" raises `ModelError`.
        memory: How many past attempts the prompt shows. Default: `gradient_memory` or the momentum window where they
            are set, else 5.
        names: Names of the parameters in prompts, in order; default the beginnings of their role descriptions.
        max_prompt_tokens: Limit of the prompt's estimated length. Parameters are never cut.
        on_step: Called with each `Step`.
        lenient: Whether a step without a loss is a warning and no error, as code expects that was written for TextGrad.
    """

    optimizer: str = "optoprime"
    feedback: str | Callable[[Any], Any] = FEEDBACK
    on_error: str = "skip"
    memory: int | None = None
    names: Sequence[str] | None = None
    max_prompt_tokens: int = 16_000
    on_step: Callable[[Step], None] | None = None
    lenient: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ta.SettingError(f"optimizer is {' or '.join(map(repr, OPTIMIZERS))}, got {self.optimizer!r}.")
        if self.on_error not in ON_ERROR:
            raise ta.SettingError(f"on_error is {' or '.join(map(repr, ON_ERROR))}, got {self.on_error!r}.")
        if not isinstance(self.feedback, str) and not callable(self.feedback):
            raise ta.SettingError(f"feedback is a text or a function of the loss, got {self.feedback!r}.")

    def __deepcopy__(self, memo: dict[int, Any]) -> Options:
        """Itself: what it calls belongs to others."""
        return self


@dataclass(frozen=True)
class Task:
    """What is to be achieved, in words.

    Attributes:
        constraints: Hold for every parameter.
        examples: To build on.
        instructions: Of the user, instead of TextGrad's own.
        insist: Whether past values show that more must change.
    """

    constraints: Sequence[str] = ()
    examples: Sequence[str] = ()
    instructions: str = ""
    insist: bool = False

    @property
    def objective(self) -> str:
        """All but the constraints."""
        parts = [OBJECTIVE]
        if self.instructions:
            parts.append(f"The user says:\n{self.instructions}")
        if self.examples:
            parts.append("Build on these examples:\n" + "\n".join(self.examples))
        if self.insist:
            parts.append("If past attempts got similar evaluations, the changes were too small: change more.")
        return "\n\n".join(parts)


@dataclass
class _Captured:
    """The losses since the last step."""

    traces: list[ta.TraceGraph] = field(default_factory=list)
    reached: set[Any] = field(default_factory=set)
    judgements: list[str] = field(default_factory=list)
    spared: list[SparedPass] = field(default_factory=list)


class _Shown(shims.Variable):  # type: ignore[misc]
    """A gradient that is there for users to look at; nothing to learn from."""


class Trainer:
    """Trains Variables from the losses that depend on them.

    Attributes:
        parameters: Variable -> its parameter here.
        last: The last step.
    """

    def __init__(self, variables: Iterable[Any], engine: Any, task: Task, options: Options, memory: int) -> None:
        self.parameters = parameters_of(variables, options.names, "\n".join(task.constraints))
        self.options = options
        self.last: Step | None = None
        self._engine, self._task = engine, task
        self._optimizer = _make_optimizer(list(self.parameters.values()), as_lm(engine), task, options, memory)
        self._captured = _Captured()
        self._asked = 0
        self._left: dict[str, Any] | None = None  # the values after the last step
        self._lock = threading.RLock()

    def capture(self, loss: Any, spared: SparedPass) -> None:
        """Keep the graph of a loss with the values of now; makes no model call.

        Until the step, the gradients of the parameters that it reaches are the evaluations themselves.
        """
        recovery = Recovery(self.parameters)
        recovery.survey(loss)
        kept = _Captured(spared=[spared])
        for judged in judged_parts(loss, self.parameters, recovery.rank):
            trace = ta.propagate(recovery.node(judged), self._feedback_on(judged))
            if len(trace):
                kept.traces.append(trace)
                kept.reached.update(parameter.variable for parameter in trace.parameters)
                kept.judgements.append(str(judged.value)[:_JUDGED])
                for parameter in trace.parameters:
                    _show(parameter.variable, str(judged.value))
        recovery.warn_of_changes()
        loss.gradients = set()
        with self._lock:
            mine = self._captured
            mine.traces += kept.traces
            mine.reached |= kept.reached
            mine.judgements += kept.judgements
            mine.spared += kept.spared

    def heed(self, engine: Any, task: Task) -> None:
        """Take another model or another task from now on; what was remembered stays."""
        with self._lock:
            if engine is self._engine and task == self._task:
                return
            memory, parameters = self._optimizer.memory, list(self.parameters.values())
            self._optimizer = _make_optimizer(parameters, as_lm(engine), task, self.options, memory.size)
            self._optimizer.memory = memory
            self._engine, self._task = engine, task
            for parameter in parameters:
                parameter.constrain("\n".join(task.constraints))

    def forget(self) -> None:
        """Forget the losses captured so far."""
        with self._lock:
            self._captured = _Captured()

    def step(self) -> Step:
        """Ask for new values and set them, all or none.

        Raises:
            SettingError: If no loss was captured since the last step, and no parameter has a gradient; with `lenient`
                that is a warning.
            ModelError: If the model cannot be asked: the losses are kept. If no reply could be used and `on_error` is
                "raise".
        """
        with self._lock:
            return self._step(self._with_gradients(self._captured))

    def _step(self, captured: _Captured) -> Step:
        if not captured.traces:
            return self._without_loss()
        self._warn_of_unreached(captured)
        base = {parameter.key: unwrap(parameter) for parameter in self.parameters.values()}
        self._tell_of_revert(base)
        self._optimizer.observe(captured.traces)
        records: list[CallRecord] = []
        try:
            with record_calls(records.append):
                proposal, rejected = self._ask(captured.traces, base)
        except Exception as error:
            failure = shims.model_failure(error)
            if failure is None or isinstance(error, ta.ModelError):
                raise
            said = f"{type(failure).__name__}: {failure}"
            raise ta.ModelError(f"The optimizer's model failed, step() may be repeated: {said}") from error
        candidate = proposal.candidate or {}
        changed = {key: value for key, value in candidate.items() if key in base and value != base[key]}
        judged = f"Evaluations: {' | '.join(captured.judgements)}"
        self._optimizer.tell(Outcome(base, self._optimizer.name, None, False, judged))
        for parameter in self.parameters.values():
            if parameter.key in changed:
                parameter.data = changed[parameter.key]
        self._left = {**base, **changed}
        usage, estimated = _usage_of(records)
        step = Step(
            _prompt_of(records),
            proposal.reply or (records[-1].replies[0] if records and records[-1].replies else ""),
            proposal.reasoning,
            changed,
            tuple(rejected),
            len(records),
            usage,
            estimated,
            sum(one.count() for one in captured.spared) + len(self.parameters),
        )
        self._finish(step, captured, may_raise=not proposal.repeats)
        return step

    def _without_loss(self) -> Step:
        """TextGrad asks for new values all the same, which have no reason; here nobody is asked."""
        message = (
            "step() has no loss to learn from: call loss.backward() first, on a loss that depends on one of "
            f"{[parameter.key for parameter in self.parameters.values()]}."
        )
        if not self.options.lenient:
            raise ta.SettingError(message)
        step = Step("", "", "", {}, (message,), 0, Usage(0, 0, None, 0.0), False, len(self.parameters))
        self._finish(step, _Captured(), may_raise=False)
        return step

    def _with_gradients(self, captured: _Captured) -> _Captured:
        """The losses, and what the program or a backward pass of TextGrad's own put on the parameters."""
        found: dict[Any, str] = {}
        for variable in self.parameters:
            said = {gradient.value for gradient in list(variable.gradients) if not isinstance(gradient, _Shown)}
            found[variable] = "\n".join(sorted(text for text in said if text.strip()))
        given = {variable: text for variable, text in found.items() if text}
        return replace(
            captured,
            traces=[*captured.traces, *(ta.propagate(self.parameters[v], text) for v, text in given.items())],
            reached=captured.reached | given.keys(),
            judgements=[*captured.judgements, *(text[:_JUDGED] for text in given.values())],
        )

    def _ask(self, traces: Sequence[ta.TraceGraph], base: Mapping[str, Any]) -> tuple[Any, list[str]]:
        """The first usable proposal, asked for twice at most; the reasons why others were not."""
        rejected: list[str] = []
        for _ in range(_ATTEMPTS[self.options.optimizer]):
            self._asked += 1
            proposal = self._optimizer.suggest(traces, n=1, base=base, seed=self._asked)[0]
            if proposal.candidate is not None:
                break
            rejected.append(proposal.rejected or "")
            self._optimizer.tell(Outcome.of_rejected(proposal))
            if proposal.repeats:  # the same question would get the same answer
                break
        return proposal, rejected

    def _finish(self, step: Step, captured: _Captured, *, may_raise: bool) -> None:
        self.last = step
        for variable in captured.reached:
            variable.gradients = set()
            _show(variable, step.reasoning or "; ".join(step.rejected) or "No reasoning was given.")
        self.forget()
        if self.options.on_step is not None:
            self.options.on_step(step)
        if step.changed or not step.rejected:
            return
        message = f"The parameters are unchanged: {' / '.join(step.rejected)}"
        if self.options.on_error == "raise" and may_raise:
            raise ta.ModelError(f"{message}\nThe last reply was:\n{step.reply}")
        tell(message)

    def _feedback_on(self, loss: Any) -> ta.Feedback:
        said = self.options.feedback
        return ta.Feedback.of(said if isinstance(said, str) else said(loss))

    def _tell_of_revert(self, base: Mapping[str, Any]) -> None:
        """What the last step set and the program took back was no good."""
        if self._left is not None and self._left != base:
            self._optimizer.tell(
                Outcome(self._left, self._optimizer.name, None, False, "The program took these values back.")
            )

    def _warn_of_unreached(self, captured: _Captured) -> None:
        names = [p.key for variable, p in self.parameters.items() if variable not in captured.reached]
        if names:
            tell(f"No loss depends on {', '.join(names)}; nothing is known of what to change there.")


def _show(variable: Any, text: str) -> None:
    role = f"feedback to {variable.get_role_description()}"
    gradient = _Shown(text, requires_grad=False, role_description=role)
    variable.gradients.add(gradient)
    variable.gradients_context[gradient] = None  # TextGrad's own functions look it up


def _make_optimizer(parameters: Sequence[Any], lm: LanguageModel, task: Task, options: Options, memory: int) -> Any:
    kind: Any = {"optoprime": ta.OptoPrime, "textgrad": ta.TextGrad}[options.optimizer]
    return kind(
        parameters,
        lm=lm,
        objective=task.objective,
        memory_size=memory,
        max_prompt_tokens=options.max_prompt_tokens,
    )


def _prompt_of(records: Sequence[CallRecord]) -> str:
    if not records:
        return ""
    return "\n\n".join(f"{message['role']}: {message.get('content')}" for message in records[-1].messages)


def _usage_of(records: Sequence[CallRecord]) -> tuple[Usage, bool]:
    """The tokens of calls, and whether some had to be estimated."""
    total, estimated = Usage(0, 0, None, 0.0), False
    for record in records:
        usage = record.usage
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            estimated = True
            asked = sum(count_tokens(str(message.get("content"))) for message in record.messages)
            usage = Usage(asked, sum(map(count_tokens, record.replies)), None, usage.cost_usd)
        total = total + usage
    return total, estimated
