"""Parts that learn where no tree leads to them: in closures and in nodes of graphs."""

from __future__ import annotations

import copy
import inspect
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate, StringPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel

from trace_adapters import AdapterError, SettingError
from trace_adapters_langchain.overlay import Overlay
from trace_adapters_langchain.traced import Traced, trace

_KEPT = 16
_CHANGING = ("append", "extend")  # methods of prompts that change them in place
_FIELDS = ("messages", "template", "examples", "partial_variables", "input_variables")
_FIXED = "{} would change a prompt that is trainable; change it first, then tal.trainable(it)."


class Trainable(Runnable[Any, Any]):
    """A prompt, a function or a chain that may change, to be used in place of the one that it was made of.

    It runs as that one does, with the values that hold where it is called: those of the candidate that is being tried
    there, of `ta.using`, or of a learned graph; else its own.

    Attributes:
        traced: The original, with its parameters.
        overlay: Where its values come from.
        overlays: The same, as `tal.optimize` looks for it.
    """

    def __init__(self, traced: Traced, name: str) -> None:
        self.traced = traced
        self.name = name
        self.overlay = Overlay(name, traced.parameters)
        self.overlays = (self.overlay,)
        self._values: dict[str, Any] = {}
        self._chains: dict[str, Traced] = {}
        self._lock = threading.Lock()

    @property
    def parameters(self) -> dict[str, Any]:
        """Key -> parameter."""
        return dict(self.overlay.parameters)

    def plain(self, values: Mapping[str, Any] | None = None) -> Any:
        """The original with some values, e.g. `result.best.candidate`; without anything of ours."""
        known = {key: value for key, value in (values or {}).items() if key in self.overlay.parameters}
        return self.traced.with_values(known).plain()

    def here(self, config: Any = None) -> Traced:
        """The chain with the values that hold here."""
        bound = self.overlay.bound_values(config)
        if not bound:
            return self.traced  # which sees `ta.using` itself
        key = json.dumps(bound, sort_keys=True, ensure_ascii=False)
        with self._lock:
            chain = self._chains.get(key)
            if chain is None:
                if len(self._chains) >= _KEPT:
                    self._chains.clear()
                chain = self._chains[key] = self.traced.with_values(bound)
            return chain

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return self.here(config).invoke(self._filled(input), config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await self.here(config).ainvoke(self._filled(input), config, **kwargs)

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        return self.here(_first(config)).batch([self._filled(one) for one in inputs], config, **kwargs)

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        return await self.here(_first(config)).abatch([self._filled(one) for one in inputs], config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        yield from self.here(config).stream(self._filled(input), config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        async for chunk in self.here(config).astream(self._filled(input), config, **kwargs):
            yield chunk

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        if self._values:
            yield from super().transform(input, config, **kwargs)  # which waits for the whole input
        else:
            yield from self.here(config).transform(input, config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        made = super() if self._values else self.here(config)
        async for chunk in made.atransform(input, config, **kwargs):
            yield chunk

    def __call__(self, input: Any) -> Any:
        """A trained function called as a function."""
        return self.invoke(input)

    def format_prompt(self, **kwargs: Any) -> Any:
        """For prompts: what `invoke` gives."""
        return self.invoke(kwargs)

    async def aformat_prompt(self, **kwargs: Any) -> Any:
        """For prompts: what `ainvoke` gives."""
        return await self.ainvoke(kwargs)

    def format(self, **kwargs: Any) -> str:
        """For prompts: as text."""
        return str(self.invoke(kwargs).to_string())

    async def aformat(self, **kwargs: Any) -> str:
        """For prompts: as text."""
        return str((await self.ainvoke(kwargs)).to_string())

    def format_messages(self, **kwargs: Any) -> list[Any]:
        """For prompts: as messages."""
        return list(self.invoke(kwargs).to_messages())

    async def aformat_messages(self, **kwargs: Any) -> list[Any]:
        """For prompts: as messages."""
        return list((await self.ainvoke(kwargs)).to_messages())

    def partial(self, **values: Any) -> Trainable:
        """For prompts: one that has these variables already, and learns as this one does.

        Args:
            values: Texts, or functions that give them at each call.
        """
        if not isinstance(self.traced.chain, BasePromptTemplate):
            raise AttributeError(f"Only a prompt has partial(), not {self.traced.chain!r}.")
        made = copy.copy(self)
        made._values = {**self._values, **values}
        return made

    @property
    def input_variables(self) -> list[str]:
        """For prompts: the variables that a call must give."""
        return [name for name in self.here().input_variables if name not in self._values]

    def __add__(self, other: Any) -> Any:
        """For prompts: a chain that gives both together; this part of it learns."""
        if not isinstance(self.traced.chain, BasePromptTemplate):
            return NotImplemented
        if not isinstance(other, Runnable):
            is_text = isinstance(self.traced.chain, StringPromptTemplate)
            other = (PromptTemplate.from_template("") if is_text else ChatPromptTemplate([])) + other
        return RunnableParallel(first=self, then=other) | RunnableLambda(_join, name="joined")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "traced" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name in _CHANGING:
            raise AttributeError(_FIXED.format(name))
        return getattr(self.here(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIELDS:
            raise AttributeError(_FIXED.format(name))
        super().__setattr__(name, value)

    def _filled(self, input: Any) -> Any:
        """An input with the variables that `partial` has given."""
        if not self._values or not isinstance(input, Mapping):
            return input
        return {**{key: value() if callable(value) else value for key, value in self._values.items()}, **input}

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        return super().get_name(suffix, name=name or self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Trainable:
        return self  # graphs copy what they are made of; its values come from where it runs

    def __repr__(self) -> str:
        return f"Trainable({', '.join(self.overlay.parameters)})"


def trainable(part: Any, name: str | None = None, *, train: str | Sequence[str] = "*", **terms: Any) -> Trainable:
    """Something that a function or a node of a graph uses, as one that may change.

    `prompt = tal.trainable(ChatPromptTemplate.from_messages([...]), "answer")`, then use it as before, and say
    `tal.optimize(graph, ..., trainable=[prompt])`.

    Args:
        part: A prompt, a text (an f-string template), a function of one argument, or a chain.
        name: What it is called; prompts and texts need one where there are several.
        train: Which of its parameters: kinds, names or globs.
        terms: Where learned functions run; see `tal.trace`.

    Raises:
        AdapterError: If it is none of these.
        CodeError: If a function's source cannot be read.
    """
    if isinstance(part, Trainable):
        raise SettingError(f"{part!r} is trainable already.")
    if isinstance(part, str):
        part = PromptTemplate.from_template(part)
    elif inspect.isfunction(part):
        part = RunnableLambda(part)
    if not isinstance(part, Runnable):
        raise AdapterError(f"Only a prompt, a text, a function or a chain can be trainable, got {part!r}.")
    if name is not None and hasattr(part, "input_variables"):
        part = part.model_copy(update={"name": name})
    traced = trace(part, trainable=train, **terms)
    return Trainable(traced, name or ", ".join(traced.parameters))


def _join(values: Mapping[str, Any]) -> Any:
    """Two prompts' values as one: text after text, or message after message."""
    first, then = values["first"], values["then"]
    if isinstance(first, StringPromptValue):
        return StringPromptValue(text=first.text + then.to_string())
    return ChatPromptValue(messages=[*first.to_messages(), *then.to_messages()])


def _first(config: Any) -> Any:
    return config[0] if isinstance(config, list) and config else config
