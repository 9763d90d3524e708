"""What optimize() promises."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import trace_adapters as ta
from trace_adapters.errors import DataError, MetricError, ModelError, SettingError, StoreError
from trace_adapters.optimizers.base import Proposal

EXAMPLES = [{"q": f"{n}+{n}", "answer": str(2 * n)} for n in range(12)]


class Program(ta.Module):
    """Answers additions; starts with a reader that crashes."""

    def __init__(self):
        self.template = ta.node("Sum: {q}", name="template", trainable=True)

    @ta.bundle(trainable=True, trust="in-process")
    def read(self, response):
        return response.split("Answer:")[1]

    @ta.bundle("Ask the model.")
    def ask(self, template, q):
        left, right = q.split("+")
        return f"the sum is {int(left) + int(right)}" if template.startswith("Sum") else "no idea"

    def forward(self, q):
        return self.read(self.ask(self.template, q))


GOOD = "def read(self, response):\n    return response.split()[-1]"
BAD = "def read(self, response):\n    return response.split()[99]"


class Script:
    """An optimizer that makes the given changes in turn."""

    name = "script"

    def __init__(self, *changes):
        self.changes, self.seen, self.told, self.seeds = changes, [], [], []

    def suggest(self, traces, *, n=1, base=None, seed=0):
        self.seen.append(list(traces))
        self.seeds.append(seed)
        change = self.changes[min(len(self.told), len(self.changes) - 1)]
        if isinstance(change, str):
            return [Proposal(None, self.name, rejected=change)]
        return [Proposal({**base, **change}, self.name)]

    def observe(self, traces):
        pass

    def tell(self, outcome):
        self.told.append(outcome)


def exact(example, output):
    return ta.Feedback(float(output == example["answer"]), f"expected {example['answer']}")


def run(tmp_path, *changes, **options):
    script = Script(*changes)
    settings = {"budget": 200, "study": "s", "progress": False, "max_steps": 4, **options}
    store = f"sqlite:///{tmp_path}/study.db"
    return script, ta.optimize(
        Program(), EXAMPLES[:8], exact, valset=EXAMPLES[8:], optimizer=script, store=store, **settings
    )


def test_a_crashing_program_is_repaired_and_the_input_is_untouched(tmp_path):
    """The bad candidate is tried and dropped, the good one kept; the user's object stays as it was."""
    program = Program()
    script = Script({"read": BAD}, "the reply had no value", {"read": GOOD})
    result = ta.optimize(
        program, EXAMPLES[:8], exact, valset=EXAMPLES[8:], optimizer=script, budget=200, study="s",
        store=f"sqlite:///{tmp_path}/study.db", progress=False,
    )  # fmt: skip
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert result.best.candidate["read"] == GOOD
    assert result.program(q="2+2").data == "4"
    with pytest.raises(ta.ExecutionError):
        program("2+2")
    assert result.stopped.startswith("solved")
    assert [t.accepted for t in result.study.trials()] == [True, False, True]


def test_the_optimizer_sees_crashes_as_traces(tmp_path):
    """Each trace ends in the failed call with its line, and says what was expected."""
    script, _ = run(tmp_path, {"read": GOOD})
    graph = script.seen[0][0]
    assert graph.failure is not None
    assert "split" in graph.failure.place[1]
    assert {p.key for p in graph.parameters} == {"template", "read"}
    assert "answer" in graph.feedback.text


def test_the_optimizer_is_told_what_became_of_its_proposals(tmp_path):
    """Rejections come back with their reason, candidates with their scores, repetitions as such."""
    script, _ = run(tmp_path, "no value for read", {"read": BAD}, {"read": BAD})
    assert script.told[0].rejected == "no value for read"
    assert script.told[1].accepted is False
    assert "tried before" in script.told[2].feedback


def test_a_worse_child_never_replaces_the_incumbent(tmp_path):
    """The best candidate stays through later bad steps."""
    _, result = run(tmp_path, {"read": GOOD, "template": "Sum {q}"}, {"template": "Hm {q}"}, {"read": BAD})
    assert result.best.score == 1.0
    assert result.study.best.score == 1.0


def test_the_budget_is_hard(tmp_path):
    """Never one metric call more than the budget, and the best so far comes back."""
    calls = []

    def counted(example, output):
        calls.append(1)
        return exact(example, output)

    script = Script({"read": GOOD}, {"template": "Hm {q}"}, {"template": "Hm, {q}"})
    result = ta.optimize(
        Program(), EXAMPLES[:8], counted, valset=EXAMPLES[8:], optimizer=script, budget=17, study="s",
        store=f"sqlite:///{tmp_path}/s.db", progress=False,
    )  # fmt: skip
    assert result.metric_calls <= 17
    assert len(calls) <= 17
    assert result.stopped.startswith("budget")
    assert result.best.score == 1.0


