"""A chain that learns, as one would write it in a notebook: python -m examples.langchain_qa.short"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

import trace_adapters as ta
import trace_adapters_langchain as tal
from examples.langchain_qa.data import load
from examples.langchain_qa.metric import exact_match


def extract_answer(response):
    """Read the answer, a number in digits, out of the model's response. This must never raise."""
    return response.split("Answer:")[1].strip()


def main(lm=None, store="sqlite:///study.db"):
    lm = lm or ta.LM("local")
    rows = load("object_counting")
    model = tal.chat_model(lm, temperature=0.0, max_tokens=60)
    prompt = ChatPromptTemplate.from_messages([("system", "Answer the question."), ("human", "{question}")])
    chain = prompt | model | StrOutputParser() | extract_answer

    better, result = tal.optimize(
        chain, rows.train, exact_match, valset=rows.val, trainable=["prompt.system", "code"],
        lm=lm, store=store, max_steps=3, budget=60, return_result=True,
    )  # fmt: skip

    print(f"on {len(rows.val)} questions: before {result.base_score:.2f}, after {result.best.score:.2f}")
    study = result.study
    for name, change in study.diff(study.base_key, study.add_candidate(result.best.candidate)).items():
        print(name, change, sep="\n")
    return better, result


if __name__ == "__main__":
    main()
