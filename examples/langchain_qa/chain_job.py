"""What `trace-adapters optimize examples/langchain_qa/chain_job.py` optimizes: a chain's prompts and parser."""

from __future__ import annotations

from typing import Any

from langchain_core.caches import InMemoryCache

import trace_adapters as ta
import trace_adapters_langchain as tal
from examples.langchain_qa.chain import make_chain
from examples.langchain_qa.data import load
from examples.langchain_qa.metric import exact_match

TRAINABLE = ["*prompt.system", "prompt.examples", "extract_answer"]
MAX_TOKENS = 120
TIMEOUT_S = 120.0
OBJECTIVE = (
    "The chain answers questions of one kind with a small language model. Change the parameters so that its output "
    "equals the expected answer to the letter."
)


def build(lm: ta.LM, data: str | None = None, task: str = "object_counting", seed: int = 0) -> dict[str, Any]:
    """The chain, its data and its metric.

    Args:
        lm: The chain's model.
        data: Path or URL of a BIG-Bench Hard or GSM8K file; without it, questions are generated.
        task: A kind of generated questions; see `examples.tasks`.
        seed: Of the generator; a file keeps its order.
    """
    split = load(data or task, seed)
    # With a cache, a candidate that differs in the parser only costs no model call.
    model = tal.chat_model(lm, temperature=0.0, max_tokens=MAX_TOKENS, cache=InMemoryCache())
    return {
        "program": tal.wrap(make_chain(model), trainable=TRAINABLE, timeout_s=TIMEOUT_S, demonstrations=True),
        "trainset": split.train,
        "valset": split.val,
        "testset": split.test,
        "metric": exact_match,
        "objective": OBJECTIVE,
        "save": lambda chain, directory: tal.trace(chain).export(str(directory / "chain.py")),
        "facts": {"task": split.task, "majority": split.majority, "answers": split.answers},
    }