def test_workers_do_not_change_the_result(tmp_path):
    """The same seed gives the same trials with one thread and with eight."""
    prints = []
    for workers in (1, 8):
        (tmp_path / str(workers)).mkdir()
        _, result = run(tmp_path / str(workers), {"read": BAD}, {"read": GOOD}, workers=workers)
        prints.append(result.study.fingerprint())
    assert prints[0] == prints[1]


def test_a_finished_study_resumes_without_running_anything(tmp_path):
    """Everything is read back; the program and the optimizer are not asked."""
    run(tmp_path, {"read": BAD}, {"read": GOOD})
    script = Script("must not be asked")
    ran = []

    def never(example, output):
        ran.append(1)
        return 0.0

    result = ta.optimize(
        Program(), EXAMPLES[:8], never, valset=EXAMPLES[8:], optimizer=script, budget=200, study="s", max_steps=4,
        resume=True, store=f"sqlite:///{tmp_path}/study.db", progress=False,
    )  # fmt: skip
    assert (result.best.score, ran, script.seen) == (1.0, [], [])


def test_a_study_is_not_continued_with_other_settings(tmp_path):
    """Another seed or other examples are refused: the run would not be the same."""
    run(tmp_path, {"read": GOOD})
    with pytest.raises(StoreError, match="seed"):
        run(tmp_path, {"read": GOOD}, resume=True, seed=5)
    with pytest.raises(StoreError):
        run(tmp_path, {"read": GOOD})


