"""The command: what it prints, what it refuses, and with which exit code it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from trace_adapters.cli import main
from trace_adapters.cli.printing import Page
from trace_adapters.errors import StoreError
from trace_adapters.lm import CallRecord, Usage
from trace_adapters.study import ProposalRecord, Store
from trace_adapters.study.schema import SCHEMA_VERSION
from trace_adapters.testing.openai_server import ChatRequest, Failure, OpenAIServer

ROOT = Path(__file__).resolve().parent.parent
JOB = """
import trace_adapters as ta

class Sums(ta.Module):
    def __init__(self, lm):
        self.lm = lm
        self.template = ta.node("What is {q}?", name="template", trainable=True)

    @ta.bundle("Ask the model.")
    def ask(self, template, q):
        return self.lm(template.replace("{q}", q))[0].text

    def forward(self, q):
        return self.ask(self.template, q)

def metric(example, output):
    return ta.Feedback(float(output == example["answer"]), "expected " + example["answer"])

def build(lm, data="4", seed=0):
    examples = [{"q": f"{n}+{n}", "answer": str(2 * n)} for n in range(int(data) + 4)]
    train, val, test = examples[:2], examples[2:4], examples[4:]
    job = {"program": Sums(lm), "trainset": train, "valset": val, "testset": test, "metric": metric}
    save = lambda program, directory: program.save(directory / "sums.json")
    return {**job, "facts": {"task": "sums", "majority": 0.25}, "save": save}

def broken():
    return 1 / 0

def demanding(lm, task):
    return build(lm)

def empty(lm):
    return {"program": Sums(lm), "trainset": []}

def bad_metric(lm):
    def metric(example, output):
        raise KeyError("gold")
    return {**build(lm), "metric": metric}

def unreadable(lm):
    ta.bundle(trainable=True)(lambda x: x)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRACE_ADAPTERS_STORE", raising=False)
    (tmp_path / "sums.py").write_text(JOB)
    return tmp_path


def answer(request: ChatRequest) -> str:
    """Answers only those who say please; as an optimizer it finds that out."""
    text = request.messages[-1]["content"]
    if "# Question" in text:
        return "Be polite."
    if "Feedback" in text:
        return '<reasoning>Be polite.</reasoning>\n<value name="template">Please, what is {q}?</value>'
    if not text.startswith("Please"):
        return "no"
    left, _, right = text.removeprefix("Please, what is ").removesuffix("?").partition("+")
    return str(int(left) + int(right))


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(answer) as server:
        yield server


