"""The example runs from the command line, with a scripted model that knows the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai")

import trace_adapters as ta
from examples.langchain_qa import data, shop, short
from trace_adapters.cli import main
from trace_adapters.testing.openai_server import Answer, ChatRequest, OpenAIServer

PARSER = "def extract_answer(response):\n    return response.split()[-1].rstrip('.')\n"
NUMBER = "def read_number(text):\n    import re\n    return re.findall(r'\\d+', text)[-1]\n"
TASK = data.load("object_counting")
ANSWERS = {row["question"]: row["answer"] for row in [*TASK.train, *TASK.val, *TASK.test]}


def propose(**values: str) -> str:
    return "".join(f'<value name="{key}">\n{value}\n</value>\n' for key, value in values.items())


def chat(request: ChatRequest) -> Answer:
    """Answers questions in a sentence, and proposes a parser when asked to change variables."""
    text = str(request.messages[-1]["content"])
    if "# Variables" in text:
        return propose(extract_answer=PARSER)
    return f"I count {ANSWERS[text]}."


def test_the_chain_learns_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "result.json"
    with OpenAIServer(chat) as server:
        words = f"optimize examples/langchain_qa/chain_job.py --model stub --base-url {server.base_url} --limit-test 6"
        words += f" --metric-calls 60 --max-steps 2 --no-progress --result {result} --store sqlite:///{tmp_path}/s.db"
        assert main([*words.split(), "--export", str(tmp_path / "learned")]) == 0
    found = json.loads(result.read_text(encoding="utf-8"))
    assert (found["before"], found["after"], found["n_test"]) == (0.0, 1.0, 6)
    assert found["calls"]["forward"] >= found["n_test"]
    assert "+    return response.split()[-1]" in capsys.readouterr().out
    module = (tmp_path / "learned/program/chain.py").read_text(encoding="utf-8")
    assert "split()[-1]" in module
    assert "trace_adapters" not in module.split('"""', 2)[2]  # it runs where only langchain-core is installed


def clerk(request: ChatRequest) -> Answer:
    """Takes the list whose description fits, the first one else; writes the call as JSON into its text."""
    messages = request.messages
    if "# Variables" in str(messages[-1]["content"]):
        return propose(read_number=NUMBER, list_a_description="Prices of items.", list_b_description="Stock of items.")
    question = str(messages[-1]["content"])
    item = next(name for name in shop.PRICES if name in question)
    wanted = "Stock" if "How many" in question else "Prices"
    tools = {tool["function"]["description"]: tool["function"]["name"] for tool in request.body["tools"]}
    fitting = next((name for about, name in tools.items() if wanted in about), "list_a")
    return f'{{{{"name": "{fitting}", "arguments": {{"item": "{item}"}}}}}}'


def test_the_agent_learns_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Descriptions and reader are trained together: the right list is taken, and its number read."""
    pytest.importorskip("langchain.agents")
    result = tmp_path / "result.json"
    with OpenAIServer(clerk) as server:
        words = f"optimize examples/langchain_qa/agent_job.py --model stub --base-url {server.base_url} --limit-test 4"
        words += f" --metric-calls 60 --max-steps 2 --no-progress --result {result} --store sqlite:///{tmp_path}/s.db"
        assert main(words.split()) == 0
    found = json.loads(result.read_text(encoding="utf-8"))
    assert (found["before"], found["after"], found["n_test"]) == (0.0, 1.0, 4)
    assert set(found["parameters"]) == {
        "read_number", "clerk.system", "list_a.description", "list_b.description",
    }  # fmt: skip
    told = {tool["function"]["name"]: tool["function"]["description"] for tool in server.requests[-1].body["tools"]}
    assert told == {"list_a": "Prices of items.", "list_b": "Stock of items."}


def test_the_short_script_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer(chat) as server:
        lm = ta.LM("stub", base_url=server.base_url)
        better, result = short.main(lm, f"sqlite:///{tmp_path}/s.db")
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert "before 0.00, after 1.00" in capsys.readouterr().out
    assert type(better).__module__.startswith("langchain_core")


@pytest.mark.parametrize(
    ("name", "text", "row"),
    [
        ("bbh.json", json.dumps({"examples": [{"input": f"q{n}", "target": "a"} for n in range(60)]}), ("q0", "a")),
        (
            "gsm.jsonl",
            "\n".join(json.dumps({"question": f"q{n}", "answer": "so\n#### 1,200"}) for n in range(60)),
            ("q0", "1200"),
        ),
    ],
)
def test_published_files_are_read(tmp_path: Path, name: str, text: str, row: Any) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    split = data.load(str(tmp_path / name))
    assert tuple(split.train[0].values()) == row
    assert (len(split.train), len(split.val), len(split.test)) == (15, 8, 30)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"question": "q", "answer": "no number"}', encoding="utf-8")
    with pytest.raises(ta.DataError, match=r"Line 1 of .*x\.jsonl"):
        data.load(str(tmp_path / "x.jsonl"))


def test_the_shops_answers_are_right() -> None:
    rows = shop.generate(64)
    assert len({row["question"] for row in rows}) == 64
    for row in rows:
        item = next(name for name in shop.PRICES if name in row["question"])
        known = shop.STOCK if "How many" in row["question"] else shop.PRICES
        assert row["answer"] == str(known[item])
    assert shop.generate(5) == rows[:5]
    assert shop.generate(5, seed=1) != rows[:5]


def test_the_tools_answer_in_words_when_they_cannot() -> None:
    pytest.importorskip("langchain.agents")
    from examples.langchain_qa.agent import list_a, list_b

    assert [list_a.invoke(item) for item in ("kite", " Kites ")] == ["18 dollars apiece"] * 2
    assert list_b.invoke("kite") == "40 pieces"
    assert "no 'moon'" in list_a.invoke("moon")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"name": "list_a", "arguments": {"item": "kite"}}', "list_a"),
        ('{{"name": "list_b", "arguments": {"item": "kite"}}}\n```', "list_b"),
        ('```json\n{\n  "name": "list_a", "arguments": {"item": "kite"}}\n```', "list_a"),
        ('{"name": "other", "arguments": {}}', None),
        ('{"name": "list_a", "arguments": ', None),
        ("18", None),
    ],
)
def test_tool_calls_in_a_text_are_read(text: str, name: str | None) -> None:
    pytest.importorskip("langchain.agents")
    from examples.langchain_qa.agent import read_calls

    assert [call["name"] for call in read_calls(text, {"list_a", "list_b"})] == ([name] if name else [])
