"""DSPy programs keep the promises that every target keeps."""

from __future__ import annotations

from typing import Any

import dspy

import trace_adapters_dspy as tad
from trace_adapters.testing.conformance import check_target


def extract(response: str) -> str:
    """Find the answer."""
    return response.split()[-1]


class QA(dspy.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.ChainOfThought("prompt -> response")
        self.template = tad.Text("Answer: {question}")
        self.extract = tad.Function(extract)

    def forward(self, question: str) -> Any:
        response = self.predict(prompt=self.template.format(question=question)).response
        return dspy.Prediction(answer=self.extract(response))


def test_a_dspy_program_is_a_target(scripted: Any) -> None:
    """Text, code and instructions: values travel, failures teach, the program stays as it was."""
    example = dspy.Example(question="6 * 7?", answer="42").with_inputs("question")
    lm = scripted(lambda prompt: {"reasoning": "r", "response": "it is 42"})
    with dspy.context(lm=lm):
        check_target(
            tad.wrap(QA()),
            example,
            lambda gold, pred: float(gold.answer == pred.answer),
            {"template": "Calculate: {question}", "extract": "def extract(response):\n    return response.upper()"},
            {"extract": "def extract(response):\n    return [][1]"},
        )