def test_a_metric_that_raises_is_an_error_that_names_it(tmp_path):
    """The user's mistake is told as theirs, with the cause."""

    def broken(example, output):
        return example["nothing"]

    program = Program()
    program.read.parameter.data = GOOD
    with pytest.raises(MetricError, match="broken") as caught:
        ta.optimize(program, EXAMPLES, broken, optimizer=Script({}), store=f"sqlite:///{tmp_path}/s.db", progress=False)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_output_that_the_metric_cannot_read_is_the_fault_of_what_was_proposed(tmp_path):
    """The search goes on, and the optimizer reads why the change was not kept; an error of a server ends it."""
    down = []

    def strict(example, output):
        if down and output is None:
            raise ConnectionError("no judge")
        return exact(example, output.strip())

    odd = {"read": "def read(self, response):\n    return None\n"}
    settings = {"valset": EXAMPLES[8:], "budget": 200, "max_steps": 2, "progress": False}
    script = Script(odd, {"read": GOOD})
    result = ta.optimize(Program(), EXAMPLES[:8], strict, optimizer=script, **settings)
    assert result.best.score == 1.0
    assert (script.told[0].accepted, script.told[1].accepted) == (False, True)
    assert "'strict' raised AttributeError" in script.told[0].feedback
    down.append(True)
    with pytest.raises(MetricError, match="no judge"):
        ta.optimize(Program(), EXAMPLES[:8], strict, optimizer=Script(odd), **settings)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"budget": 0}, SettingError),
        ({"search": "annealing"}, SettingError),
        ({"workers": 0}, SettingError),
        ({"optimizer": "unknown"}, SettingError),
        ({"optimizer": "optoprime"}, SettingError),
        ({"trainset": []}, DataError),
        ({"trainset": 5}, DataError),
    ],
)
def test_settings_that_cannot_work_are_told_before_anything_is_written(tmp_path, options, error):
    """Nothing half-written is left."""
    settings = {"trainset": EXAMPLES, "optimizer": Script({}), "store": f"sqlite:///{tmp_path}/s.db", **options}
    with pytest.raises(error):
        ta.optimize(Program(), settings.pop("trainset"), exact, progress=False, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", ["trainset", "valset"])
def test_different_examples_with_one_id_are_refused(tmp_path, split):
    """An example runs once, so of two with one id the second would silently get the score of the first."""
    examples = {"trainset": EXAMPLES, "valset": EXAMPLES}
    examples[split] = [{**example, "id": n // 2} for n, example in enumerate(EXAMPLES)]
    with pytest.raises(DataError, match=f"Examples 1 and 2 of {split} differ, and both have the id '0'"):
        ta.optimize(Program(), metric=exact, optimizer=Script({}), store=f"sqlite:///{tmp_path}/s.db", **examples)
    assert not list(tmp_path.iterdir())


def test_the_same_example_may_stand_twice(tmp_path):
    """Examples that are drawn more than once keep their id; they run once."""
    examples = [{**EXAMPLES[0], "id": 7}] * 3
    store = f"sqlite:///{tmp_path}/s.db"
    result = ta.optimize(Program(), examples, exact, optimizer=Script({}), store=store, max_steps=0, progress=False)
    assert len(result.study.evaluations()) == 1


def test_a_model_that_cannot_be_reached_is_no_score(tmp_path):
    """Infrastructure is not the candidate's fault: the run stops, and can go on later."""

    class Lost(Program):
        @ta.bundle(catch_execution_error=False)
        def ask(self, template, q):
            raise ModelError("no server")

    with pytest.raises(ModelError):
        ta.optimize(Lost(), EXAMPLES, exact, optimizer=Script({}), store=f"sqlite:///{tmp_path}/s.db", progress=False)


class Together:
    """A target that runs examples of one candidate together, and notes which."""

    batches = True

    def __init__(self, lost=()):
        self.inner, self.lost, self.ran = ta.wrap(Program()), lost, []
        self.program = self.inner.program

    def run_batch(self, candidate, examples, contexts):
        self.ran.append([example["q"] for example in examples])
        runs = [context.run(self.inner.run, candidate, one) for context, one in zip(contexts, examples, strict=True)]
        return [
            ModelError("no server") if example["q"] in self.lost else run
            for example, run in zip(examples, runs, strict=True)
        ]

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_target_that_makes_batches_gets_chunks_of_workers(tmp_path):
    """The trials are those of single runs; what is known, or stands twice, is not run again."""
    trials = []
    for name, program in (("alone", Program()), ("together", Together())):
        examples = [{**example, "id": n} for n, example in enumerate([*EXAMPLES[:4], EXAMPLES[4]])]
        result = ta.optimize(
            program, [*examples, examples[0]], exact, optimizer=Script({"read": GOOD}), workers=2, progress=False,
            store=f"sqlite:///{tmp_path}/{name}.db", study="s", max_steps=1, patience=1,
        )  # fmt: skip
        trials.append([(trial.score, trial.candidate_key) for trial in result.study.trials()])
    assert trials[0] == trials[1]
    assert program.ran[:3] == [["0+0", "1+1"], ["2+2", "3+3"], ["4+4"]]
    assert max(map(len, program.ran)) == 2


def test_a_run_that_is_nobodys_fault_loses_nothing_of_its_batch(tmp_path):
    target = Together(lost={"9+9"})
    with pytest.raises(ModelError):
        ta.optimize(
            target, EXAMPLES[:8], exact, valset=EXAMPLES[8:], optimizer=Script({}), workers=4, progress=False,
            store=f"sqlite:///{tmp_path}/s.db", study="s",
        )  # fmt: skip
    with ta.Store.open(f"sqlite:///{tmp_path}/s.db").load_study("s") as kept:
        assert sorted(one.example_id for one in kept.evaluations()) == ["0", "2", "3"]
    assert target.ran == [["8+8", "9+9", "10+10", "11+11"]]


KILLED = """
    import sys, time
    sys.path.insert(0, {here!r})
    import test_optimization as t
    import trace_adapters as ta

    class Slow(t.Program):
        def forward(self, q):
            with open({log!r}, "a") as log:
                log.write(self.read.parameter.data.strip()[-6:] + q + "\\n")
            time.sleep({pause})
            return super().forward(q)

    result = ta.optimize(
        Slow(), t.EXAMPLES[:8], t.exact, valset=t.EXAMPLES[8:],
        optimizer=t.Script({{"read": t.BAD}}, {{"read": t.GOOD}}),
        budget=200, study="s", store={store!r}, resume=True, progress=False, max_steps=4,
    )
    print(result.study.fingerprint())
"""


def test_a_killed_run_resumes_where_it_was(tmp_path):
    """kill -9 in the middle: no finished run is repeated, and the trials equal those of an undisturbed run."""

    def script(name, pause):
        log, store = str(tmp_path / f"{name}.log"), f"sqlite:///{tmp_path}/{name}.db"
        here = str(Path(__file__).parent)
        return [sys.executable, "-c", textwrap.dedent(KILLED.format(here=here, log=log, store=store, pause=pause))]

    whole = subprocess.run(script("whole", 0), capture_output=True, text=True, check=True)
    process = subprocess.Popen(script("killed", 0.2), start_new_session=True)
    log = tmp_path / "killed.log"
    deadline = time.monotonic() + 60
    while (not log.exists() or len(log.read_text().splitlines()) < 7) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = log.read_text().splitlines()
    resumed = subprocess.run(script("killed", 0), capture_output=True, text=True, check=True)
    assert json.loads(resumed.stdout) == json.loads(whole.stdout)
    ran = log.read_text().splitlines()
    # the one run that was under way when the process died was not finished, and is the only one to be run again
    assert len(ran) <= len((tmp_path / "whole.log").read_text().splitlines()) + 1
    assert before == ran[: len(before)]
