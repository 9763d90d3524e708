"""Foreign models taken in: `as_lm`."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from trace_adapters.errors import AdapterError, SettingError
from trace_adapters.lm.client import LM
from trace_adapters.lm.completions import build_request, read_replies
from trace_adapters.lm.connections import model_error
from trace_adapters.lm.endpoints import Address
from trace_adapters.lm.ledger import Question, arecorded, recorded
from trace_adapters.lm.messages import Messages, join_messages, message_text, read_messages
from trace_adapters.lm.replies import LanguageModel, Profile, Reply, Usage
from trace_adapters.lm.sampling import sample_seed

Ask = Callable[[Question, int], list[Reply]]
AsyncAsk = Callable[[Question, int], Awaitable[list[Reply]]]

ENTRY_POINTS = "trace_adapters.models"

_MESSAGE_NAMES = {"messages", "chat", "conversation", "history"}


def as_lm(model: Any, *, name: str | None = None, profile: Profile | None = None) -> LanguageModel:
    """Take in whatever can answer.

    Args:
        model: One of
            a `LanguageModel` (returned as it is);
            a name (`LM(name, profile=profile)`);
            a model of a framework with an installed adapter (entry points of group "trace_adapters.models"; name: the
            framework's import root; object: `as_lm(model, name=..., profile=...)`);
            a client of the `openai` SDK, sync or async (`name` is then needed);
            a model object with `forward` and `history` that is called with `messages=` and returns a list of texts
            or of mappings with `text`;
            a chat model with `invoke(messages)` that returns a message with `content`;
            an engine that is called with `(prompt, system_prompt=...)` and returns a text, or has a `generate` like
            that; it is called itself where it can be, which may repeat failed requests or look into a cache;
            a function of a prompt, or of messages if its first argument is so named or annotated, that returns a
            text. Options reach it only if it has arguments of these names.
        name: What the model is called in records. Default: what the object says.
        profile: "small" for models that need short, narrow questions. Default: of a name, as `LM` says, else "strong".

    Raises:
        AdapterError: If it is none of these.
    """
    if isinstance(model, LanguageModel) and not isinstance(model, type):
        return model
    if isinstance(model, str):
        return LM(model, profile=profile)
    profile = profile or "strong"
    adapt = _find_adapter(model)
    if adapt is not None:
        return adapt(model, name=name, profile=profile)
    if hasattr(model, "chat") and hasattr(getattr(model.chat, "completions", None), "create"):
        return _from_client(model, name, profile)
    if callable(model) and hasattr(model, "forward") and hasattr(model, "history"):
        return AdaptedLM(_name_of(model, name), _HistoryModel(model).ask, _HistoryModel(model).aask, profile=profile)
    if hasattr(model, "invoke"):
        return AdaptedLM(_name_of(model, name), _InvokedModel(model).ask, _InvokedModel(model).aask, profile=profile)
    if not isinstance(model, type) and _is_engine(model):
        return AdaptedLM(_name_of(model, name), _Engine(model).ask, None, profile=profile)
    if callable(model) and not isinstance(model, type):
        return AdaptedLM(_name_of(model, name), _Function(model).ask, None, profile=profile)
    raise AdapterError(
        "expected a language model (a LanguageModel, a name, an openai client, a model object called with messages=, "
        f"a chat model with invoke, an engine with generate, or a function of a prompt), got {model!r}"
        + ("; make an instance of it" if isinstance(model, type) else "")
    )


class AdaptedLM:
    """A foreign model behind the protocol; its calls are recorded like any others, its options are passed on."""

    supports_grammar = False

    def __init__(self, model: str, ask: Ask, aask: AsyncAsk | None, *, profile: Profile = "strong") -> None:
        self.model = model
        self.profile: Profile = profile
        self._ask = ask
        self._aask = aask

    def __call__(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]:
        question = self._question(messages, n, role, sample_index, options)
        return recorded(question, lambda: self._ask(question, n))

    async def acall(
        self, messages: Messages, *, n: int = 1, role: str = "forward", sample_index: int = 0, **options: Any
    ) -> list[Reply]:
        question = self._question(messages, n, role, sample_index, options)
        ask = self._aask
        if ask is None:
            return await arecorded(question, lambda: asyncio.to_thread(self._ask, question, n))
        return await arecorded(question, lambda: ask(question, n))

    def _question(
        self, messages: Messages, n: int, role: str, sample_index: int, options: Mapping[str, Any]
    ) -> Question:
        if n < 1:
            raise SettingError(f"expected n >= 1 replies, got n={n!r}")
        known = {key: value for key, value in options.items() if value is not None}
        if "grammar" in known:
            raise SettingError(f"expected options that model {self.model!r} can take, got grammar=...; use LM('local')")
        return Question(role, self.model, read_messages(messages), known, sample_index)


class _HistoryModel:
    """A model object that is called with messages=, returns its outputs, and notes each call in `history`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def ask(self, question: Question, n: int) -> list[Reply]:
        started = time.perf_counter()
        outputs = self._model(messages=_plain(question), **self._options(question, n))
        return self._read(outputs, time.perf_counter() - started)

    async def aask(self, question: Question, n: int) -> list[Reply]:
        started = time.perf_counter()
        outputs = await self._model.acall(messages=_plain(question), **self._options(question, n))
        return self._read(outputs, time.perf_counter() - started)

    def _options(self, question: Question, n: int) -> dict[str, Any]:
        options = dict(question.options)
        schema = options.pop("json_schema", None)
        if schema is not None:
            options |= {"response_format": build_request("", [], {"json_schema": schema})["response_format"]}
        if question.sample_index:
            options["rollout_id"] = question.sample_index  # else its own cache returns the first sample again
        return options | ({"n": n} if n > 1 else {})

    def _read(self, outputs: Any, latency_s: float) -> list[Reply]:
        if not isinstance(outputs, Sequence) or isinstance(outputs, str) or not outputs:
            raise AdapterError(f"expected a list of outputs from model {self._model!r}, got {outputs!r}")
        entry = self._entry(outputs)
        texts = [
            str(output.get("text") or "") if isinstance(output, Mapping) else str(output or "") for output in outputs
        ]
        usage, reasons = _entry_usage(entry), _entry_reasons(entry, len(texts))
        model = str(entry.get("response_model") or getattr(self._model, "model", ""))
        cached = bool(getattr(entry.get("response"), "cache_hit", False))
        return [
            Reply(
                text,
                usage if place == 0 else Usage(0, 0, 0, 0.0),
                model,
                reason,
                latency_s,
                cached=cached,
                raw=outputs[place],
            )
            for place, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        ]

    def _entry(self, outputs: Any) -> Mapping[str, Any]:
        """The note of this very call: other threads append to the same history."""
        for entry in list(reversed(self._model.history))[:200]:
            if isinstance(entry, Mapping) and entry.get("outputs") is outputs:
                return entry
        return {}


class _InvokedModel:
    """A chat model with `invoke` and `ainvoke`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def ask(self, question: Question, n: int) -> list[Reply]:
        return [self._read(*_timed(lambda: self._model.invoke(_plain(question), **question.options))) for _ in range(n)]

    async def aask(self, question: Question, n: int) -> list[Reply]:
        replies = []
        for _ in range(n):
            started = time.perf_counter()
            answer = await self._model.ainvoke(_plain(question), **question.options)
            replies.append(self._read(answer, time.perf_counter() - started))
        return replies

    def _read(self, answer: Any, latency_s: float) -> Reply:
        text = answer if isinstance(answer, str) else message_text({"content": getattr(answer, "content", None)})
        counts = getattr(answer, "usage_metadata", None) or {}
        details = getattr(answer, "response_metadata", None) or {}
        usage = Usage(counts.get("input_tokens"), counts.get("output_tokens"))
        model = str(details.get("model_name") or _name_of(self._model, None))
        return Reply(text, usage, model, details.get("finish_reason"), latency_s, raw=answer)


class _Function:
    """A plain function of a prompt or of messages."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        self._open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        self._names = {parameter.name for parameter in parameters[1:]}
        self._takes_messages = bool(parameters) and _is_for_messages(parameters[0])

    def ask(self, question: Question, n: int) -> list[Reply]:
        prompt = _plain(question) if self._takes_messages else join_messages(question.messages)
        options = {name: value for name, value in question.options.items() if self._open or name in self._names}
        return [self._read(*_timed(lambda: self._function(prompt, **options)), question) for _ in range(n)]

    def _read(self, answer: Any, latency_s: float, question: Question) -> Reply:
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer, str):
            raise AdapterError(f"expected a text from model function {self._function!r}, got {answer!r}")
        return Reply(answer, Usage(None, None), question.model, None, latency_s, raw=answer)