@pytest.fixture
def optimize(here: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("OPENAI_API_KEY", "k")

    def run(*words: str, target: str = "sums.py") -> int:
        model = ["--model", "stub", "--base-url", server.base_url]
        return main(["optimize", target, *model, "--study", "sums", "--no-progress", *words])

    return run


@pytest.fixture
def study_db(here: Path) -> Path:
    """A store with one study, in which everything has happened once."""
    with Store.open(here / "study.db") as store:
        space = [{"key": "prompt", "kind": "text"}, {"key": "read", "kind": "code"}]
        base = {"prompt": "Answer.\n{q}", "read": "def read(r):\n    return r[0]\n"}
        study = store.create_study("bbh", base=base, space=space, seed=3)
        better = study.add_candidate({**base, "prompt": "Think [bold]first[/bold].\n{q}"})
        worse = study.add_candidate({**base, "prompt": "\x1b[2J"})
        made = [
            ProposalRecord(study.base_key, better, "optoprime"),
            ProposalRecord(study.base_key, None, "optoprime", rejected="read: no def line\n[red]def[/red]"),
        ]
        study.record_step(0, made)
        study.record_trial(0, study.base_key, origin="base", score=0.2, accepted=True)
        facts = {"parents": [study.base_key], "step": 0}
        study.record_trial(1, better, origin="optoprime", score=0.8, accepted=True, **facts)
        study.record_trial(2, worse, origin="optoprime", score=float("nan"), accepted=False, **facts)
        call = CallRecord("forward", "m", [], ("x",), Usage(10, 2), 0.5, "ok", None, 0, False, 0.0)
        study.record_call(call)
    return here / "study.db"


def test_the_learned_program_is_better_on_held_out_examples(
    here: Path, optimize: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file, over a real server, to a study, a report and files."""
    assert optimize("--export", "out", "--data", "6", "--metric-calls", "50", "--result", "runs/result.json") == 0
    out = capsys.readouterr().out
    assert "held out (6 examples): before 0.000 (95 % interval 0.00 to 0.39), after 1.000" in out
    written = json.loads((here / "runs" / "result.json").read_text())
    assert (written["before"], written["after"], written["n_test"], written["task"]) == (0.0, 1.0, 6, "sums")
    assert set(written["calls"]) == set(written["tokens"]) == {"forward", "optimizer"}
    assert "validation score: before 0.000, best 1.000" in out
    assert "task: sums\nmajority: 0.250\n" in out
    assert (here / "out" / "template.txt").read_text() == "Please, what is {q}?"
    with Store.open(here / "study.db") as store:
        study = store.load_study("sums")
        assert len(study.evaluations(split="test")) == 12
        assert {totals.role for totals in study.totals()} == {"forward", "optimizer"}
        assert store.studies()[0].state == "finished"


def test_textual_gradients_are_chosen_by_name(
    here: Path, optimize: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """They ask about the calls of the program first, then for the template."""
    assert optimize("--optimizer", "textgrad", "--metric-calls", "50") == 0
    assert "best 1.000" in capsys.readouterr().out
    with Store.open(here / "study.db") as store:
        trials = store.load_study("sums").trials()
        assert [trial.origin for trial in trials][:2] == ["base", "textgrad"]


def test_fewer_held_out_examples_are_judged_on_demand(
    optimize: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """--limit-test saves runs; none is still refused."""
    assert optimize("--data", "6", "--metric-calls", "50", "--limit-test", "2") == 0
    assert "held out (2 examples)" in capsys.readouterr().out
    assert optimize("--limit-test", "0") == 2


def test_held_out_runs_have_the_sandbox_that_was_asked_for(here: Path, optimize: Callable[..., int]) -> None:
    """What is learned runs on held-out examples too, so --sandbox holds there as well."""
    (here / "noting.py").write_text(
        "from pathlib import Path\nfrom sums import *\nfrom trace_adapters.sandboxing import chosen_sandbox\n\n"
        "class Noting(Sums):\n    def forward(self, q):\n        with Path('chosen').open('a') as file:\n"
        "            file.write(chosen_sandbox() + ' ')\n        return super().forward(q)\n\n"
        "def noting(lm):\n    return {**build(lm), 'program': Noting(lm), 'save': None}\n"
    )
    assert optimize("--sandbox", "strict", "--metric-calls", "50", target="noting.py:noting") == 0
    assert set((here / "chosen").read_text().split()) == {"strict"}


def test_an_export_is_replaced_with_the_saved_program(here: Path, optimize: Callable[..., int]) -> None:
    """The second run may export to the place of the first."""
    for _ in range(2):
        assert optimize("--export", "out", "--metric-calls", "50", "--resume") == 0
    assert json.loads((here / "out" / "program" / "sums.json").read_text())["values"]


def test_a_run_resumes_without_asking_again(
    here: Path, optimize: Callable[..., int], server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert optimize("--metric-calls", "50") == 0
    asked, first = len(server.requests), capsys.readouterr().out
    assert optimize("--metric-calls", "50", "--resume") == 0
    chats = [request for request in server.requests[asked:] if request.path.endswith("completions")]
    assert chats == []
    assert capsys.readouterr().out == first
    assert optimize("--metric-calls", "50") == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.py"], "expected a Python file, found none at"),
        (["no.such.module"], "No module named 'no'"),
        (["sums.py:nothing"], "expected a function 'nothing'"),
        (["sums.py:broken"], "broken() failed: ZeroDivisionError"),
        (["sums.py"], "build() needs 'lm'; give --model"),
        (["sums.py:demanding", "--model", "m"], "demanding() needs 'task'; give --task"),
        (["sums.py:empty", "--model", "m"], "got no metric in a dict"),
        (["sums.py:broken", "--data", "x"], "broken() takes no 'data'"),
        (["sums.py:bad_metric", "--model", "m"], "The metric 'metric' raised KeyError: 'gold'"),
        (["sums.py:unreadable", "--model", "m"], "lambda"),
        (["sums.py", "--model", "m", "--metric-calls", "0"], "metric_calls must be a number above 0, got 0"),
        (["sums.py", "--model", "m", "--workers", "0"], "workers must be"),
        (["sums.py", "--model", "m", "--optimizer", "x"], "no optimizer 'x'"),
        (["sums.py", "--base-url", "http://x"], "expected --model"),
        (["sums.py:broken", "--model", "m", "--optimizer", "demos"], "nothing uses --model"),
        (["sums.py", "--model", "m", "--store", "no/study.db"], "first"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    here: Path,
    server: OpenAIServer,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    assert main(["optimize", *words, "--no-progress"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("trace-adapters: ")
    assert said.count("\n") == 1
    made = {path.name for path in here.iterdir()} - {"__pycache__", "sums.py"}
    assert all("bad_metric" in words[0] and name.startswith("study.db") for name in made)


def test_a_model_that_cannot_be_reached_is_named_before_anything_is_made(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert main(["optimize", "sums.py", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"]) == 2
    assert "http://127.0.0.1:9/v1" in capsys.readouterr().err
    assert not (here / "study.db").exists()


def test_a_server_that_keeps_failing_ends_the_run_and_the_study_goes_on_later(
    here: Path, optimize: Callable[..., int], server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = OpenAIServer(lambda request: Failure(400, "on fire"))
    with broken:
        words = ["optimize", "sums.py", "--model", "stub", "--base-url", broken.base_url, "--study", "sums"]
        assert main([*words, "--no-progress"]) == 2
    assert "on fire" in capsys.readouterr().err
    assert optimize("--resume", "--metric-calls", "50") == 0
    assert "best 1.000" in capsys.readouterr().out


def test_debug_shows_where_an_error_came_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "sums.py:broken", "--debug"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError" in said


def test_ctrl_c_keeps_what_was_done_and_exits_130(here: Path) -> None:
    """A second run goes on where the first was stopped."""
    (here / "slow.py").write_text(
        textwrap.dedent(
            """
            import sys, time
            import trace_adapters as ta

            class Slow(ta.Module):
                def __init__(self):
                    self.k = ta.node(1, name="k", trainable=True)
                @ta.bundle("Wait.")
                def wait(self, k, q):
                    if q == 3:
                        print("waiting", flush=True)
                        time.sleep(3)
                    return k
                def forward(self, q):
                    return self.wait(self.k, q)

            def build():
                reply = ta.ScriptedLM(lambda messages: "no change")
                examples = [{"q": n} for n in range(4)]
                return {"program": Slow(), "trainset": examples, "metric": lambda e, o: 0.5, "lm": reply}
            """
        )
    )
    script = "import sys; from trace_adapters.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "optimize", "slow.py", "--export", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell that started the tests in the background has them, and all they start, ignore Ctrl-C.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=here, env=environment, preexec_fn=heeding, **pipes)
    while "waiting" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "--resume" in out
    assert "Traceback" not in err
    with Store.open(here / "study.db") as store:
        assert store.studies()[0].state in ("new", "interrupted")
        assert len(store.load_study("Slow-1").evaluations()) >= 3
    assert {path.name for path in here.iterdir()} - {"__pycache__"} == {"sums.py", "slow.py", "study.db", "out"}


def test_studies_are_listed(study_db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studies"]) == main(["studies", str(study_db)]) == main(["studies", "--store", str(study_db)]) == 0
    assert main(["studies", str(study_db), "--store", str(study_db)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["study", "state", "trials", "best", "created"]
    assert lines[1].split()[:4] == ["bbh", "interrupted", "3", "0.800"]


def test_the_store_of_the_environment_is_used(
    study_db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study_db.rename(tmp_path / "other.db")
    monkeypatch.setenv("TRACE_ADAPTERS_STORE", "sqlite:///other.db")
    assert main(["show", "bbh"]) == 0
    assert "bbh" in capsys.readouterr().out


def test_show_tells_the_whole_story(study_db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    out = capsys.readouterr().out
    assert "best: trial 1, score 0.800" in out
    assert "trial 1 (optoprime, from trial 0): prompt\n" in out
    assert "-Answer.\n+Think [bold]first[/bold].\n {q}\n" in out
    assert "trial 2 (" not in out
    assert "read: no def line [red]def[/red]" in out
    calls = [line.split() for line in out.splitlines() if line.startswith("forward")]
    assert calls == [["forward", "1", "0", "0", "10", "2", "?", "0.5"]]
    assert main(["show", "--all"]) == 0
    out = capsys.readouterr().out
    assert "trial 2 (" in out
    assert "\x1b" not in out
    assert "+\\x1b[2J" in out


def test_best_prints_or_exports_the_best_candidate(study_db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["best", "bbh"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("bbh: trial 1, score 0.800")
    assert "Think [bold]first[/bold].\n{q}\n" in out
    assert main(["best", "bbh", "--export", "out"]) == 0
    assert (study_db.parent / "out" / "read.py").read_text() == "def read(r):\n    return r[0]\n"
    assert json.loads((study_db.parent / "out" / "candidate.json").read_text())["score"] == 0.8


def test_a_store_or_study_that_is_not_there_is_named_and_not_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["studies"]) == main(["show", "x"]) == main(["best", "--store", "sqlite:///other.db"]) == 2
    assert capsys.readouterr().err.count("found none at") == 3
    assert [path.name for path in here.iterdir()] == ["sums.py"]


def test_an_unknown_study_is_answered_with_those_there_are(study_db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "bhb"]) == 2
    assert "it has 'bbh'" in capsys.readouterr().err


def test_a_store_of_a_newer_version_is_refused(study_db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(study_db)) as connection, connection:
        connection.execute("UPDATE ta_schema SET version = ?", (SCHEMA_VERSION + 1,))
    assert main(["studies"]) == 2
    assert "upgrade trace-adapters" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["bogus"], ["optimize"], ["show", "--bogus"], ["optimize", "x", "--seed", "many"]])
def test_a_wrong_command_line_exits_2(words: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "Error" in capsys.readouterr().err


def test_help_and_version_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == main(["--help"]) == main(["optimize", "--help"]) == 0
    assert "--optimizer-model" in capsys.readouterr().out


def test_models_are_listed_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACE_ADAPTERS_HOME", str(tmp_path))
    assert main(["models"]) == main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert out.count("smollm2-135m") == 2
    assert "absent" in out
    assert main(["models", "path", "smollm2-135m"]) == 2
    assert "trace-adapters models fetch smollm2-135m" in capsys.readouterr().err
    assert main(["models", "fetch", "no-such-model"]) == 2
    assert "expected a known model" in capsys.readouterr().err


def test_a_terminal_gets_tables_and_colours_but_no_markup_of_stored_values() -> None:
    stream = io.StringIO()
    page = Page(stream, terminal=True)
    page.table(["name", "n"], [["[red]x[/red] :smile:", "1"], ["[/]", "2"]], right={"n"})
    page.diff("--- a\n+++ b\n@@ -1 +1 @@\n-[bold]old\n+\x1b[31mnew")
    text = stream.getvalue()
    assert "[red]x[/red] :smile:" in text
    assert "[/]" in text
    assert "\\x1b[31mnew" in text
    assert "\x1b[32m" in text


def test_a_job_in_a_package_may_import_its_neighbours(
    here: Path, optimize: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    package = here / "work" / "tasks"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "sums_of_package.py").write_text(JOB)
    (package / "job.py").write_text(
        "from .sums_of_package import build as make\n\ndef build(lm):\n    return make(lm)\n"
    )
    assert optimize("--metric-calls", "50", target="work/tasks/job.py:build") == 0
    assert optimize("--metric-calls", "50", "--resume", target="work.tasks.job") == 0
    assert "best 1.000" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["notes.txt", "mine"])
def test_a_place_that_cannot_take_the_export_is_refused_before_anything_is_spent(
    here: Path, server: OpenAIServer, optimize: Callable[..., int], capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (here / "notes.txt").write_text("mine")
    (here / "mine").mkdir()
    (here / "mine" / "thesis.tex").write_text("mine")
    assert optimize("--export", place) == 2
    assert place in capsys.readouterr().err
    assert server.requests == []
    assert not (here / "study.db").exists()


def test_a_directory_cannot_take_the_result(
    here: Path, server: OpenAIServer, optimize: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert optimize("--result", ".") == 2
    assert "--result" in capsys.readouterr().err
    assert server.requests == []


def test_the_result_is_written_though_the_export_fails(
    here: Path, optimize: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr("trace_adapters.study.study.export_candidate", fail)
    assert optimize("--export", "out", "--result", "result.json") == 2
    outcome = json.loads((here / "result.json").read_text())
    assert (outcome["after"], outcome["learned"]) == (1.0, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--resume"], "--study"),
        (["--sandbox", "foo"], "auto, strict or bwrap"),
        (["--usd", "nan"], "nan"),
    ],
)
def test_options_that_cannot_work_are_told_in_the_commands_own_words(
    words: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", "sums.py", *words]) == 2
    assert told in capsys.readouterr().err
