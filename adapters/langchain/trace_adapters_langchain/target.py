"""A chain as the optimization loop sees it."""

from __future__ import annotations

import copy
import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any

from trace_adapters import (
    BudgetExceeded,
    Feedback,
    ModelError,
    Node,
    Parameter,
    SandboxUnavailable,
    SettingError,
    StoreError,
    using,
)
from trace_adapters.extend import Run, call_metric, check_values, failure_feedback
from trace_adapters_langchain.batching import is_shared, outcome_of, run_side_by_side, takes_batches
from trace_adapters_langchain.calls import CallListener, listening
from trace_adapters_langchain.dataset import Row, list_rows, read_row, shown, wanted_inputs
from trace_adapters_langchain.loops import in_loop
from trace_adapters_langchain.metrics import as_metric
from trace_adapters_langchain.overlay import Ambient, bind, taken
from trace_adapters_langchain.parts import EXAMPLES
from trace_adapters_langchain.recording import Recorder, recording, snapshot, with_handler
from trace_adapters_langchain.shown_calls import find_demonstrations
from trace_adapters_langchain.timing import Late, within
from trace_adapters_langchain.traced import Traced, trace

TIMEOUT_S = 300.0
_KEPT_CHAINS = 16


class LangchainTarget:
    """A runnable; examples are dicts, or have inputs and outputs.

    Args:
        program: A runnable, or one that `tal.trace` made; never changed.
        trainable: Kinds, names or globs, as `tal.trace` takes them, and what `tal.trainable` or `tal.middleware` made.
            Everything that is not named stays as it is.
        inputs: The fields of an example that the chain gets, or one field whose value itself it gets. Default: what the
            chain's own input schema says.
        config: The `RunnableConfig` of each run, or a function that makes one. A graph with a checkpointer gets a
            thread of its own for each run unless this names one.
        timeout_s: Wall-clock limit of a run; None for none.
        trust: "sandbox" or "in-process": where functions run that a model wrote. Default: the sandbox, or what
            `tal.trace` was told. It takes more options for them.
        demonstrations: Whether few-shot examples are filled from runs that went well (the optimizer "demos"); else they
            are a list that optimizers may write as they like.
        batch: Whether examples of a candidate run as one batch of the chain, `workers` of them. Default: if a model of
            the chain has a batch of its own, such as one request for many prompts.

    Attributes:
        batches: Whether they do.

    Raises:
        AdapterError: If `program` is no runnable, or nothing of it is trainable.
        SettingError: If an option names nothing.
    """

    def __init__(
        self,
        program: Any,
        trainable: Any = (),
        *,
        inputs: str | Sequence[str] | None = None,
        config: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
        timeout_s: float | None = TIMEOUT_S,
        trust: str | None = None,
        demonstrations: bool = False,
        batch: bool | None = None,
    ) -> None:
        if batch not in (None, True, False):
            raise SettingError(f"batch must be True, False or None, got {batch!r}.")
        if timeout_s is not None and not (isinstance(timeout_s, int | float) and timeout_s > 0):
            raise SettingError(f"timeout_s must be a number of seconds or None, got {timeout_s!r}.")
        if config is not None and not isinstance(config, Mapping) and not callable(config):
            raise SettingError(f"config must be a RunnableConfig or a function that makes one, got {config!r}.")
        if inputs is not None and not isinstance(inputs, str | Sequence):
            raise SettingError(f"inputs must be a field or a list of fields, got {inputs!r}.")
        named, ambient = taken(trainable)
        self.program = program
        self._traced = _traced(program, named, bool(ambient), trust)
        self._ambient = Ambient(ambient)
        self._example_fields = _example_fields(self._traced) if demonstrations else {}
        self._wanted = wanted_inputs(self._traced.plain(), inputs)
        self._config = config
        self._timeout_s = timeout_s
        self.batches = takes_batches(self._traced.chain) if batch is None else batch
        self._chains: OrderedDict[str, Traced] = OrderedDict()
        self._asynchronous = False
        self._lock = threading.Lock()
        both = sorted(self._traced.parameters.keys() & self._ambient.parameters.keys())
        if both:
            raise SettingError(f"Two parts are named {', '.join(both)}; give one another name.")

    @property
    def traced(self) -> Traced:
        """The chain with its parameters."""
        return self._traced

    @property
    def has_hidden_parts(self) -> bool:
        """Whether parts are trained that stand where no tree leads."""
        return bool(self._ambient.parameters)

    def parameters(self) -> dict[str, Parameter]:
        """Key -> parameter."""
        found = {**self._traced.parameters, **self._ambient.parameters}
        for key in self._example_fields:
            found[key] = copy.copy(found[key])
            found[key].kind = "demos"
        return found

    def with_values(self, candidate: Mapping[str, Any]) -> Any:
        """A plain copy of the chain with these values, without anything of ours but what the user put into it.

        Raises:
            ParameterError: If a value does not fit, or a key is not trainable.
        """
        check_values(self.parameters(), candidate)
        inside, around = self._split(candidate)
        chain = self._traced.with_values(inside).plain()
        return bind(chain, around) if around else chain

    def run(self, candidate: Mapping[str, Any], example: Any) -> Run:
        """Run one example and record it; by `invoke`, never by `stream`.

        Raises:
            DataError: If the example lacks what the chain takes.
            ModelError: If a model's server, key or address is at fault.
            SandboxUnavailable: If this machine does not have the sandbox that a function asks for.
            AdapterError: If a part read its value where the run could not reach it.
        """
        row = read_row(example, self._wanted)
        inside, around = self._split(candidate)
        chain = self._chain_of(inside)
        with listening() as listener, using(around), self._ambient.watched() as watch:
            output, error, node = self._record(chain, row, listener)
        watch.check()
        return self._outcome(output, error, node, listener)

    def run_batch(
        self, candidate: Mapping[str, Any], examples: Sequence[Any], contexts: Sequence[Context]
    ) -> list[Run | Exception]:
        """Run examples as one batch of the chain: each step gets all of them together.

        What went wrong for several at once says nothing of the single one: a call for many inputs that raised, a batch
        that took longer than the limit of one run. Those examples run again, each by itself; the calls that were made
        until then are paid for, and counted.

        Args:
            candidate: As for `run`.
            examples: As for `run`.
            contexts: Where the model calls of each example are reported. Of what a server bills for many prompts
                together, LangChain tells the sum with the first of them.

        Returns:
            What `run` gives for each, or in its place the exception that it would have raised.

        Raises:
            AdapterError: If a part read its value where the run could not reach it.
        """
        rows = [read_row(example, self._wanted) for example in examples]
        inside, around = self._split(candidate)
        chain = self._chain_of(inside)
        with using(around), self._ambient.watched() as watch:
            found = self._record_batch(chain, rows, contexts)
        watch.check()
        again = [number for number, run in enumerate(found) if run is None]
        calls = [partial(self.run, candidate, examples[number]) for number in again]
        alone = dict(zip(again, run_side_by_side(calls, [contexts[number] for number in again]), strict=True))
        return [alone[number] if run is None else run for number, run in enumerate(found)]

    def judge(self, metric: Callable[..., Any], example: Any, run: Run) -> Feedback:
        """Call a metric of LangChain's kinds; one without words gets some: what was expected."""
        row = read_row(example, self._wanted)
        if run.error is not None:
            return failure_feedback(run, row.expected or None)
        with listening("judge") as listener:
            feedback = call_metric(as_metric(metric), row, run.output)
        if listener.interruption is not None:
            raise listener.interruption
        if feedback.text:
            return feedback
        if feedback.score is not None and feedback.score >= 1.0:
            return Feedback(feedback.score, "Correct.")
        got = f"Got: {shown(run.output)}"
        return Feedback(feedback.score, f"Not right. Expected: {row.expected}. {got}" if row.outputs else "Not right.")

    def example_id(self, example: Any, position: int) -> str:
        """The example's id if it has one, else its position."""
        return read_row(example, self._wanted, position).name or str(position)

    def example_text(self, example: Any) -> str:
        """Inputs and reference as JSON."""
        row = read_row(example, self._wanted)
        return shown({"inputs": row.inputs, "outputs": row.outputs})

    def rows(self, dataset: Any, name: str) -> list[Any]:
        """The examples of a dataset in any form, each of which this chain can run on.

        Raises:
            DataError: Naming the example that it cannot.
        """
        rows = list_rows(dataset, name)
        for position, example in enumerate(rows):
            read_row(example, self._wanted, position)
        return rows

    def _split(self, candidate: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Any, Any]]:
        inside = {key: value for key, value in candidate.items() if key in self._traced.parameters}
        ambient = self._ambient.parameters
        return inside, {ambient[key]: value for key, value in candidate.items() if key in ambient}

    def _record(self, chain: Traced, row: Row, listener: CallListener) -> tuple[Any, BaseException | None, Node]:
        """Output, error and node of a run; of one that is late, the step that it hangs in is what failed."""
        config, recorder = self._run_config(), Recorder()
        inputs = snapshot(row.inputs)  # a chain may change what it is given
        output, error = None, None
        in_a_loop = self._asynchronous  # of this run: other threads may learn it meanwhile
        run = partial(chain.ainvoke if in_a_loop else chain.invoke, inputs, config)
        with recording(recorder):
            try:
                output = within(self._timeout_s, partial(in_loop, run) if in_a_loop else run)
            except Late as late:
                listener.stop()
                recorder.give_up(late)
                error = late
            except (Exception, SystemExit) as raised:
                error = raised
        if not in_a_loop and error is not None and _needs_a_loop(error):
            self._asynchronous = True
            return self._record(chain, row, listener)
        return output, error, chain._lift(recorder, inputs, output, error, config)

    def _record_batch(
        self, chain: Traced, rows: Sequence[Row], contexts: Sequence[Context]
    ) -> list[Run | Exception | None]:
        """How each example went; None for those that must run by themselves."""
        given, reads = [snapshot(row.inputs) for row in rows], chain.reads()
        in_a_loop = self._asynchronous
        with listening() as rest:
            listeners = [context.run(CallListener, rest=rest) for context in contexts]
            configs = [{"max_concurrency": len(rows), **self._run_config()} for _ in rows]
            heard = [with_handler(config, listener) for config, listener in zip(configs, listeners, strict=True)]
            recorders, heard = chain._recorders(rows, heard)
            outputs = self._call_batch(chain, [snapshot(row.inputs) for row in rows], heard, in_a_loop)
            if outputs is None:
                for listener in (rest, *listeners):
                    listener.stop()
                return [None] * len(rows)
        if rest.interruption is not None:
            raise rest.interruption
        if not in_a_loop and any(isinstance(one, BaseException) and _needs_a_loop(one) for one in outputs):
            self._asynchronous = True
            return self._record_batch(chain, rows, contexts)

        def ended(number: int) -> Run:
            error = outputs[number] if isinstance(outputs[number], BaseException) else None
            output = None if error is not None else outputs[number]
            node = chain._lift(recorders[number], given[number], output, error, heard[number], reads)
            return self._outcome(output, error, node, listeners[number], rest)

        shared = is_shared(outputs)
        return [None if shared[n] else outcome_of(partial(ended, n)) for n in range(len(rows))]

    def _call_batch(self, chain: Traced, inputs: list[Any], configs: list[Any], in_a_loop: bool) -> list[Any] | None:
        """The outputs of a batch, exceptions among them; None if it failed as a whole, or was late."""
        _, recorded = chain._both()
        batch = recorded.abatch if in_a_loop else recorded.batch
        call = partial(batch, inputs, configs, return_exceptions=True)
        try:
            return list(within(self._timeout_s, partial(in_loop, call) if in_a_loop else call))
        except (Exception, SystemExit):
            return None

    def _outcome(self, output: Any, error: BaseException | None, node: Node, *listeners: CallListener) -> Run:
        """A run as the loop sees it; raises what is not the program's fault."""
        for listener in listeners:
            if listener.interruption is not None:
                raise listener.interruption
        if error is None:
            return Run(output, node, demonstrations=find_demonstrations(node, self._example_fields))
        if isinstance(error, BudgetExceeded | ModelError | SandboxUnavailable | StoreError):
            raise error
        if any(listener.is_model_failure(error) for listener in listeners):
            raise ModelError(f"The chain's model failed: {type(error).__name__}: {error}") from error
        return Run(None, node, error, demonstrations={})

    def _run_config(self) -> dict[str, Any]:
        given = dict((self._config() if callable(self._config) else self._config) or {})
        if getattr(self.program, "checkpointer", None):
            own = {"thread_id": uuid.uuid4().hex, **given.get("configurable", {})}
            given["configurable"] = own  # else one run would remember another
        return given

    def _chain_of(self, inside: Mapping[str, Any]) -> Traced:
        key = json.dumps(inside, sort_keys=True, ensure_ascii=False)
        with self._lock:
            chain = self._chains.pop(key, None) or self._traced.with_values(inside)
            self._chains[key] = chain
            while len(self._chains) > _KEPT_CHAINS:
                self._chains.popitem(last=False)
            return chain


def wrap(program: Any, trainable: Any = (), **options: Any) -> LangchainTarget:
    """The target of a runnable; the entry point that `ta.wrap` finds. See `LangchainTarget` for the options."""
    return LangchainTarget(program, trainable, **options)


def _traced(program: Any, named: Sequence[str], has_others: bool, trust: str | None) -> Traced:
    if isinstance(program, Traced) and not named:
        if trust is not None:
            raise SettingError("Say trust= to tal.trace, which made this chain; here it would come too late.")
        return program.silent()
    if not named and has_others:
        return Traced(program, ())  # nothing inside changes
    return trace(program, trainable=named, trust=trust or "sandbox")


def _example_fields(traced: Traced) -> dict[str, tuple[str, ...]]:
    """Key of each parameter that holds few-shot examples -> the fields of one."""
    return {one.key: one.part.names for one in traced._found if one.part.kind == EXAMPLES}


def _needs_a_loop(error: BaseException) -> bool:
    """Whether a chain has steps that can only be awaited."""
    return "coroutine function synchronously" in str(error) or "No synchronous function provided" in str(error)