class _Engine:
    """A model that is called with `(prompt, system_prompt=...)`, or has a `generate` like that, or both."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        names = _argument_names(engine if callable(engine) else engine.generate)
        if "kwargs" in names and hasattr(engine, "generate"):
            names = _argument_names(engine.generate)
        self._names = names | {"max_tokens", "temperature"} if "kwargs" in names else names

    def ask(self, question: Question, n: int) -> list[Reply]:
        system = [message_text(message) for message in question.messages if message["role"] == "system"]
        others = [message for message in question.messages if message["role"] != "system"]
        options = {name: value for name, value in question.options.items() if name in self._names}
        terms = {"system_prompt": "\n\n".join(system) or None, **options}
        return [self._read(*_timed(lambda: self._answer(join_messages(others), terms)), question) for _ in range(n)]

    def _answer(self, prompt: str, terms: Mapping[str, Any]) -> Any:
        answer = self._engine(prompt, **terms) if callable(self._engine) else None
        if answer is None and hasattr(self._engine, "generate"):
            return self._engine.generate(prompt, **terms)
        return answer

    def _read(self, answer: Any, latency_s: float, question: Question) -> Reply:
        if not isinstance(answer, str):
            raise AdapterError(f"expected a text from engine {self._engine!r}, got {answer!r}")
        return Reply(answer, Usage(None, None), question.model, None, latency_s, raw=answer)


class _Client:
    """A client of the SDK, with whatever settings it was made with."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self._loops: dict[int, asyncio.AbstractEventLoop] = {}  # process -> loop
        self._lock = threading.Lock()
        self._address = Address(str(getattr(client, "base_url", "")), "")

    def ask(self, question: Question, n: int) -> list[Reply]:
        started = time.perf_counter()
        try:
            response = self._client.chat.completions.create(**self._request(question, n))
        except Exception as error:
            raise model_error(error, self._name, self._address) from error
        return read_replies(response, None, time.perf_counter() - started)

    async def aask(self, question: Question, n: int) -> list[Reply]:
        started = time.perf_counter()
        try:
            response = await self._client.chat.completions.create(**self._request(question, n))
        except Exception as error:
            raise model_error(error, self._name, self._address) from error
        return read_replies(response, None, time.perf_counter() - started)

    def ask_on_own_loop(self, question: Question, n: int) -> list[Reply]:
        """From any thread, on one loop: connections that are kept belong to the loop that opened them."""
        return asyncio.run_coroutine_threadsafe(self.aask(question, n), self._own_loop()).result()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            loop = self._loops.get(os.getpid())
            if loop is None:
                loop = self._loops[os.getpid()] = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="async client", daemon=True).start()
            return loop

    def _request(self, question: Question, n: int) -> dict[str, Any]:
        options = dict(question.options)
        if "seed" in options:
            options["seed"] = sample_seed(int(options["seed"]), question.sample_index)
        return build_request(self._name, question.messages, {**options, "n": n if n > 1 else None})


