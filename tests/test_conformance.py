"""The shipped checks pass on what we ship, and fail on what breaks a promise."""

from __future__ import annotations

import pytest

import trace_adapters as ta
from trace_adapters.optimizers.base import Proposal
from trace_adapters.testing.conformance import check_optimizer, check_target

EXAMPLE = {"q": "2+2", "answer": "4"}


class Program(ta.Module):
    def __init__(self):
        self.template = ta.node("Sum: {q}", name="template", trainable=True)

    @ta.bundle(trainable=True)
    def read(self, template, q):
        return template.format(q=q)

    def forward(self, q):
        return self.read(self.template, q)


def metric(example, output):
    return ta.Feedback(float(output == example["answer"]), "expected 4")


CHANGED = {"template": "Add: {q}"}
FAILING = {"read": "def read(self, template, q):\n    return [][1]"}


def test_plain_python_keeps_the_promises_of_a_target():
    check_target(ta.wrap(Program()), EXAMPLE, metric, CHANGED, FAILING)


def test_a_target_that_changes_the_program_is_caught():
    """A check that cannot fail would be none."""

    class Careless:
        def __init__(self):
            self.inner = ta.wrap(Program())
            self.program = self.inner.program

        def with_values(self, candidate):
            self.program.set_values(candidate)
            return Program()

        def __getattr__(self, name):
            return getattr(self.inner, name)

    with pytest.raises(AssertionError, match="not changed"):
        check_target(Careless(), EXAMPLE, metric, CHANGED, FAILING)


class Batches:
    """Plain Python, many examples at a time; `wrong` says how it breaks its promise."""

    batches = True

    def __init__(self, wrong=None):
        self.inner, self.wrong = ta.wrap(Program()), wrong
        self.program = self.inner.program

    def run_batch(self, candidate, examples, contexts):
        if self.wrong == "another candidate":
            candidate = {}
        runs = [context.run(self.inner.run, candidate, one) for context, one in zip(contexts, examples, strict=True)]
        return runs[:1] if self.wrong == "too few" else runs

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_target_that_runs_batches_is_asked_for_them():
    check_target(Batches(), EXAMPLE, metric, CHANGED, FAILING)
    with pytest.raises(AssertionError, match="what single runs give"):
        check_target(Batches("another candidate"), EXAMPLE, metric, CHANGED, FAILING)
    with pytest.raises(AssertionError, match="a run for each example"):
        check_target(Batches("too few"), EXAMPLE, metric, CHANGED, FAILING)


def traces():
    target = ta.wrap(Program())
    run = target.run(target.program.values(), EXAMPLE)
    return [ta.propagate(run.node, target.judge(metric, EXAMPLE, run))]


def test_optoprime_keeps_the_promises_of_an_optimizer():
    def make():
        replies = ['<value name="template">New: {q}</value>', "nothing", '<value name="template">Other: {q}</value>']
        return ta.OptoPrime(Program().parameters(), lm=ta.ScriptedLM(replies))

    check_optimizer(make, traces(), Program().values())


def test_an_optimizer_that_forgets_keys_is_caught():
    class Forgetful:
        name = "forgetful"

        def suggest(self, traces, *, n=1, base=None, seed=0):
            return [Proposal({"template": "x {q}"}, self.name)]

        def observe(self, traces):
            pass

        def tell(self, outcome):
            pass

    with pytest.raises(AssertionError, match="every key"):
        check_optimizer(Forgetful, traces(), Program().values())
