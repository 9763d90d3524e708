"""What a running chain does, as LangChain's own events tell it: one small object a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables.config import RunnableConfig, ensure_config, var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook

from trace_adapters_langchain.inline import InlineHandler

# LangChain asks this variable for a handler whenever a run begins: nothing is patched, nothing is global but it.
_here: ContextVar[Recorder | None] = ContextVar("trace_adapters_langchain_recorder", default=None)
register_configure_hook(_here, inheritable=True)

_DEPTH = 4  # of containers that are copied when a run begins or ends


Reads = tuple[dict[int, Any], dict[int, Any], Any]
"""`id` of a runnable -> what it reads of the parameters, and its source in force; the chain itself."""


class TracedChain:
    """What a recording must know of a traced chain whose run it meets; see `Traced`."""

    def reads(self) -> Reads:
        """What its runnables read in force here."""
        raise NotImplementedError


class RecordedRun:
    """One run: what LangChain calls anything that begins, ends and may have runs inside.

    Attributes:
        parent: The run that LangChain says it is in.
        around: The run whose code called it, if the context says another one than `parent`.
        kind: "chain", "prompt", "parser", "model", "tool" or "retriever".
        tags: As LangChain gave them; those like "seq:step:1" say what the run is to its parent.
        metadata: As LangChain gave it; LangGraph writes its nodes there.
        inputs: What went in; a streamed run says it when it ends.
        output: What came out, None if it failed or was left early.
        started: Position in the order of events; `ended` likewise, None while it runs.
    """

    __slots__ = (
        "around", "ended", "error", "id", "inputs", "kind", "metadata", "name", "output", "parent", "started", "tags",
    )  # fmt: skip

    def __init__(
        self,
        run_id: UUID,
        parent: UUID | None,
        around: UUID | None,
        kind: str,
        name: str,
        tags: Sequence[str],
        metadata: Mapping[str, Any],
        inputs: Any,
        started: int,
    ) -> None:
        self.id = run_id
        self.parent = parent
        self.around = around
        self.kind = kind
        self.name = name
        self.tags = tags
        self.metadata = metadata
        self.inputs = inputs
        self.started = started
        self.ended: int | None = None
        self.output: Any = None
        self.error: BaseException | None = None


class Recorder(InlineHandler):
    """Takes the events of what runs in one `recording` block; may be called from many threads and tasks.

    Attributes:
        runs: By id, in the order in which they began.
        places: Run id -> number, of runs whose place LangChain's events do not tell: an item of a list, an attempt.
        chains: Run id -> what the traced chain reads that it is a run of.

    Args:
        outer: The recorder of a block around this one, which hears the same.
    """

    raise_error = False
    ignore_retry = True  # type: ignore[assignment]
    ignore_custom_event = True  # type: ignore[assignment]

    def __init__(self, outer: Recorder | None = None) -> None:
        self.outer = outer
        self.runs: dict[UUID, RecordedRun] = {}
        self.places: dict[UUID, int] = {}
        self.chains: dict[UUID, Reads] = {}
        self._clock = itertools.count().__next__

    def know(self, run_id: UUID, *, place: int | None = None, chain: Reads | None = None) -> None:
        """Note, before a run begins, what number it is of, or of which traced chain."""
        if place is not None:
            self.places[run_id] = place
        if chain is not None:
            self.chains[run_id] = chain
        if self.outer is not None:
            self.outer.know(run_id, place=place, chain=chain)

    def _start(self, run_id: UUID, parent: UUID | None, kind: str, inputs: Any, about: Mapping[str, Any]) -> None:
        config = var_child_runnable_config.get()
        around = None if config is None else getattr(config.get("callbacks"), "parent_run_id", None)
        around = None if around == parent else around
        name, tags, metadata = about.get("name") or kind, about.get("tags") or (), about.get("metadata") or {}
        self.runs[run_id] = RecordedRun(run_id, parent, around, kind, name, tags, metadata, inputs, self._clock())
        if self.outer is not None and run_id not in self.outer.runs:  # it may be among the run's handlers, too
            self.outer._start(run_id, parent, kind, inputs, about)

    def _end(self, run_id: UUID, output: Any, inputs: Any = None) -> None:
        run = self.runs.get(run_id)
        if run is not None and run.ended is None:
            run.output, run.ended = output, self._clock()
            run.inputs = run.inputs if inputs is None else inputs
        if self.outer is not None:
            self.outer._end(run_id, output, inputs)

    def _fail(self, run_id: UUID, error: BaseException, inputs: Any = None) -> None:
        run = self.runs.get(run_id)
        if run is not None and run.ended is None:
            run.error, run.ended = error, self._clock()
            run.inputs = run.inputs if inputs is None else inputs
        if self.outer is not None:
            self.outer._fail(run_id, error, inputs)

    def give_up(self, error: BaseException) -> None:
        """Let all that still runs have failed now: nobody waits for it any more."""
        for run in list(self.runs.values()):
            if run.ended is None:
                self._fail(run.id, error)

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **about: Any
    ) -> None:
        self._start(run_id, parent_run_id, about.get("run_type") or "chain", snapshot(inputs), about)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, inputs: Any = None, **kwargs: Any) -> None:
        self._end(run_id, snapshot(outputs), snapshot(inputs))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, inputs: Any = None, **kwargs: Any) -> None:
        self._fail(run_id, error, snapshot(inputs))

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **about: Any
    ) -> None:
        self._start(run_id, parent_run_id, "model", list(messages[0]) if messages else [], about)

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **about: Any
    ) -> None:
        self._start(run_id, parent_run_id, "model", prompts[0] if prompts else "", about)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, _first_generation(response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._fail(run_id, error)

    def on_tool_start(
        self, serialized: Any, input_str: str, *, run_id: UUID, parent_run_id: UUID | None = None, **about: Any
    ) -> None:
        name = about.get("name") or (serialized or {}).get("name")
        inputs = input_str if about.get("inputs") is None else snapshot(about["inputs"])
        self._start(run_id, parent_run_id, "tool", inputs, {**about, "name": name})

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, snapshot(output))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._fail(run_id, error)

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, parent_run_id: UUID | None = None, **about: Any
    ) -> None:
        self._start(run_id, parent_run_id, "retriever", query, about)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, snapshot(documents))

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._fail(run_id, error)

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        return self  # who copies a config goes on in the same recording

    def __copy__(self) -> Recorder:
        return self


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Let a recorder hear all that runs in the block, in the threads and tasks that LangChain begins there too."""
    token = _here.set(recorder)
    try:
        yield recorder
    finally:
        _here.reset(token)


