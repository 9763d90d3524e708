"""How much of a learned program's accuracy is repair of form: the learned parser alone, with the old prompt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import trace_adapters as ta
from examples.bbh_dspy.job import build

PARSER = ("extract_answer",)


def main(words: Sequence[str] | None = None) -> int:
    """Measure the best candidate of a study with its parser alone; 2 for input that cannot be used."""
    arguments = read_arguments(words)
    try:
        with ta.Store.open(arguments.store) as store:
            study = store.load_study(arguments.study)
            base = study.candidate(study.base_key)
            best = study.candidate(study.best.candidate_key if study.best else study.base_key)
        job = build(ta.LM(arguments.model, base_url=arguments.base_url), arguments.data, reasons=not arguments.direct)
        examples = job["testset"][: arguments.limit_test]
        right = {}
        for name, keys in {"before": (), "parser alone": PARSER, "after": tuple(best)}.items():
            candidate = {**base, **{key: best[key] for key in keys}}
            right[name] = sum(is_right(job, candidate, example) for example in examples) / len(examples)
    except ta.TraceAdaptersError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    changed = [key for key in best if best[key] != base[key]]
    outcome = {"task": job["facts"]["task"], "n_test": len(examples), "accuracy": right, "changed": changed}
    print(json.dumps(outcome, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    return 0


def is_right(job: dict, candidate: dict, example: object) -> bool:
    """Whether the program answers one example right under a candidate."""
    target = job["program"]
    run = target.run(candidate, example)
    return target.judge(job["metric"], example, run).score == 1.0


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.bbh_dspy.repair", description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--study", required=True)
    parser.add_argument("--data", help="as for the study; without it the generated task")
    parser.add_argument("--model", default="local")
    parser.add_argument("--base-url")
    parser.add_argument("--direct", action="store_true", help="no reasoning before the response (dspy.Predict)")
    parser.add_argument("--limit-test", type=int, default=60)
    parser.add_argument("--out", type=Path)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