def _find_adapter(model: Any) -> Callable[..., LanguageModel] | None:
    known = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for cls in type(model).__mro__:
        point = known.get(cls.__module__.partition(".")[0])
        if point is not None:
            found: Callable[..., LanguageModel] = point.load()
            return found
    return None


def _from_client(client: Any, name: str | None, profile: Profile) -> AdaptedLM:
    if name is None:
        raise SettingError(
            f"expected the name of the model that {client!r} shall be asked for; write as_lm(client, name=...)"
        )
    asked = _Client(client, name)
    if hasattr(client, "__aenter__"):
        return AdaptedLM(name, asked.ask_on_own_loop, asked.aask, profile=profile)
    return AdaptedLM(name, asked.ask, None, profile=profile)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def _plain(question: Question) -> list[dict[str, Any]]:
    return [dict(message) for message in question.messages]


def _entry_usage(entry: Mapping[str, Any]) -> Usage:
    counts = entry.get("usage") or {}
    details = counts.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else getattr(details, "cached_tokens", None)
    return Usage(counts.get("prompt_tokens"), counts.get("completion_tokens"), cached, entry.get("cost") or None)


def _entry_reasons(entry: Mapping[str, Any], count: int) -> list[str | None]:
    response = entry.get("response")
    answers = response if isinstance(response, list | tuple) else [response]
    choices = getattr(response, "choices", None) or answers
    reasons = [getattr(choice, "finish_reason", None) for choice in choices]
    return reasons if len(reasons) == count else [None] * count


def _is_engine(model: Any) -> bool:
    places = [getattr(model, "generate", None), model if callable(model) else None]
    return any("system_prompt" in _argument_names(place) for place in places)


def _argument_names(function: Any) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _is_for_messages(parameter: inspect.Parameter) -> bool:
    annotation = str(parameter.annotation).lower()
    return parameter.name in _MESSAGE_NAMES or any(word in annotation for word in ("list", "sequence", "messages"))


def _name_of(model: Any, name: str | None) -> str:
    if name:
        return name
    for attribute in ("model", "model_name", "model_string", "__name__"):
        value = getattr(model, attribute, None)
        if isinstance(value, str) and value:
            return value
    return type(model).__name__
