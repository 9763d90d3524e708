"""How DSPy's values travel into the sandbox and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
import pydantic

from trace_adapters.extend import register_codec
from trace_adapters_dspy.observe import unpack


def register_codecs() -> None:
    """Let learned functions take and return predictions and examples, and take pydantic models.

    Code in the sandbox sees their fields, as attributes and as items. Predictions and examples come back as such, with
    the fields only; models come back as mappings, for the sandbox cannot be asked which class to make.
    """
    register_codec(dspy.Prediction, unpack, _revive(dspy.Prediction))
    register_codec(dspy.Example, unpack, _revive(dspy.Example))
    register_codec(pydantic.BaseModel, unpack, lambda fields: fields)


def _revive(kind: Any) -> Any:
    def revive(fields: Any) -> Any:
        if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
            raise ValueError(f"the fields of a {kind.__name__} must be a mapping from names, got {fields!r:.100}")
        return kind(**fields)

    return revive
