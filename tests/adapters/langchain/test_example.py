"""The example runs from the command line, with a scripted model that knows the answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai")

import trace_adapters as ta
from examples.langchain_qa import data, shop, short
from trace_adapters.cli import main
from trace_adapters.testing.openai_server import Answer, ChatRequest, Garbage, OpenAIServer

PARSER = "def extract_answer(response):\n    return response.split()[-1].rstrip('.')\n"
TOTAL = "def read_total(text):\n    import re\n    return re.findall(r'\\d+', text)[-1]\n"
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
    assert "split()[-1]" in "".join(path.read_text() for path in (tmp_path / "learned").rglob("*.py"))


def clerk(request: ChatRequest) -> Answer:
    """Looks the prices up, computes, answers in a sentence; proposes a better reader."""
    messages = request.messages
    if "# Variables" in str(messages[-1]["content"]):
        return propose(read_total=TOTAL, clerk_system="Use the tools.", price_description="The price of one item.")
    question = next(message["content"] for message in messages if message["role"] == "user")
    (one, item), (more, other) = re.findall(r"(\d+) (\w+?)s\b", question)
    results = [message["content"] for message in messages if message["role"] == "tool"]
    if not results:
        return call_tools(("price", {"item": item}), ("price", {"item": other}))
    if len(results) == 2:
        return call_tools(("calculate", {"expression": f"{one} * {results[0]} + {more} * {results[1]}"}))
    return f"That is {results[-1]} dollars."


def call_tools(*calls: tuple[str, dict[str, str]]) -> Garbage:
    described = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": described}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return Garbage(json.dumps({"id": "x", "object": "chat.completion", "model": "stub", "choices": [choice]}))


def test_the_agent_learns_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both tools are used, prompt, descriptions and reader are trained together."""
    pytest.importorskip("langchain.agents")
    result = tmp_path / "result.json"
    with OpenAIServer(clerk) as server:
        words = f"optimize examples/langchain_qa/agent_job.py --model stub --base-url {server.base_url} --limit-test 4"
        words += f" --metric-calls 60 --max-steps 2 --no-progress --result {result} --store sqlite:///{tmp_path}/s.db"
        assert main(words.split()) == 0
    found = json.loads(result.read_text(encoding="utf-8"))
    assert (found["before"], found["after"], found["n_test"]) == (0.0, 1.0, 4)
    assert set(found["parameters"]) == {
        "read_total", "clerk.system", "price.description", "calculate.description",
    }  # fmt: skip
    bodies = [request.body for request in server.requests if "tools" in request.body]
    told = {tool["function"]["name"]: tool["function"]["description"] for tool in bodies[-1]["tools"]}
    assert told == {"price": "The price of one item.", "calculate": "Compute."}
    assert bodies[-1]["messages"][0] == {"role": "system", "content": "Use the tools."}


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
    for row in shop.generate(30):
        parts = re.findall(r"(\d+) (\w+?)s\b", row["question"])
        assert sum(int(number) * shop.PRICES[item] for number, item in parts) == int(row["answer"])
    assert shop.generate(5) == shop.generate(30)[:5]


def test_the_tools_answer_in_words_when_they_cannot() -> None:
    pytest.importorskip("langchain.agents")
    from examples.langchain_qa.agent import calculate, price

    assert [price.invoke(item) for item in ("kite", " Kites ")] == ["18", "18"]
    assert "no 'moon'" in price.invoke("moon")
    assert calculate.invoke("2 * (18 + 4)") == "44"
    for bad in ("2 *", "1 / 0", "price('kite')", "2 ** 9"):
        assert "cannot be computed" in calculate.invoke(bad)
