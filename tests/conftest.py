"""What every test stands on: no key, no price list and no cache of the machine's user."""

from __future__ import annotations

import atexit
import os
import tempfile

import pytest

# Read when DSPy and its model library are first imported: a cache of our own, no price list from the network.
_CACHE = tempfile.TemporaryDirectory(prefix="trace-adapters-tests-")
atexit.register(_CACHE.cleanup)
os.environ["DSPY_CACHEDIR"] = _CACHE.name
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
