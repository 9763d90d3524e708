"""TextGrad inside `optimize`: alone, in turns, and resumed."""

from __future__ import annotations

from typing import Any

import pytest

import trace_adapters as ta

EXAMPLES = [{"q": f"{n}+{n}", "answer": str(2 * n)} for n in range(10)]


class Program(ta.Module):
    """Answers additions when it is told to, shown examples or not; starts with a reader that crashes."""

    def __init__(self):
        self.template = ta.node("Add {q}", name="template", trainable=True)
        self.demos = ta.node([], name="demos", trainable=True, kind="demos")

    @ta.bundle(trainable=True, trust="in-process")
    def read(self, response):
        """Read the number."""
        return response.split("Answer:")[1]

    @ta.bundle
    def ask(self, template, demos, q):
        """Ask the model."""
        left, right = q.split("+")
        return f"the sum is {int(left) + int(right)}" if "please" in template else "no"

    def forward(self, q):
        return self.read(self.ask(self.template, self.demos, q))


GOOD = "def read(self, response):\n    return response.split()[-1]\n"


def exact(example, output):
    return ta.Feedback(float(output == example["answer"]), f"expected {example['answer']}")


def scripted() -> ta.ScriptedLM:
    """Repairs the reader in the second sample of a step that is asked, the template at once."""

    def reply(messages: Any, sample_index: int) -> str:
        system = str(messages[0]["content"])
        if "Reply in exactly" not in system:
            return "Ask politely, and do not crash."
        name = system.partition("Reply in exactly")[2].partition('name="')[2].partition('"')[0]
        code = GOOD if sample_index >= 2 else "def read(self, response):\n    return response[99]\n"
        return f'<value name="{name}">\n{code if name == "read" else "Please add, please: {q}"}\n</value>'

    return ta.ScriptedLM(reply)


def run(tmp_path, name="s", **options):
    settings = {"optimizer": "textgrad", "lm": scripted(), "budget": 300, "max_steps": 6, **options}
    return ta.optimize(
        Program(), EXAMPLES[:6], exact, valset=EXAMPLES[6:], study="s", store=f"sqlite:///{tmp_path}/{name}.db",
        progress=False, **settings,
    )  # fmt: skip


def test_a_crashing_program_learns_prompt_and_code(tmp_path):
    """Both parameters change together; what was said of them is kept with the proposal."""
    result = run(tmp_path)
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert result.best.candidate["read"] == GOOD
    assert result.best.candidate["demos"] == []
    (step,) = [s for s in result.study.steps() if s.proposals[0].candidate_key == result.study.best.candidate_key]
    assert "Ask politely" in step.proposals[0].reasoning
    assert result.study.totals()[0].role in ("forward", "optimizer")


def test_it_takes_turns_with_demonstrations(tmp_path):
    """The list of demonstrations is the other one's work."""
    result = run(tmp_path, optimizer=["textgrad", "demos"])
    assert result.best.score == 1.0
    origins = {trial.origin for trial in result.study.trials()}
    assert "textgrad" in origins


@pytest.mark.parametrize("cut", [14, 30, 50])
def test_a_run_that_was_cut_resumes_and_ends_as_an_undisturbed_one(tmp_path, cut):
    """Steps that are recorded are not asked again, and the rest is the same."""
    whole = run(tmp_path, "whole")
    run(tmp_path, "cut", budget=cut)
    lm = scripted()
    resumed = run(tmp_path, "cut", lm=lm, resume=True)
    assert resumed.study.fingerprint() == whole.study.fingerprint()
    assert resumed.best == whole.best


def test_a_rejected_proposal_is_kept_with_its_reason(tmp_path):
    """One reply lost the placeholder, twice; nothing of the step is tried."""

    def reply(messages: Any) -> str:
        system = str(messages[0]["content"])
        name = system.partition("Reply in exactly")[2].partition('name="')[2].partition('"')[0]
        return f'<value name="{name}">\n{GOOD if name == "read" else "Please add."}\n</value>' if name else "Mend it."

    result = run(tmp_path, lm=ta.ScriptedLM(reply), max_steps=1)
    (step,) = result.study.steps()
    (proposal,) = step.proposals
    assert proposal.candidate_key is None
    assert proposal.rejected == "template: The new text lost {q}. Keep every placeholder: {q}."
    assert proposal.reply == '<value name="template">\nPlease add.\n</value>'
    assert [trial.origin for trial in result.study.trials()] == ["base"]


def test_it_needs_a_model_and_something_to_propose(tmp_path):
    with pytest.raises(ta.SettingError, match="optimizer='textgrad' asks a language model"):
        run(tmp_path, lm=None)
    only_demos = ta.wrap(lambda q: q, parameters=[ta.node([], name="demos", trainable=True, kind="demos")])
    with pytest.raises(ta.SettingError, match="textgrad has no parameter to propose"):
        ta.optimize(
            only_demos, EXAMPLES, exact, optimizer="textgrad", lm=scripted(), store=f"sqlite:///{tmp_path}/x.db"
        )
