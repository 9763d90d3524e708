"""The program of the article's BIG-Bench Hard experiment: template, prompt, model, parser."""

from __future__ import annotations

import dspy

import trace_adapters_dspy as tad

TEMPLATE = """\
Answer the question.
---
Follow the following format.
Question: the question to be answered
Answer: the answer
---
Question: {question}
Answer:"""


def create_prompt(template, question):
    """Write the prompt for the language model from the template and the question.

    The prompt must hold the whole question. It may also say how to think and in which form to answer.
    """
    return template.format(question=question)


def extract_answer(question, response):
    """Read the answer out of the language model's response.

    Returns the answer alone, as a string, in exactly the form that is expected for this kind of question: for
    example the letter of an option in parentheses like (A), a number like 8, Yes or No, or words separated by
    spaces. The response is free text: it may hold explanations, several lines, or no "Answer:" at all; this
    must never raise.
    """
    return response.split("Answer:")[1].strip()


class QA(dspy.Module):
    """Question to answer.

    To be learned: the template, the two functions, the predictor's instructions and its demonstrations.

    Args:
        reasons: Whether the model writes its reasoning before the response, as in the article's rows with CoT.
    """

    def __init__(self, reasons: bool = True) -> None:
        super().__init__()
        self.predict = (dspy.ChainOfThought if reasons else dspy.Predict)("prompt -> response")
        self.template = tad.Text(TEMPLATE, description="Template of the prompt; {question} stands for the question.")
        self.create_prompt = tad.Function(create_prompt)
        self.extract_answer = tad.Function(extract_answer)

    def forward(self, question: str) -> dspy.Prediction:
        prompt = self.create_prompt(str(self.template), question)
        response = self.predict(prompt=prompt).response
        return dspy.Prediction(answer=self.extract_answer(question, response), response=response)
