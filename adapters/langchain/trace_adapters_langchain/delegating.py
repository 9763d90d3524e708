"""The Runnable face of something that runs a chain in its stead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

from trace_adapters_langchain.recording import hearing


class Delegate(Runnable[Any, Any]):
    """Gives every call to another chain, without a run of its own.

    Attributes:
        chain: Says what the names and types are.
    """

    chain: Runnable[Any, Any]

    def _running(self, config: Any) -> tuple[Any, Any]:
        """The chain to run here, and the config to run it with."""
        raise NotImplementedError

    def _in_force(self) -> Any:
        """The chain to show."""
        raise NotImplementedError

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        chain, config = self._running(config)
        return chain.invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        chain, config = self._running(config)
        return await chain.ainvoke(input, config, **kwargs)

    def batch(self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any) -> Any:
        chain, configs = self._running(_each(config, inputs))
        return chain.batch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self, inputs: list[Any], config: Any = None, *, return_exceptions: bool = False, **kwargs: Any
    ) -> Any:
        chain, configs = self._running(_each(config, inputs))
        return await chain.abatch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        chain, config = self._running(config)
        return chain.stream(input, config, **kwargs)  # type: ignore[no-any-return]

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        chain, config = self._running(config)
        async for chunk in chain.astream(input, config, **kwargs):
            yield chunk

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        chain, config = self._running(config)
        return chain.transform(input, config, **kwargs)  # type: ignore[no-any-return]

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        chain, config = self._running(config)
        async for chunk in chain.atransform(input, config, **kwargs):
            yield chunk

    @property
    def name(self) -> str | None:  # type: ignore[override]
        """The chain's own."""
        return getattr(self.chain, "name", None)

    def configurable_alternatives(self, which: Any, **options: Any) -> Any:
        """As runnables have it; this chain, as it runs here, is the default."""
        return self.bind().configurable_alternatives(which, **options)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "chain" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            return getattr(self._in_force(), name)
        except AttributeError as error:
            raise AttributeError(
                f"Neither {type(self).__name__} nor {type(self.chain).__name__} has {name!r}"
            ) from error

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        return self.chain.get_name(suffix, name=name)

    @property
    def InputType(self) -> Any:  # noqa: N802 - LangChain's name
        return self.chain.InputType

    @property
    def OutputType(self) -> Any:  # noqa: N802 - LangChain's name
        return self.chain.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> Any:
        return self.chain.get_input_schema(config)

    def get_output_schema(self, config: RunnableConfig | None = None) -> Any:
        return self.chain.get_output_schema(config)

    @property
    def config_specs(self) -> Any:
        return self.chain.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Any:
        return self._in_force().get_graph(config)

    def get_prompts(self, config: RunnableConfig | None = None) -> Any:
        return self._in_force().get_prompts(config)


def _each(config: Any, inputs: Sequence[Any]) -> Any:
    """A config for each input where a recorder must know the runs; else as it was given."""
    if not hearing() or isinstance(config, (list, tuple)):
        return config
    return [config] * len(inputs)
