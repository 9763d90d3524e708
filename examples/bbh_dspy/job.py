"""What `trace-adapters optimize examples/bbh_dspy/job.py` optimizes: the article's program on one task."""

from __future__ import annotations

from typing import Any

import dspy

import trace_adapters as ta
import trace_adapters_dspy as tad
from examples.bbh_dspy.data import load
from examples.bbh_dspy.metric import exact_match
from examples.bbh_dspy.program import QA

MAX_TOKENS = 300
N_TEST = 60
OBJECTIVE = (
    "The program answers questions of one kind with a language model. Change the parameters so that its answer equals "
    "the expected answer to the letter."
)


def build(
    lm: ta.LM, data: str | None = None, task: str = "object_counting", seed: int = 0, reasons: bool = True
) -> dict[str, Any]:
    """The program, its data and its metric.

    Args:
        lm: The program's model.
        data: Path or URL of a BIG-Bench Hard file; without it, examples are generated.
        task: A kind of generated examples; see `examples.tasks`.
        seed: Of the generator; a file keeps its order, as in the article.
        reasons: See `QA`.
    """
    split = load(data or task, seed=None if data else seed).limited(N_TEST)
    dspy.configure(lm=tad.dspy_lm(lm, temperature=0.0, max_tokens=MAX_TOKENS))
    return {
        "program": tad.wrap(QA(reasons), train=("instructions", "code", "text", "demos")),
        "trainset": split.train,
        "valset": split.val,
        "testset": split.test,
        "metric": exact_match,
        "objective": OBJECTIVE,
        "save": lambda program, directory: program.save(str(directory / "program.json")),
        "facts": {"task": split.task, "majority": split.majority, "answers": split.answer_type},
    }


def direct(lm: ta.LM, data: str | None = None, task: str = "object_counting", seed: int = 0) -> dict[str, Any]:
    """The same without reasoning before the response: shorter replies."""
    return build(lm, data, task, seed, reasons=False)
