"""A small model is asked for one parameter, with the form of the reply given and the evidence laid out."""

from __future__ import annotations

from typing import Any

import pytest

from trace_adapters.bundles import Bundle, bundle
from trace_adapters.errors import ExecutionError
from trace_adapters.lm import ScriptedLM, count_tokens
from trace_adapters.nodes import Node, Operation, Parameter, node
from trace_adapters.optimizers import OptoPrime, Outcome
from trace_adapters.optimizers.evidence import calls_of, expected_values, shape_of, window
from trace_adapters.optimizers.grammars import definition_line, frame_of, quote, reply_grammar
from trace_adapters.optimizers.memory import Memory
from trace_adapters.optimizers.small import choose_parameter
from trace_adapters.traces import Feedback, TraceGraph, propagate

WRONG = (
    'The answer is wrong. We expect the output of your answer to be "{}", but it was "{}". Please modify the prompt.'
)


@bundle(trainable=True)
def extract_answer(question, response):
    """Read the answer out of the response.

    For example Yes or (A).
    """
    return response.split("Answer:")[1].strip()


@bundle(trainable=True)
def create_prompt(template, question):
    """Write the prompt."""
    return template.format(question=question)


TEMPLATE = Parameter("Answer.\n{question}", "template", "The template.", "keeps {question}")
EXTRACT, CREATE = extract_answer.parameter, create_prompt.parameter
PARAMETERS = [TEMPLATE, CREATE, EXTRACT]
BASE = {parameter.key: parameter.data for parameter in PARAMETERS}


def run(question: str, response: str, expected: str, **info: Any) -> TraceGraph:
    model = Bundle(lambda prompt: response, Operation("ask", "Ask.", language_model=True), None, None, True)
    asked = node(question, name="question")
    try:
        output: Node = extract_answer(asked, model(create_prompt(TEMPLATE, asked)))
    except ExecutionError as error:
        output = error.node
    if output.failed:
        return propagate(output, Feedback(0.0, f"The program failed: IndexError\nExpected: {expected}"), info=info)
    right = output.data == expected
    text = "Right." if right else WRONG.format(expected, output.data)
    return propagate(output, Feedback(float(right), text), info=info)


def small(reply: Any = "?", *, grammar: bool = True, **options: Any) -> OptoPrime:
    lm = ScriptedLM(lambda messages: reply, profile="small", supports_grammar=grammar)
    return OptoPrime(PARAMETERS, lm=lm, **options)


def asked(optimizer: OptoPrime, traces: list[TraceGraph], **options: Any) -> tuple[str, dict[str, Any]]:
    optimizer.suggest(traces, **options)
    (call,) = optimizer.lm.calls  # type: ignore[attr-defined]
    return call.messages[0]["content"], dict(call.options)


def test_a_function_is_asked_for_by_what_must_hold() -> None:
    traces = [
        run("How many?", "There are 8 fruits in total.", "8"),
        run("How many?", "15", "15"),
        run("How many?", "I count seven.", "7"),
        run("How many cars?", "So the answer is 3.", "3"),
    ]
    prompt, options = asked(small(), traces, n=4)
    assert (
        prompt
        == """\
Write the Python function extract_answer(question, response).
Read the answer out of the response.
All expected return values have this form: digits only.
These must hold, and the function must not fail on other arguments like these:
```python
assert extract_answer('How many?', 'There are 8 fruits in total.') == '8'
assert extract_answer('How many?', '15') == '15'
assert extract_answer('How many cars?', 'So the answer is 3.') == '3'
```
"""
    )
    assert options["temperature"] == 0.8
    assert options["grammar"].startswith('root ::= "<value name=\\"extract_answer\\">\\n```python\\nimport re\\n"')
    assert '"\\ndef extract_answer(question, response):\\n"' in options["grammar"]


def test_a_reply_of_that_grammar_is_read() -> None:
    body = "import re\n\ndef extract_answer(question, response):\n    return re.findall(r'\\d+', response)[-1]\n"
    optimizer = small(f'<value name="extract_answer">\n```python\n{body}```\n</value>')
    (proposal,) = optimizer.suggest([run("How many?", "There are 8.", "8")])
    assert proposal.candidate == {**BASE, "extract_answer": body}


def test_a_grammar_goes_only_to_models_that_know_grammars() -> None:
    _, options = asked(small(grammar=False), [run("q", "There are 8.", "8")])
    assert "grammar" not in options


def test_earlier_runs_are_evidence_too() -> None:
    optimizer = small()
    optimizer.observe([run("q", "It is 15 then.", "15"), run("q", "Answer: 4", "4")])
    prompt, _ = asked(optimizer, [run("q", "There are 8.", "8")])
    assert "'There are 8.') == '8'" in prompt
    assert "'It is 15 then.') == '15'" in prompt
    assert "'Answer: 4') == '4'" in prompt


def test_an_answer_that_stands_beside_the_reply_in_the_question_is_evidence() -> None:
    question = "Who?\nOptions:\n(A) Ann\n(B) Bob"
    prompt, _ = asked(small(), [run(question, "Bob", "(B)")])
    assert f"assert extract_answer({question!r}, 'Bob') == '(B)'" in prompt
    (call,) = calls_of(EXTRACT, [run(question, "Ann", "(B)")])
    assert call.located == ()


def test_without_evidence_the_source_and_the_runs_are_shown() -> None:
    optimizer = OptoPrime([EXTRACT], lm=ScriptedLM(lambda messages: "?", profile="small"))
    prompt, _ = asked(optimizer, [run("Why?", "Because of seven.", "7")])
    assert 'return response.split("Answer:")[1].strip()' in prompt
    assert "- extract_answer_2: raised IndexError: list index out of range" in prompt or "raised IndexError" in prompt
    assert "- ask: 'Because of seven.'" in prompt
    assert "Expected: 7" in prompt


def of_template(reply: str = "?") -> OptoPrime:
    return OptoPrime([TEMPLATE], lm=ScriptedLM(lambda messages: reply, profile="small", supports_grammar=True))


def test_of_a_text_new_sentences_are_asked_for() -> None:
    prompt, options = asked(of_template(), [run("2+2?", "Answer: 5", "4")])
    assert (
        prompt
        == """\
The template.
It must be: keeps {question}
A program gives this text to a language model:
<text>
Answer.
{question}
</text>

Runs of the program:
- question: '2+2?'
- ask: 'Answer: 5'
- extract_answer_2: '5'
  Feedback: The answer is wrong. We expect the output of your answer to be "4", but it was "5". Please modify \
the prompt.

All expected answers have this form: digits only. For example: '4'.

Write one to three short instructions to the language model, each a sentence that begins with a verb, so that it gets \
such answers right: what to look at, what to do step by step. They must hold for any input of this kind: name nothing \
from these runs. They are put beside the present ones. Reply with <value name="template">the instructions</value>.
'''Doc.'''", "async def f(a: int) -> str:"),
        ("def f(\n    a,\n    b,\n):\n    # why\n    return a", "def f(a, b):"),
        ("def f(\n    a,  # one\n):\n    return a", "def f(\n    a,  # one\n):"),
        ("def f(a): return a", "def f(a):"),
    ],
)
def test_the_definition_line_is_kept_exactly(source: str, line: str) -> None:
    assert definition_line(source) == line


def test_literals_are_escaped() -> None:
    assert quote('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'
