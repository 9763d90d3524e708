"""Results that arrive piece by piece, as nodes that are complete when the stream ends."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

from trace_adapters.context import READS, Surroundings
from trace_adapters.history import Node, Operation, unwrap

Sources = tuple[tuple[str, ...], tuple[Node, ...]]


class Stream(Node):
    """What a generator yields, as a node; its value is the list of everything yielded.

    Iterating (`for`, or `async for` over an async generator) gives the plain values as they come, and gives them
    again to whoever iterates later; threads, or the tasks of one event loop, may iterate over one stream side by side.
    Reading the value of a stream that has not ended runs it to its end; an async one must have ended. The body runs
    under the `using` of the call, wherever it is consumed.
    """

    __slots__ = ("_chunks", "_error", "_fail", "_finish", "_iterator", "_lock", "_reads", "_surroundings", "_turn")

    def __init__(
        self,
        iterator: Generator[Any, Any, Any] | AsyncGenerator[Any, Any],
        operation: Operation | None,
        *,
        reads: dict[Node, None],
        finish: Callable[[dict[Node, None]], Sources],
        fail: Callable[[Exception, dict[Node, None]], BaseException],
    ) -> None:
        self._chunks: list[Any] = []
        super().__init__(self._chunks, None, "", operation, *finish(reads))
        self._iterator: Any = iterator
        self._reads = reads
        self._surroundings = Surroundings(reads)
        self._finish = finish
        self._fail = fail
        self._error: BaseException | None = None
        self._lock = threading.RLock()
        self._turn: Any = None

    @property
    def ended(self) -> bool:
        """Whether everything has been yielded."""
        return self._iterator is None

    @property
    def data(self) -> Any:
        """Everything that was yielded, as a list."""
        self.read()
        reads = READS.get()
        if reads is not None:
            reads[self] = None
        return self._data

    def read(self) -> Node:
        if self._iterator is not None and hasattr(self._iterator, "__anext__"):
            raise RuntimeError(
                f"The stream {self.name!r} has not ended; consume it with `async for` before its value is read."
            )
        while self._pull(len(self._chunks)):
            pass
        return self

    def close(self) -> None:
        """End the stream here: the value is what has come so far."""
        if self._iterator is not None and hasattr(self._iterator, "close"):
            self._iterator.close()
        self._end()

    def __iter__(self) -> Iterator[Any]:
        position = 0
        while position < len(self._chunks) or self._pull(position):
            yield self._chunks[position]
            position += 1

    async def __aiter__(self) -> AsyncIterator[Any]:
        position = 0
        while position < len(self._chunks) or await self._apull(position):
            yield self._chunks[position]
            position += 1

    def _pull(self, position: int) -> bool:
        """Wait for the chunk of that position; False if there is none."""
        with self._lock:
            if position < len(self._chunks):  # another thread has been faster
                return True
            if self._error is not None:
                raise self._error
            if self._iterator is None:
                return False
            try:
                with self._surroundings.restored():
                    chunk = next(self._iterator)
            except StopIteration:
                return self._end()
            except Exception as error:
                raise self._failed(error) from error
            return self._add(chunk)

    async def _apull(self, position: int) -> bool:
        if self._turn is None:
            from asyncio import Lock  # the tracer alone does without

            self._turn = Lock()
        async with self._turn:
            if position < len(self._chunks):  # another task has been faster
                return True
            if self._error is not None:
                raise self._error
            if self._iterator is None:
                return False
            try:
                with self._surroundings.restored():
                    chunk = await anext(self._iterator)
            except StopAsyncIteration:
                return self._end()
            except Exception as error:
                raise self._failed(error) from error
            return self._add(chunk)

    def _add(self, chunk: Any) -> bool:
        if isinstance(chunk, Node):
            self._reads[chunk.read()] = None
        self._chunks.append(unwrap(chunk))
        return True

    def _end(self) -> bool:
        if self._iterator is not None:
            self._iterator = None
            self._argument_names, self._sources = self._finish(self._reads)
            self._led = any(source._led for source in self._sources)
        return False

    def _failed(self, error: Exception) -> BaseException:
        self._end()
        self._error = self._fail(error, self._reads)
        return self._error
