"""The benchmark counts what the formulas say."""

from __future__ import annotations

import pytest

benchmark = pytest.importorskip("benchmarks.textgrad")


@pytest.mark.parametrize(("method", "calls"), [("textgrad", 14), ("tat.TGD", 1), ("ta.TextGrad", 14)])
def test_the_calls_of_an_update(method: str, calls: int) -> None:
    """A chain of 2 on 3 questions: 2LB + L = 14 for textual gradients, 1 for the drop-in; every prompt changes."""
    row = benchmark.measure(2, 3, method, latency_s=0.0, max_prompt_tokens=16_000)
    assert row.calls == calls
    assert f"| 2 | 3 | {method} | {calls} |" in benchmark.report([row], 0.0, 16_000)


def test_a_prompt_keeps_to_the_budget() -> None:
    assert benchmark.measure(1, 16, "tat.TGD", latency_s=0.0, max_prompt_tokens=2_000).longest <= 2_000
