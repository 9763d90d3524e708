"""What a metric may return, and what is refused."""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import trace_adapters as ta
from trace_adapters.errors import MetricError
from trace_adapters.targets import call_metric


@pytest.mark.parametrize(
    "returned",
    [Decimal("0.5"), Fraction(1, 2), (Decimal("0.5"), ""), {"score": Fraction(1, 2)}, ta.Feedback(Decimal("0.5"))],  # type: ignore[arg-type]
)
def test_every_kind_of_number_is_a_score(returned: Any) -> None:
    feedback = call_metric(lambda example, output: returned, {}, None)
    assert (feedback.score, type(feedback.score)) == (0.5, float)
    assert ta.Feedback.of(Fraction(1, 2)) == ta.Feedback(0.5)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (math.nan, "got nan"),
        (ta.Feedback(math.nan), "got .*nan"),
        ((Decimal("NaN"), "no idea"), "got .*NaN"),
        (Decimal("sNaN"), "got .*sNaN"),
        (-math.inf, "got -inf"),
        (sys.float_info.max, "got 1.79"),  # the sum of two of them is no number
        (10**400, "got an int"),
        ((10**10_000, ""), "got a tuple"),  # Python does not print it
        (1j, "got 1j"),
    ],
)
def test_a_score_that_cannot_be_averaged_is_refused(returned: Any, told: str) -> None:
    with pytest.raises(MetricError, match=told):
        call_metric(lambda example, output: returned, {}, None)


def test_a_metric_that_puts_a_text_in_the_place_of_the_score_is_told() -> None:
    with pytest.raises(MetricError, match="takes a number, then a text, got score='good'"):
        call_metric(lambda example, output: ta.Feedback("good"), {}, None)  # type: ignore[arg-type]


def test_an_async_metric_is_named_as_such() -> None:
    async def judge(example: Any, output: Any) -> float:
        return 1.0

    with pytest.raises(MetricError, match="async"):
        call_metric(lambda example, output: judge(example, output), {}, None)
