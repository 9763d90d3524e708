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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test has the same name in every run, so that a failing one can be called by it, from several processes too."""
    nameless = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if nameless:
        raise pytest.UsageError(f"an address is in the name of a test; give ids=: {nameless[0]}")
