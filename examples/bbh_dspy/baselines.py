"""DSPy's own optimizers on the example's program, model and split, with a limit on program runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.teleprompt import COPRO, BootstrapFewShot

import trace_adapters as ta
from examples.bbh_dspy.data import Split, load
from examples.bbh_dspy.measure import CountedQA, RunCounter, measure
from examples.bbh_dspy.metric import is_exact

MAX_TOKENS = 300


def copro_shape(runs: int, n_examples: int) -> tuple[int, int]:
    """The (breadth, depth) with the most program runs within the limit; of equals the deeper.

    COPRO runs a program of one predictor breadth * depth * n_examples times.

    Raises:
        SettingError: If not even two candidates fit.
    """
    shapes = [(runs // (depth * n_examples), depth) for depth in (1, 2, 3)]
    fitting = [(breadth, depth) for breadth, depth in shapes if breadth >= 2]
    if not fitting:
        raise ta.SettingError(
            f"COPRO needs at least {2 * n_examples} runs for {n_examples} examples; got --runs {runs}."
        )
    return max(fitting, key=lambda shape: (shape[0] * shape[1], shape[1]))


def compile_copro(program: CountedQA, split: Split, runs: int) -> CountedQA:
    """Search the predictor's instructions on all examples but the test's, as the article's script does."""
    examples = [*split.train, *split.val]
    breadth, depth = copro_shape(runs, len(examples))
    optimizer = COPRO(metric=is_exact, breadth=breadth, depth=depth)
    settings = {"num_threads": 1, "display_progress": False}
    return optimizer.compile(program, trainset=examples, eval_kwargs=settings)


def compile_bootstrap(program: CountedQA, split: Split, runs: int) -> CountedQA:
    """Collect demonstrations from the program's own right answers, sampling anew where it misses.

    No labelled ones: the examples have a question and an answer, the predictor a prompt and a response.
    """
    examples = [*split.train, *split.val]
    optimizer = BootstrapFewShot(
        metric=is_exact,
        max_bootstrapped_demos=4,
        max_labeled_demos=0,
        max_rounds=max(1, runs // len(examples)),
    )
    return optimizer.compile(program, trainset=examples)


METHODS = {"bootstrap": compile_bootstrap, "copro": compile_copro}


def run(method: str, split: Split, runs: int, threads: int = 1, reasons: bool = True) -> dict[str, Any]:
    """Measure the program before and after one of DSPy's optimizers.

    Args:
        method: One of `METHODS`.
        split: The examples.
        runs: How often the program may run while it is optimized; the two measurements do not count.
        threads: How many test examples run side by side.
        reasons: See `QA`.

    Returns:
        What is to be written: accuracies, runs, wall time, and the error if the optimizer gave up (then the
        program is as it was).
    """
    before = measure(CountedQA(RunCounter(), reasons), split.test, threads)
    counter, error, began = RunCounter(runs), None, time.monotonic()
    program = CountedQA(counter, reasons)
    try:
        learned = METHODS[method](program, split, runs)
    except (ta.SettingError, KeyboardInterrupt):
        raise
    except Exception as failure:  # an optimizer that gives up on this program is a result
        learned, error = program, f"{type(failure).__name__}: {failure}"
    seconds = time.monotonic() - began
    spent, crashes = counter.runs, counter.crashes
    counter.limit = None
    after = measure(learned, split.test, threads)
    return {
        "method": method,
        "task": split.task,
        "reasons": reasons,
        "before": before.value,
        "after": after.value,
        "before_interval": before.interval,
        "after_interval": after.interval,
        "crashes_before": before.crashes,
        "crashes_after": after.crashes,
        "n_test": after.n,
        "majority": split.majority,
        "runs": spent,
        "runs_crashed": crashes,
        "runs_allowed": runs,
        "last_crash": counter.last_crash,
        "wall_s": round(seconds, 1),
        "error": error,
        "instructions": {name: predictor.signature.instructions for name, predictor in learned.named_predictors()},
        "demonstrations": sum(len(predictor.demos) for predictor in learned.predictors()),
    }


def for_dspy(lm: ta.LM) -> dspy.LM:
    """The same model as DSPy takes it; an embedded one runs as long as `lm` is held."""
    settings = {"temperature": 0.0, "max_tokens": MAX_TOKENS}
    return dspy.LM(f"openai/{lm.model}", api_base=lm.base_url, api_key=lm.api_key, **settings)


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.bbh_dspy.baselines", description=__doc__)
    parser.add_argument("--data", required=True, help="a generated task, or the path or URL of a BIG-Bench Hard file")
    parser.add_argument("--method", required=True, choices=sorted(METHODS))
    parser.add_argument("--model", default="local", help="local, local:NAME, or a model of the server (default: local)")
    parser.add_argument("--base-url", help="an OpenAI-compatible server; its key is taken from OPENAI_API_KEY")
    parser.add_argument("--limit-test", type=int, default=60, help="test examples (default: 60; 0: all)")
    parser.add_argument("--runs", type=int, default=150, help="program runs while optimizing (default: 150)")
    parser.add_argument("--seed", type=int, help="another draw of a generated task, another order of a file")
    parser.add_argument("--threads", type=int, default=1, help="test examples side by side (default: 1)")
    parser.add_argument("--direct", action="store_true", help="no reasoning before the response (dspy.Predict)")
    parser.add_argument("--out", type=Path, help="write the result there as JSON")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run one baseline from the command line; 2 for input that cannot be used."""
    arguments = read_arguments(words)
    try:
        split = load(arguments.data, seed=arguments.seed).limited(arguments.limit_test)
        lm = ta.LM(arguments.model, base_url=arguments.base_url)
        lm.check()
        with dspy.context(lm=for_dspy(lm)):
            reasons = not arguments.direct
            result = run(arguments.method, split, arguments.runs, arguments.threads, reasons)
            result = {"model": arguments.model, **result}
    except ta.TraceAdaptersError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report(result)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"written to {arguments.out}")
    return 0


def report(result: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"{result['method']} on {result['task']} with {result['model']}")
    print(f"test examples   {result['n_test']}, majority class {result['majority']:.3f}")
    for when in ("before", "after"):
        low, high = result[f"{when}_interval"]
        print(f"{when:<15} {result[when]:.3f}  [{low:.3f}, {high:.3f}], {result[f'crashes_{when}']} crashes")
    print(f"program runs    {result['runs']} of {result['runs_allowed']} ({result['runs_crashed']} crashed)")
    print(f"seconds         {result['wall_s']}")
    if result["error"]:
        print(f"the optimizer gave up: {result['error']}")


if __name__ == "__main__":
    sys.exit(main())
