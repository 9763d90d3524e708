"""A chain as people write it: a branch, two prompts, few-shot examples, a model, a fragile parser."""

from __future__ import annotations

from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, FewShotChatMessagePromptTemplate
from langchain_core.runnables import RunnableBranch, RunnableLambda

EXAMPLES = [
    {
        "question": "I have a spoon and two forks. How many pieces of cutlery do I have?",
        "response": "A spoon makes 1, two forks make 2. 1 + 2 = 3. That makes 3.",
    }
]


def has_options(row: dict[str, str]) -> bool:
    """Whether the question lists options to choose from."""
    return "Options:" in row["question"]


def extract_answer(response: str) -> str:
    """Read the answer out of the model's response.

    Returns the answer alone, in exactly the form that is expected: for example a number like 8, Yes or No, or the
    letter of an option in parentheses like (A). The response is free text, which often counts or reasons
    first and names the answer at its end; this must never raise.
    """
    return response.split("Answer:")[1].strip()


def make_chain(model: Any) -> Any:
    """Question -> answer.

    Args:
        model: A LangChain chat model.
    """
    example = ChatPromptTemplate.from_messages([("human", "{question}"), ("ai", "{response}")])
    examples = FewShotChatMessagePromptTemplate(examples=EXAMPLES, example_prompt=example)
    solve = ChatPromptTemplate.from_messages([("system", "Answer the question."), examples, ("human", "{question}")])
    choose = ChatPromptTemplate.from_messages([("system", "Choose one of the options."), ("human", "{question}")])
    ask = RunnableBranch((has_options, choose | model), solve | model)
    return ask | StrOutputParser() | RunnableLambda(extract_answer)
