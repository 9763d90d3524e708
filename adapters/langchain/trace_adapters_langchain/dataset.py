"""Examples in the forms in which LangChain users have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trace_adapters import DataError, SettingError

_ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]+")
_REFERENCES = ("outputs", "reference_outputs")


@dataclass(frozen=True)
class Row:
    """One example, taken apart.

    Attributes:
        example: As the user gave it.
        inputs: What the chain is invoked with.
        outputs: What the example says beside the inputs: the reference.
        name: Its id, if it has one.
        fields: The example's inputs by name, as evaluators see them; None if they are `inputs`.
    """

    example: Any
    inputs: Any
    outputs: dict[str, Any]
    name: str | None
    fields: dict[str, Any] | None = None

    @property
    def attachments(self) -> dict[str, Any]:
        """Name -> what is attached to the example, as LangSmith has it."""
        if isinstance(self.example, Mapping):
            return dict(self.example.get("attachments") or {})
        return dict(getattr(self.example, "attachments", None) or {})

    @property
    def named_inputs(self) -> dict[str, Any]:
        """The example's inputs by name."""
        return dict(self.fields) if self.fields is not None else as_mapping(self.inputs, "input")

    @property
    def expected(self) -> str:
        """The reference in words."""
        return ", ".join(f"{key} = {value!r}" for key, value in self.outputs.items())


@dataclass(frozen=True)
class Wanted:
    """What a chain is invoked with.

    Attributes:
        names: Fields that a mapping must have and may have; None if nobody knows.
        required: Those without which the chain cannot run.
        field: The one field whose value itself is the input, for chains that take no mapping.
        why: Why nobody knows, in words.
    """

    names: tuple[str, ...] | None
    required: tuple[str, ...] = ()
    field: str | None = None
    why: str = ""


def list_rows(dataset: Any, name: str) -> list[Any]:
    """The examples of a dataset: a sequence, a page of examples from a server, or a data frame.

    Raises:
        DataError: If it is none of these, or empty.
    """
    if hasattr(dataset, "columns") and callable(getattr(dataset, "to_dict", None)):
        rows = _records(dataset)
    elif isinstance(dataset, Iterable) and not isinstance(dataset, str | bytes | Mapping):
        rows = list(dataset)
    else:
        raise DataError(
            f"{name} must be a list of dicts, or of examples with inputs and outputs, or a frame, got {dataset!r:.60}."
        )
    if not rows:
        raise DataError(f"{name} is empty; give at least one example.")
    return rows


def wanted_inputs(chain: Any, inputs: str | Sequence[str] | None = None) -> Wanted:
    """What a chain takes, from what the user says, else from its own input schema.

    Args:
        chain: A runnable.
        inputs: One field whose value is the input, or the fields of the mapping that is.
    """
    if isinstance(inputs, str):
        return Wanted((inputs,), (inputs,), inputs)
    if inputs is not None:
        return Wanted(tuple(inputs), tuple(inputs))
    if any(cls.__module__.partition(".")[0] == "langgraph" for cls in type(chain).__mro__):
        return Wanted(None, why="a graph's state holds its outputs, too")
    try:
        schema = chain.get_input_jsonschema()
    except Exception as error:  # types that have no JSON schema
        return Wanted(None, why=f"its input has no schema ({type(error).__name__})")
    schema = _resolved(schema)
    properties = schema.get("properties")
    if schema.get("type") != "object" or not properties:
        return Wanted(None, why=f"its input is of type {schema.get('type') or 'any'}")
    return Wanted(tuple(properties), tuple(name for name in schema.get("required", ()) if name in properties))


def read_row(example: Any, wanted: Wanted, position: int | None = None) -> Row:
    """Take an example apart: what the chain gets, and what only the metric sees.

    Raises:
        DataError: If it is no example, or lacks what the chain takes.
        SettingError: If nobody knows which of its fields the chain takes.
    """
    which = "An example" if position is None else f"Example {position + 1}"
    if not isinstance(example, Mapping):
        inputs = getattr(example, "inputs", None)
        if not isinstance(inputs, Mapping):
            raise DataError(
                f"{which} must be a dict, or have inputs and outputs; got {example!r:.100}. "
                "For a list of pairs write [{'question': q, 'answer': a} for q, a in pairs]."
            )
        outputs = getattr(example, "outputs", None) or {}
        return _row(example, inputs, outputs, getattr(example, "id", None), wanted, which)
    split = next((key for key in _REFERENCES if key in example), None)
    if isinstance(example.get("inputs"), Mapping) and "inputs" not in (wanted.names or ()):
        outputs = example.get(split) if split else {}
        outputs = outputs if isinstance(outputs, Mapping) else {"output": outputs}
        return _row(example, example["inputs"], outputs, example.get("id"), wanted, which)
    if wanted.names is None:
        raise SettingError(
            f"Cannot tell which of {', '.join(map(str, example))} the chain takes: {wanted.why}. Say it: "
            "inputs=['question'] for a dict with that field, inputs='question' for the value alone; or give examples "
            "of the form {'inputs': {...}, 'outputs': {...}}."
        )
    given = {key: example[key] for key in wanted.names if key in example}
    outputs = {key: value for key, value in example.items() if key not in given and key != "id"}
    return _row(example, given, outputs, example.get("id"), wanted, which)


def as_mapping(value: Any, name: str) -> dict[str, Any]:
    """A value in the form in which evaluators expect inputs and outputs."""
    return dict(value) if isinstance(value, Mapping) else {name: value}


def shown(value: Any) -> str:
    """A value as JSON, messages and other objects as their `repr`; the same in every process."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=lambda one: _ADDRESS.sub("0x…", repr(one)))


def _row(
    example: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], name: Any, wanted: Wanted, which: str
) -> Row:
    missing = [key for key in wanted.required if key not in inputs]
    if missing:
        raise DataError(
            f"{which} lacks {', '.join(map(repr, missing))}, which the chain takes; it has "
            f"{', '.join(map(repr, [*inputs, *outputs])) or 'nothing'}. Rename its fields, or say inputs=[...]."
        )
    chosen = inputs[wanted.field] if wanted.field is not None else dict(inputs)
    return Row(example, chosen, dict(outputs), None if name is None else str(name), dict(inputs))


def _records(frame: Any) -> list[Any]:
    if callable(getattr(frame, "to_dicts", None)):  # polars
        return list(frame.to_dicts())
    return list(frame.to_dict(orient="records"))


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        found: Mapping[str, Any] = schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
        return found
    return schema
