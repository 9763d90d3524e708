"""The last call of a chain, remembered where that is asked for."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig

from trace_adapters import Node
from trace_adapters_langchain.delegating import Delegate
from trace_adapters_langchain.recording import Recorder, active, recording
from trace_adapters_langchain.tapes import Tape


class Remembering(Delegate):
    """Remembers what its last call did, if it is told to record.

    Attributes:
        records: Whether every call is recorded, not only those that ask for a node.
    """

    records: bool = False

    def __init__(self) -> None:
        self._last: Tape | Node | None = None
        self._lifting = threading.Lock()

    @property
    def last_trace(self) -> Node | None:
        """The output of the last call, of whatever thread or task, as a node with everything that led to it.

        Of a batch, the run that began last (`node_batch` gives a node for each); of a stream, what came until it was
        left. None as long as nothing was recorded: `invoke`, `batch`, `stream` and their async twins record only with
        `tal.trace(chain, record=True)`, `node` and `node_batch` always; without either, use `tal.record()`.
        """
        with self._lifting:
            if isinstance(self._last, Tape):
                self._last = self._last.node()
            return self._last

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        if not self.records:
            return super().invoke(input, config, **kwargs)
        with self._remembered():
            return super().invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        if not self.records:
            return await super().ainvoke(input, config, **kwargs)
        with self._remembered():
            return await super().ainvoke(input, config, **kwargs)

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> Any:
        if not self.records:
            return super().batch(inputs, config, **kwargs)
        with self._remembered():
            return super().batch(inputs, config, **kwargs)

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> Any:
        if not self.records:
            return await super().abatch(inputs, config, **kwargs)
        with self._remembered():
            return await super().abatch(inputs, config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        return self._streamed(partial(super().stream, input, config, **kwargs))

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        return self._streamed(partial(super().transform, input, config, **kwargs))

    def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        return self._astreamed(partial(super().astream, input, config, **kwargs))

    def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        return self._astreamed(partial(super().atransform, input, config, **kwargs))

    def _streamed(self, start: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        return self._remembered_stream(start) if self.records else start()

    def _astreamed(self, start: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        return self._remembered_astream(start) if self.records else start()

    def _remembered_stream(self, start: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        recorder = Recorder(active())
        chunks: Any = None
        try:
            while True:
                with recording(recorder):  # not while the reader of the stream does other things
                    chunks = start() if chunks is None else chunks
                    try:
                        chunk = next(chunks)
                    except StopIteration:
                        return
                yield chunk
        finally:
            with recording(recorder):
                if hasattr(chunks, "close"):
                    chunks.close()
            self._remember(recorder)

    async def _remembered_astream(self, start: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        recorder = Recorder(active())
        chunks: Any = None
        try:
            while True:
                with recording(recorder):
                    chunks = start() if chunks is None else chunks
                    try:
                        chunk = await anext(chunks)
                    except StopAsyncIteration:
                        return
                yield chunk
        finally:
            with recording(recorder):
                if hasattr(chunks, "aclose"):
                    await chunks.aclose()
            self._remember(recorder)

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        recorder = Recorder(active())
        try:
            with recording(recorder):
                yield
        finally:
            self._remember(recorder)

    def _remember(self, recorder: Recorder) -> None:
        if recorder.runs:
            self._last = Tape(recorder)
