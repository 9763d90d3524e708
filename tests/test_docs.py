"""The examples in the documentation run."""

from __future__ import annotations

import itertools
import linecache
import re
from pathlib import Path
from typing import Any

import pytest

import trace_adapters as ta
from trace_adapters.lm import convert

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def run(page: Path, names: dict[str, Any], *, section: str = "") -> dict[str, Any]:
    """Run all blocks of a page, or of one section, in order, as one program; what it knows afterwards."""
    text = page.read_text(encoding="utf-8")
    names = {"__name__": f"docs_{page.stem.replace('-', '_')}", **names}
    start = text.index(f"\n## {section}\n") if section else 0
    end = text.find("\n## ", start + 1) if section else len(text)
    blocks = [b for b in re.finditer(r"```python\n(.*?)```", text, re.DOTALL) if start <= b.start() < end]
    assert blocks
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        source = "\n" * line + block[1]  # so that a traceback names the line of the page
        filename = f"{page}:{line}"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), names)
    return names


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """`answers(key=value)`: models that a page names propose these values if asked; files go where nobody minds."""
    monkeypatch.chdir(tmp_path)

    def make(**values):
        def propose(messages):
            asked = {key: value for key, value in values.items() if f'name="{key}"' in str(messages)}
            return "".join(f'<value name="{key}">\n{value}\n</value>\n' for key, value in asked.items())

        for holder in (ta, convert):
            monkeypatch.setattr(holder, "LM", lambda *_, **__: ta.ScriptedLM(propose))

    return make


@pytest.mark.parametrize("name", ["tracing.md", "from-trace.md"])
def test_examples_run(name):
    """All blocks of a page in order, as one program."""
    run(DOCS / name, {})


def test_the_readmes_plain_program_learns(answers):
    """It crashes on what the client says; the learned function reads it. Then step by step."""

    def add(prompt):
        assert type(prompt) is str
        return f"It is {sum(map(int, re.findall('[0-9]+', prompt)))}"

    answers(read="def read(self, response):\n    return response.split()[-1]", x=60)
    known = run(ROOT / "README.md", {"my_client": add}, section="Plain Python")
    assert known["result"].best.score == 1.0
    assert known["result"].program("1 + 2").data == "3"
    assert known["Agent"]().values()["read"].endswith('return response.split("Answer:")[1]\n')
    assert known["x"].data == 60


def test_the_textual_gradients_program_learns(monkeypatch):
    """Both prompts change, after five calls: three about the calls and two for the prompts."""

    def reply(messages):
        system = str(messages[0]["content"])
        name = system.partition("Reply in exactly")[2].partition('name="')[2].partition('"')[0]
        return f'<value name="{name}">Be warm.</value>' if name else "Be warmer."

    lm = ta.ScriptedLM(reply)
    monkeypatch.setattr(ta, "LM", lambda *_, **__: lm)
    known = run(DOCS / "textual-gradients.md", {})
    assert (known["draft"].data, known["polish"].data) == ("Be warm.", "Be warm.")
    assert len(lm.calls) == 3 + 2


@pytest.mark.parametrize(
    ("page", "section", "learned"), [("README.md", "DSPy", "better"), ("docs/dspy.md", "", "again")]
)
def test_the_dspy_programs_learn(answers, page, section, learned):
    """The same program on two pages; what was saved there can be loaded."""
    dspy = pytest.importorskip("dspy")
    from dspy.utils import DummyLM

    import trace_adapters_dspy as tad

    answers(extract_answer="def extract_answer(question, response):\n    return response.split()[-1]")
    reply = {"reasoning": "It is so.", "response": "It is 7"}
    questions = [(f"{n} + {7 - n}", "7") for n in range(20)]
    with dspy.context(lm=DummyLM([reply] * 1000)):
        known = run(ROOT / page, {"my_questions": questions}, section=section)
        assert known[learned](question="3 + 4").answer == "7"
    saved = next(path for path in Path.cwd().glob("*.json") if path.name in ("qa.json", "best.json"))
    again = tad.load(known["QA"](), saved, allow_code=True)
    assert "split()[-1]" in again.extract_answer.source


@pytest.mark.parametrize(("page", "section"), [("README.md", "TextGrad"), ("docs/textgrad.md", "")])
def test_the_textgrad_programs_learn(page, section):
    """The same program on two pages: a prompt and a function, learned in one step."""
    pytest.importorskip("trace_adapters_textgrad.shims")
    import trace_adapters_textgrad as tat

    better = "def extract_answer(response):\n    return response.split()[-1]"

    versions = itertools.count(1)

    def answer(messages):
        if "You improve a program" in str(messages[0]):
            given = {"system_prompt": f"Count aloud, version {next(versions)}.", "extract_answer": better}
            asked = {name: value for name, value in given.items() if f'name="{name}"' in str(messages[1])}
            return "".join(f'<value name="{name}">\n{value}\n</value>\n' for name, value in asked.items())
        return "It is 3"

    engine = tat.as_engine(ta.ScriptedLM(answer))
    known = run(ROOT / page, {"engine": engine}, section=section)
    assert known["prompt"].value.startswith("Count aloud, version ")
    assert known["extract"](known["model"](known["question"])).value == "3"


@pytest.mark.parametrize(("page", "section"), [("README.md", "LangChain"), ("docs/langchain.md", "")])
def test_the_langchain_chains_learn(answers, capsys, page, section):
    """The same chain on two pages; the result is a plain chain."""
    pytest.importorskip("langchain_core")
    from langchain_core.language_models import FakeListChatModel

    answers(extract_answer="def extract_answer(response):\n    return response.split()[-1]")
    questions = [(f"{n} + {7 - n}", "7") for n in range(20)]
    known = run(
        ROOT / page, {"my_model": FakeListChatModel(responses=["It is 7"]), "my_questions": questions}, section=section
    )
    assert "result" not in known or known["result"].base_score == 0.0
    assert known["better"].invoke({"question": "3 + 4"}) == "7"
    assert {type(step).__module__.partition(".")[0] for step in known["better"].steps} == {"langchain_core"}


def test_pages_name_only_what_is_there():
    """Links lead to files."""
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([\w./-]+\.md)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
