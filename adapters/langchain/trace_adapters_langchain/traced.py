"""A chain whose parts may be changed and whose calls may be recorded; it stays a Runnable."""

from __future__ import annotations

import copy
import json
import os
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config

from trace_adapters import AdapterError, Node, Parameter, ParameterError, SandboxUnavailable, UntrustedCode
from trace_adapters.extend import Value, check_values
from trace_adapters_langchain import files, parameters as finding
from trace_adapters_langchain.chains import rebuilt
from trace_adapters_langchain.exporting import export_module
from trace_adapters_langchain.functions import Terms
from trace_adapters_langchain.leaves import Source, makes_one_run, own_sources
from trace_adapters_langchain.lifting import Lifting
from trace_adapters_langchain.materialising import materialise
from trace_adapters_langchain.parameters import Found
from trace_adapters_langchain.recording import (
    Reads,
    Recorder,
    TracedChain,
    active,
    forget_frames,
    hearing,
    recording,
    snapshot,
    with_handler,
)
from trace_adapters_langchain.remembering import Remembering
from trace_adapters_langchain.repairs import repaired

_KEPT_CHAINS = 32
_UNTRUSTED = (
    "The code of {} was loaded from a file and is not the chain's own. Read it (`print(traced.diff())`), then allow "
    "it: `traced.trust()`, or `traced.load(path, allow_code=True)`."
)