def active() -> Recorder | None:
    """The recorder of the block around this call."""
    return _here.get()


def hearing() -> list[Recorder]:
    """All recorders that hear what begins here: that of the block, and those of the run whose code is running."""
    config, block = var_child_runnable_config.get(), _here.get()
    found = [] if config is None else listening(config.get("callbacks"))
    return found if block is None or block in found else [*found, block]


def listening(manager: Any) -> list[Recorder]:
    """The recorders among the handlers of a callback or run manager."""
    return [handler for handler in getattr(manager, "handlers", ()) if isinstance(handler, Recorder)]


def with_handler(config: RunnableConfig | Mapping[str, Any] | None, handler: BaseCallbackHandler) -> RunnableConfig:
    """A config under which a handler hears one input of a batch, beside the user's own callbacks."""
    own: RunnableConfig = ensure_config(config)  # type: ignore[arg-type]
    callbacks = own.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
        callbacks.add_handler(handler, inherit=True)
        own["callbacks"] = callbacks
    else:
        own["callbacks"] = [*(callbacks or []), handler]
    return own


def snapshot(value: Any, depth: int = 0) -> Any:
    """A copy of the plain containers in a value, so that steps that change their input do not rewrite the record."""
    kind = type(value)
    if depth < _DEPTH:
        if kind is dict:
            return {key: snapshot(item, depth + 1) for key, item in value.items()}
        if kind is list:
            return [snapshot(item, depth + 1) for item in value]
        if isinstance(value, dict):  # AddableDict and the like
            return {key: snapshot(item, depth + 1) for key, item in value.items()}
    return value


def forget_frames(error: BaseException) -> None:
    """Let go of what an exception holds of the run: frames keep whole streams and batches alive."""
    current: BaseException | None = error
    while current is not None and current.__traceback__ is not None:
        current.__traceback__ = None
        current = current.__cause__ or current.__context__


def _first_generation(response: Any) -> Any:
    """The message or text that a model answered."""
    generations = getattr(response, "generations", None)
    if not generations or not generations[0]:
        return None
    first = generations[0][0]
    message = getattr(first, "message", None)
    return getattr(first, "text", None) if message is None else message
