"""Exact match, with feedback in the article's words."""

from __future__ import annotations

from typing import Any

import dspy

RIGHT = "The answer is correct. No need to change anything."
WRONG = (
    'The answer is wrong. We expect the output of your answer to be "{expected}"{form}, but it was '
    '"{given}". Please modify the prompt and relevant parts of the program to help the language model '
    "produce the right answer."
)


def exact_match(
    gold: dspy.Example,
    pred: dspy.Prediction,
    trace: Any = None,
    pred_name: str | None = None,
    pred_trace: Any = None,
) -> dspy.Prediction:
    """Score 1 if the answer equals the expected one to the letter, else 0; in GEPA's form."""
    del trace, pred_name, pred_trace  # the same judgement, whoever asks
    given = str(pred.answer)
    if given == gold.answer:
        return dspy.Prediction(score=1.0, feedback=RIGHT)
    form = f" ({gold.answer_type})" if "answer_type" in gold else ""
    return dspy.Prediction(score=0.0, feedback=WRONG.format(expected=gold.answer, form=form, given=given))


def is_exact(gold: dspy.Example, pred: dspy.Prediction, trace: Any = None) -> bool:
    """The same as a plain yes or no, for optimizers that take any object for a yes (`BootstrapFewShot`)."""
    return bool(exact_match(gold, pred, trace).score == 1.0)