class Traced(Remembering, TracedChain):
    """A chain with named parameters; make one with `trace`.

    Called as a Runnable it behaves as the chain does, under the values in force: its own, those that an optimizer
    gave its parameters, or those of `ta.using`. It records in `node` and `node_batch`, within `tal.record`, and, with
    `record=True`, every call. What it has not itself (`steps`, `messages`, `configurable_fields` …) comes from the
    chain with the values in force, and is plain, as that is.

    Attributes:
        chain: The user's own chain, never changed.
        inventory: Every parameter of the chain, trainable or not.
    """

    def __init__(
        self,
        chain: Runnable[Any, Any],
        found: Sequence[Found],
        values: Mapping[str, Any] | None = None,
        inventory: finding.Inventory | None = None,
        untrusted: Iterable[str] = (),
        *,
        record: bool = False,
    ) -> None:
        super().__init__()
        self.chain = chain
        self.records = record
        self.inventory = inventory or finding.Inventory(tuple(found), {}, Terms())
        self._found = tuple(found)
        self._values = {one.key: one.part.value for one in found} | dict(values or {})
        self._untrusted = frozenset(untrusted)
        self._parameters = {one.key: one.parameter(self._values[one.key]) for one in found}
        self._sources = own_sources(self.inventory.found)
        self._chains: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._own = self._make(self._values)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Key -> parameter, in the order in which they stand in the chain."""
        return dict(self._parameters)

    @property
    def values(self) -> dict[str, Any]:
        """Key -> the value in force here."""
        return {key: parameter.data for key, parameter in self._parameters.items()}

    def with_values(self, values: Mapping[str, Any]) -> Traced:
        """A traced chain of its own with these values; what is not named stays.

        Raises:
            ParameterError: If a key is unknown or a value does not fit; no model was called.
        """
        self.check(values)
        return self._twin({**self.values, **values}, self._untrusted.difference(values))

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise `ParameterError`, naming the key and the reason, if a value does not fit."""
        if not isinstance(values, Mapping):
            raise ParameterError(f"Expected a mapping of parameters to values, got {values!r}.")
        for key, value in values.items():
            try:
                check_values(self._parameters, {key: value})
            except ParameterError as error:
                if key not in self._parameters:
                    raise
                raise type(error)(f"{key}: {error}") from error

    def plain(self) -> Any:
        """The chain with the values in force, of LangChain's own kinds, without anything of ours.

        Learned code becomes plain functions of this process, with all its rights: read it first (`diff`).

        Raises:
            UntrustedCode: If code was loaded from a file and nobody has allowed it to run.
        """
        values = self.values
        self._require_trust(values)
        return materialise(self.chain, self._found, values, plain=True)

    def export(self, path: str | os.PathLike[str]) -> list[str]:
        """Write `plain()` as a Python module that needs langchain-core only, with a function `build`.

        Returns:
            The names of the arguments of `build`: models, tools and other things that cannot be written down.

        Raises:
            DataError: If the file cannot be written.
            UntrustedCode: If code was loaded from a file and nobody has allowed it to run.
        """
        return export_module(self.plain(), path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the values in force as JSON, each with the hash of the chain's own value.

        Raises:
            DataError: If the file cannot be written.
        """
        files.write_values(path, self.values, self._own_values())

    def load(self, path: str | os.PathLike[str], *, allow_code: bool = False) -> Traced:
        """A traced chain with the values that `save` wrote; nothing in the file runs without consent.

        A warning is logged if parameters of the chain or their own values are not those that were saved.

        Args:
            path: The JSON file.
            allow_code: Allow the functions in the file to run; else calling one raises `UntrustedCode`. What they are
                can be read before: `traced.load(path).diff()`.

        Raises:
            DataError: If the file was not written by `save`.
            ParameterError: If a value does not fit.
        """
        own = self._own_values()
        values = files.read_values(path, own)
        self.check(values)
        code = [one.key for one in self._found if one.source is not None and one.key in values]
        untrusted = () if allow_code else [key for key in code if values[key] != own[key]]
        return self._twin({**self.values, **values}, untrusted)

    def trust(self) -> Traced:
        """The same with loaded code allowed to run."""
        return self._twin(self.values, ())

    def diff(self, other: Traced | None = None) -> str:
        """What changed since the chain itself, or since another: a unified diff of each parameter; "" if nothing."""
        return files.describe_changes(self._own_values() if other is None else other.values, self.values)

    def node(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Node:
        """Call the chain and record it.

        Returns:
            The output as a node, with everything that led to it; a failed call if the chain raised.

        Raises:
            SandboxUnavailable: If this machine does not have the sandbox that learned code asks for.
        """
        recorder, given, output, error = Recorder(active()), snapshot(input), None, None
        reads = self.reads()
        config = self._known(config, hearing())
        with recording(recorder):
            try:
                output = self._both()[1].invoke(input, config, **kwargs)
            except (Exception, SystemExit) as raised:
                error = raised
        return self._lift(recorder, given, output, error, config, reads)

    async def anode(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Node:
        """`node`, awaited."""
        recorder, given, output, error = Recorder(active()), snapshot(input), None, None
        reads = self.reads()
        config = self._known(config, hearing())
        with recording(recorder):
            try:
                output = await self._both()[1].ainvoke(input, config, **kwargs)
            except (Exception, SystemExit) as raised:
                error = raised
        return self._lift(recorder, given, output, error, config, reads)

    def node_batch(
        self, inputs: Sequence[Any], config: RunnableConfig | Sequence[RunnableConfig] | None = None, **kwargs: Any
    ) -> list[Node]:
        """Call the chain on many inputs in one real batch, and record it; an input that fails gives a failed call."""
        recorders, configs = self._recorders(inputs, config)
        given, reads = snapshot(list(inputs)), self.reads()
        outputs = self._both()[1].batch(list(inputs), configs, return_exceptions=True, **kwargs)
        return self._lift_all(recorders, reads, given, outputs, configs)

    async def anode_batch(
        self, inputs: Sequence[Any], config: RunnableConfig | Sequence[RunnableConfig] | None = None, **kwargs: Any
    ) -> list[Node]:
        """`node_batch`, awaited."""
        recorders, configs = self._recorders(inputs, config)
        given, reads = snapshot(list(inputs)), self.reads()
        outputs = await self._both()[1].abatch(list(inputs), configs, return_exceptions=True, **kwargs)
        return self._lift_all(recorders, reads, given, outputs, configs)

    def reads(self) -> Reads:
        """What its runnables read in force here."""
        read: dict[int, list[tuple[str, Value]]] = {}
        sources = dict(self._sources)
        for one in self._found:
            value = self._parameters[one.key].read()
            read.setdefault(id(one.owner), []).append((one.argument, value))  # type: ignore[arg-type]
            if one.source is not None and value._data != one.part.value:
                sources[id(one.owner)] = Source(value._data)
        return read, sources, self.chain

    def _lift(
        self, recorder: Recorder, input: Any, output: Any, error: Any, config: Any, reads: Reads | None = None
    ) -> Node:
        if isinstance(error, SandboxUnavailable):
            raise error
        read, sources, chain = reads or self.reads()
        node = Lifting(recorder, read, sources, config).node(chain, input, output, error)
        if error is not None:
            forget_frames(error)
        self._last = node
        return node

    def _lift_all(
        self,
        recorders: Sequence[Recorder],
        reads: Reads,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        configs: Sequence[Any],
    ) -> list[Node]:
        found = []
        for recorder, given, output, config in zip(recorders, inputs, outputs, configs, strict=True):
            ended = (None, output) if isinstance(output, BaseException) else (output, None)
            found.append(self._lift(recorder, given, *ended, config, reads))
        return found

    def _recorders(self, inputs: Sequence[Any], config: Any) -> tuple[list[Recorder], list[RunnableConfig]]:
        configs = list(config) if isinstance(config, (list, tuple)) else [config] * len(inputs)
        recorders = [Recorder() for _ in inputs]
        known = [self._known(one, hearing()) for one in configs]
        return recorders, [with_handler(one, recorder) for one, recorder in zip(known, recorders, strict=True)]

    def _own_values(self) -> dict[str, Any]:
        return {one.key: one.part.value for one in self._found}

    def _require_trust(self, values: Mapping[str, Any]) -> None:
        refused = [key for key in values if self._is_untrusted(key, values[key])]
        if refused:
            raise UntrustedCode(_UNTRUSTED.format(", ".join(refused)))

    def _is_untrusted(self, key: str, value: Any) -> bool:
        return key in self._untrusted and value == self._values[key]

    def _make(self, values: Mapping[str, Any]) -> tuple[Any, Any]:
        """The chain that runs under these values, and the one that runs when it is recorded."""
        found = [
            one.refusing(_UNTRUSTED.format(one.key)) if self._is_untrusted(one.key, values[one.key]) else one
            for one in self._found
        ]
        running = materialise(self.chain, found, values, plain=False)
        return running, repaired(running)

    def _in_force(self) -> Any:
        return self._both()[0]

    def _both(self) -> tuple[Any, Any]:
        """The chain that runs under the values in force, and the one that runs when it is recorded."""
        values = self.values
        if all(value is self._values[key] for key, value in values.items()):
            return self._own
        key = json.dumps(values, sort_keys=True, ensure_ascii=False, default=repr)
        with self._lock:
            made = self._chains.get(key)
            if made is not None:
                self._chains.move_to_end(key)
                return made
        self.check(values)
        made = self._make(values)
        with self._lock:
            self._chains[key] = made
            while len(self._chains) > _KEPT_CHAINS:
                self._chains.popitem(last=False)
        return made

    def _running(self, config: Any) -> tuple[Any, Any]:
        """The chain to run here, and the config to run it with; where somebody records, the run gets a known id."""
        recorders = hearing()
        if not recorders:
            return self._both()[0], config
        if isinstance(config, (list, tuple)):
            return self._both()[1], [self._known(one, recorders) for one in config]
        return self._both()[1], self._known(config, recorders)

    def _known(self, config: Any, recorders: Sequence[Recorder]) -> Any:
        """A config whose run recorders around this call know as one of this chain."""
        if not recorders or not makes_one_run(self.chain):
            return config
        own = ensure_config(config)
        run_id = own.get("run_id") or uuid.uuid4()
        own["run_id"] = run_id
        reads = self.reads()
        for recorder in recorders:
            recorder.know(run_id, chain=reads)
        return own

    def silent(self) -> Traced:
        """The same, recording only where a call asks for its node."""
        return Traced(self.chain, self._found, self.values, self.inventory, self._untrusted) if self.records else self

    def _twin(self, values: Mapping[str, Any], untrusted: Iterable[str]) -> Traced:
        return Traced(self.chain, self._found, values, self.inventory, untrusted, record=self.records)

    def __deepcopy__(self, memo: dict[int, Any]) -> Traced:
        twin = self._twin(copy.deepcopy(self.values, memo), self._untrusted)
        twin._parameters = copy.deepcopy(self._parameters, memo)  # an object around both may hold them, too
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> Any:
        told = (self.chain, list(self._parameters), self.inventory.terms, self.values, self._untrusted, self.records)
        return _restore, told

    def __repr__(self) -> str:
        return f"Traced({self.chain!r}, trainable={list(self._parameters)!r})"


def trace(
    chain: Any,
    trainable: str | Sequence[str] | None = None,
    *,
    uses: Sequence[Callable[..., Any]] | Mapping[str, Callable[..., Any]] = (),
    trust: str = "sandbox",
    timeout_s: float = 5.0,
    sandbox: str | None = None,
    record: bool = False,
) -> Traced:
    """Make a chain's parts changeable and its calls recordable.

    Args:
        chain: Any Runnable; never changed. Traced chains in it count as their plain ones.
        trainable: Kinds ("prompt", "examples", "code", "tool", "partial"), names or globs over names; default all
            kinds but "partial". Nothing else is touched.
        uses: Host functions that learned code may call, as callables or name -> callable.
        trust: "sandbox", or "in-process" to run learned code here with all that the function's module reaches.
        timeout_s: Wall-clock limit of one call of learned code in the sandbox.
        sandbox: "auto", "strict", "bwrap" or "monty". Default: what the optimization says, else "auto".
        record: Whether every call is recorded, for `last_trace`; one call is kept at a time.

    Raises:
        AdapterError: If `chain` is no Runnable, or has nothing to train.
        SettingError: If `trainable` names nothing, or what cannot be trained; the message says why.
    """
    if not isinstance(chain, Runnable):
        raise AdapterError(f"Expected a LangChain Runnable, got {chain!r}.")
    chain = rebuilt(chain, lambda original, new: original.plain() if isinstance(original, Traced) else new)
    inventory = finding.take_inventory(chain, Terms(uses, trust, timeout_s, sandbox))
    return Traced(chain, finding.select(inventory, trainable), None, inventory, record=record)


def _restore(
    chain: Any, keys: Sequence[str], terms: Terms, values: Mapping[str, Any], untrusted: Iterable[str], record: bool
) -> Traced:
    inventory = finding.take_inventory(chain, terms)
    found = [one for one in inventory.found if one.key in keys]
    return Traced(chain, found, values, inventory, untrusted, record=record)
