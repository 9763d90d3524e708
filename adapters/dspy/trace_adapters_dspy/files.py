"""Learned programs as files: tolerant loading, differences, readable exports."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trace_adapters import DataError, ParameterError
from trace_adapters.extend import differences, export_candidate
from trace_adapters_dspy import attach
from trace_adapters_dspy.copies import copy_program
from trace_adapters_dspy.parameters import Function
from trace_adapters_dspy.shims import DspyParameter

logger = logging.getLogger(__name__)


def load(program: Any, path: str | os.PathLike[str], *, allow_code: bool = False, strict: bool = False) -> Any:
    """Load what `program.save("….json")` wrote; nothing in the file runs without consent.

    Args:
        program: Gets the values, all of them or, if one does not fit, none.
        path: A JSON file. Files of older versions of the program load too: parameters that the file does not
            have keep their values.
        allow_code: Allow the functions in the file to run; else calling one raises `UntrustedCode`.
        strict: Refuse a file that lacks a parameter of the program or has one that the program lacks.

    Returns:
        The program.

    Raises:
        AdapterError: If `program` is no `dspy.Module`.
        DataError: If the file is no saved program.
        ParameterError: If a value does not fit, or, with `strict`, the parameters are not the same.
    """
    attach.declared(program)  # raises if it is no program
    state = _read_state(path, bare=isinstance(program, DspyParameter))
    names = [name for name, _ in program.named_parameters()]
    missing, extra = [n for n in names if n not in state], [n for n in state if n not in names]
    if strict and (missing or extra):
        raise ParameterError(
            f"{str(path)!r} lacks {missing or 'nothing'} and has {extra or 'nothing'} that is unknown."
        )
    if missing or extra:
        logger.warning(
            "Loaded %s: kept %s as they are; did not know %s.", path, missing or "no parameters", extra or "none"
        )
    _load_state(copy_program(program), state, path)  # raises before the program is touched
    _load_state(program, state, path)
    if allow_code:
        for _, parameter in program.named_parameters():
            if isinstance(parameter, Function):
                parameter.trust()
    return program


def diff(old: Any, new: Any) -> str:
    """What changed between two programs of one class: a unified diff of each parameter; "" if nothing did."""
    changed = differences(attach.values(old), attach.values(new), "before", "after")
    return "\n\n".join(f"{key}\n{text}" for key, text in changed.items())


def export(program: Any, directory: str | os.PathLike[str]) -> Path:
    """Write every parameter of a program as a readable file (`.py`, `.txt`, `.json`) into a directory of its own.

    Raises:
        StoreError: If the directory holds other files, or cannot be written.
    """
    found = attach.parameters(program, attach.KINDS)
    kinds = {key: parameter.kind for key, parameter in found.items()}
    story = f"# {type(program).__name__}\n\nThe parameters of a DSPy program, learned ones included.\n"
    facts = {"program": f"{type(program).__module__}.{type(program).__qualname__}"}
    return export_candidate(directory, attach.values(program), kinds, facts, story)


def _read_state(path: str | os.PathLike[str], bare: bool) -> dict[str, Any]:
    """Name of a parameter -> its state; `bare`: the file holds that of a program that is one predictor."""
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(
            f'{str(path)!r} is no JSON file; save the program as "….json" (a pickle would run code): {error}'
        ) from error
    if isinstance(state, dict):
        state.pop("metadata", None)
        state = {"self": state} if bare else state
    if not isinstance(state, dict) or not all(isinstance(entry, Mapping) for entry in state.values()):
        raise DataError(f"{str(path)!r} is no saved program: expected a mapping from parameter to state.")
    return state


def _load_state(program: Any, state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    for name, parameter in program.named_parameters():
        if name not in state:
            continue
        try:
            parameter.load_state(state[name])
        except (KeyError, TypeError, AttributeError) as error:
            raise ParameterError(f"The state of {name!r} in {str(path)!r} does not fit: {error!r}.") from error
