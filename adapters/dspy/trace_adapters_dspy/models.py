"""A `trace_adapters` model as a `dspy.LM`."""

from __future__ import annotations

from typing import Any

import dspy

from trace_adapters import SettingError


class _Holder:
    """Keeps a model's server running as long as its `dspy.LM` lives; is left out of copies on disk."""

    def __init__(self, lm: Any) -> None:
        self.lm = lm

    def __deepcopy__(self, memo: dict[int, Any]) -> _Holder:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _Holder, (None,)


def dspy_lm(lm: Any, **options: Any) -> Any:
    """A `dspy.LM` that asks the same server as a `ta.LM`, the embedded model (`ta.LM("local")`) included.

    Args:
        lm: A model with `model`, `base_url` and `api_key`. A local server is started, and kept while the result lives.
        options: Of `dspy.LM`, e.g. `temperature`, `max_tokens`, `cache`.

    Raises:
        SettingError: If the model has no server.
        ModelUnavailable: If it cannot be started.
    """
    if not all(hasattr(type(lm), name) for name in ("base_url", "api_key")):
        raise SettingError(f"dspy_lm() takes a ta.LM, which has a server; got {lm!r}.")
    found = dspy.LM(f"openai/{lm.model}", api_base=lm.base_url, api_key=lm.api_key or "none", **options)
    found.trace_adapters_lm = _Holder(lm)
    return found
