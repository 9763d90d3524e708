"""What `trace-adapters optimize examples/langchain_qa/agent_job.py` optimizes: an agent and its tools."""

from __future__ import annotations

from typing import Any

from langchain_core.caches import InMemoryCache

import trace_adapters as ta
import trace_adapters_langchain as tal
from examples.langchain_qa.agent import MAX_STEPS, make_agent
from examples.langchain_qa.metric import exact_match
from examples.langchain_qa.shop import generate

N_TRAIN, N_VAL, N_TEST = 12, 8, 30
MAX_TOKENS = 40
TIMEOUT_S = 120.0
OBJECTIVE = (
    "An agent with a small language model answers questions about a shop; it must look each answer up with the tool "
    "that has it, never guess. Change the parameters so that its output equals the expected number to the letter."
)


def build(lm: ta.LM, seed: int = 0) -> dict[str, Any]:
    """The agent, its questions and its metric.

    Args:
        lm: The agent's model; it writes a tool call as such, or as JSON into its text.
        seed: Of the questions.
    """
    rows = generate(N_TRAIN + N_VAL + N_TEST, seed)
    model = tal.chat_model(lm, temperature=0.0, max_tokens=MAX_TOKENS, cache=InMemoryCache())
    agent, learns = make_agent(model)
    return {
        "program": tal.wrap(
            agent,
            trainable=["read_number", learns],
            inputs=["question"],
            config={"recursion_limit": MAX_STEPS},
            timeout_s=TIMEOUT_S,
        ),
        "trainset": rows[:N_TRAIN],
        "valset": rows[N_TRAIN : N_TRAIN + N_VAL],
        "testset": rows[N_TRAIN + N_VAL :],
        "metric": exact_match,
        "objective": OBJECTIVE,
        "facts": {"task": "shop", "answers": "a whole number in digits, such as 12"},
    }
