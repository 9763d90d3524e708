"""A small model is asked for one parameter, with the form of the reply given and the evidence laid out."""

from __future__ import annotations

import re
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
from trace_adapters.optimizers.optoprime import COSTLY_SAMPLES
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
"""
    )
    assert options["grammar"].splitlines()[0] == (
        'root ::= "<value name=\\"template\\">\\n" sentence more{0,2} '
        '" End with the answer in this form: digits only.\\n</value>"'
    )


def test_new_sentences_are_added_or_replace_and_placeholders_stay() -> None:
    optimizer = of_template('<value name="template">\nCount first.\n</value>')
    traces = [run("2+2?", "Answer: 5", "4")]
    values = [p.candidate["template"] for seed in (0, 1) for p in optimizer.suggest(traces, seed=seed) if p.candidate]
    assert values == ["Answer.\nCount first.\n{question}", "Count first.\n{question}"]


def test_a_long_text_is_only_added_to() -> None:
    text = Parameter("Keep to these rules. " * 50, "instructions")
    lm = ScriptedLM(lambda messages: '<value name="instructions">Count first.</value>', profile="small")
    graph = propagate(bundle(lambda text: "x", name="use")(text), Feedback(0.0, "Wrong."))
    (proposal,) = OptoPrime([text], lm=lm).suggest([graph], seed=1)
    assert proposal.candidate == {"instructions": "Keep to these rules. " * 50 + "\nCount first."}


@pytest.mark.parametrize(
    ("text", "added", "replaced"),
    [
        ("A.\n{x}\nB: {y}", ("A.\n", "\n{x}\nB: {y}"), ("", "\n{x}\nB: {y}")),
        ("{x}", ("", "\n{x}"), ("", "\n{x}")),
        ("A.", ("A.\n", ""), ("", "")),
        ("", ("", ""), ("", "")),
    ],
)
def test_sentences_have_a_place_in_a_text(text: str, added: tuple[str, str], replaced: tuple[str, str]) -> None:
    assert frame_of(text, replace=False) == added
    assert frame_of(text, replace=True) == replaced


@pytest.mark.parametrize(
    ("parameter", "root"),
    [
        (Parameter(3, "n"), 'answer ::= "-"? [0-9]{1,9}'),
        (Parameter(0.5, "n"), 'answer ::= "-"? [0-9]{1,9} ("." [0-9]{1,6})?'),
        (Parameter(True, "n"), 'answer ::= "true" | "false"'),
        (Parameter("a", "n", choices=("a", 'b"c', 3)), 'answer ::= "a" | "b\\"c" | "3"'),
        (Parameter([1], "n"), "answer ::= array"),
        (Parameter({"a": 1}, "n"), "answer ::= object"),
        (Parameter(None, "n", kind="json"), "answer ::= json"),
    ],
)
def test_values_get_the_grammar_of_their_type(parameter: Parameter, root: str) -> None:
    lines = reply_grammar(parameter, "n", parameter.data, "value").splitlines()
    assert lines[0] == 'root ::= "<value name=\\"n\\">" answer "</value>"'
    assert lines[1] == root
    lm = ScriptedLM(lambda messages: "?", profile="small")
    graph = propagate(bundle(lambda n: n, name="use")(parameter), Feedback(0.0, "Higher."))
    prompt, _ = asked(OptoPrime([parameter], lm=lm), [graph])
    assert "Its current value: " in prompt
    assert "Higher." in prompt


def test_blame_goes_to_the_code_that_failed_then_to_others() -> None:
    memory = Memory(5)
    failing = [run("q", "There are 8.", "8"), run("q", "There are 9.", "9")]
    assert choose_parameter(failing, PARAMETERS, BASE, memory, 0) is EXTRACT
    chosen = []
    for step in range(12):
        parameter = choose_parameter(failing, PARAMETERS, BASE, memory, step)
        chosen.append(parameter.key)
        for sample in range(4):
            candidate = {**BASE, parameter.key: f"new {step} {sample}"}
            memory.tell(Outcome(candidate, "optoprime", 0.0, False))
    assert chosen[:2] == ["extract_answer", "extract_answer"]
    assert set(chosen) == {"template", "create_prompt", "extract_answer"}
    assert chosen.count("extract_answer") >= 5


def test_runs_that_were_right_blame_nobody() -> None:
    """Code that read a right answer is not asked for because of that run."""
    wrong = propagate(create_prompt(TEMPLATE, "q"), Feedback(0.0, "wrong"))
    read = propagate(extract_answer("q", "Answer: 8"), Feedback(1.0, "right"))
    assert choose_parameter([wrong, *[read] * 5], [EXTRACT, TEMPLATE], BASE, Memory(5), 0) is TEMPLATE


def test_a_parameter_that_no_run_read_is_not_asked_for() -> None:
    read = propagate(create_prompt(TEMPLATE, "q"), Feedback(1.0, "right"))
    assert {choose_parameter([read], PARAMETERS, BASE, Memory(5), seed).key for seed in range(3)} == {
        "template",
        "create_prompt",
    }


def test_replies_that_could_not_be_used_count_as_attempts() -> None:
    memory = Memory(5)
    failing = [run("q", "There are 8.", "8")]
    for _ in range(12):
        memory.tell(Outcome(None, "optoprime", None, False, rejected="bad", reply='<value name="extract_answer">'))
    assert choose_parameter(failing, PARAMETERS, BASE, memory, 0) is not EXTRACT
    memory.tell(Outcome(BASE, "optoprime", 0.1, True))
    assert choose_parameter(failing, PARAMETERS, BASE, memory, 0) is EXTRACT


def test_a_rejection_is_shown_to_the_parameter_s_next_question() -> None:
    optimizer = small()
    reply = '<value name="extract_answer">def f(): pass</value>'
    optimizer.tell(Outcome(None, "optoprime", None, False, rejected="extract_answer: renamed.", reply=reply))
    prompt, _ = asked(optimizer, [run("q", "There are 8.", "8")])
    assert "An earlier version could not be used: extract_answer: renamed." in prompt


def test_a_small_prompt_keeps_to_its_budget() -> None:
    long = "word " * 300
    traces = [run(f"{long}{n}", f"{long}So it is {n}. {long}", str(n)) for n in range(30, 36)]
    prompt, _ = asked(small(max_prompt_tokens=400), traces)
    assert count_tokens(prompt) <= 400
    assert "So it is 30." in prompt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('The answer is wrong. We expect the output of your answer to be "8" (a number), but it was "10".', "8"),
        ("Expected '(A)' but got '(B)'.", "(A)"),
        ('The program failed: IndexError in f, line 2: x.split("Answer:")\nExpected: 8', "8"),
        ("It failed.\nExpected: {'answer': 'Yes', 'kind': 'yes or no'}", "Yes"),
        ("It failed.\nExpected: answer = '8'", "8"),
        ("Correct answer: paris", "paris"),
        ("The output should be `a b c`.", "a b c"),
        ("Expected answer: “Nein”", "Nein"),
    ],
)
def test_the_expected_value_is_read_from_feedback(text: str, expected: str) -> None:
    assert expected_values(propagate(TEMPLATE, Feedback(0.0, text)))[0] == expected


@pytest.mark.parametrize("text", ["", "Wrong.", 'You said "8".', "It is not correct, it was 'x'.", "Expected: {[1]}"])
def test_feedback_without_an_expected_value_gives_none(text: str) -> None:
    assert expected_values(propagate(TEMPLATE, Feedback(0.0, text))) == []


def test_what_the_run_records_as_expected_comes_first() -> None:
    graph = propagate(TEMPLATE, Feedback(0.0, 'Expected "9".'), info={"expected": 8})
    assert expected_values(graph) == ["8"]


def test_windows_keep_the_place_of_the_value() -> None:
    text = "a " * 300 + "the total is 8 items" + " b" * 300
    assert "total is 8 items" in window("8", text)
    assert len(window("8", text)) < 240
    assert window("8", "a " * 300 + "it is 8.").endswith("it is 8.")
    assert window("8", "short 8") == "short 8"


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        (["8", "15"], "digits only"),
        (["(A)", "(C)"], "one capital letter in round brackets, brackets included"),
        (["Yes", "No", "Yes", "No"], "one of 'No', 'Yes'"),
        (["paris", "rome"], "one word"),
        (["8", "9", "8", "9", "8"], "digits only"),
        (["a b", "c d e"], "words in lower case, separated by single spaces"),
        (["a1", "x y"], ""),
        ([], ""),
    ],
)
def test_the_form_of_answers_is_named(values: list[str], shape: str) -> None:
    assert shape_of(values) == shape


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def f(a, b=1):\n    return a", "def f(a, b=1):"),
        ("def h():\n    pass\n\nasync def f(a: int) -> str:\n    '''Doc.'''", "async def f(a: int) -> str:"),
        ("def f(\n    a,\n    b,\n):\n    # why\n    return a", "def f(a, b):"),
        ("def f(\n    a,  # one\n):\n    return a", "def f(\n    a,  # one\n):"),
        ("def f(a): return a", "def f(a):"),
    ],
)
def test_the_definition_line_is_kept_exactly(source: str, line: str) -> None:
    assert definition_line(source) == line


def test_literals_are_escaped() -> None:
    assert quote('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'


def test_few_samples_are_asked_for_what_a_model_reads() -> None:
    """A new template costs a model call for every judged example, a new reader of the reply costs none."""
    graphs = [run("How many?", "There are 8.", "8")]
    asked: list[int] = []

    def answer(messages: Any, sample_index: int) -> str:
        asked.append(sample_index)
        return "nothing"

    lm = ScriptedLM(answer, profile="small")
    OptoPrime(extract_answer.parameters(), lm=lm).suggest(graphs, n=8)
    assert len(asked) == 8
    asked.clear()
    OptoPrime([TEMPLATE], lm=lm).suggest(graphs, n=8)
    assert len(asked) == COSTLY_SAMPLES


LIMIT = 3


def helper(x):
    return x


def look_up(x):
    return x


def bundled(uses=(), **options):
    @bundle(trainable=True, uses=uses, **options)
    def reach(text):
        """Read the number."""
        return helper(text)[:LIMIT] + re.escape(look_up(text))

    return reach


@pytest.mark.parametrize("profile", ["strong", "small"])
@pytest.mark.parametrize("expected", ["8", "no evidence"])
def test_code_is_told_what_it_may_call_and_what_is_not_there(profile: str, expected: str) -> None:
    function = bundled(uses=[look_up])
    lm = ScriptedLM(lambda messages: "?", profile=profile)  # type: ignore[arg-type]
    trace = propagate(function(node("There are 8.", name="text")), Feedback(0.0, f"Expected: {expected}"))
    OptoPrime(function.parameters(), lm=lm).suggest([trace])
    prompt = str(lm.calls[0].messages[-1]["content"])
    assert ("assert reach(" in prompt) == (profile == "small" and expected == "8")
    assert "It may call `look_up`, which the program provides." in prompt
    assert "It may use `re` and `LIMIT`, which are given." in prompt
    assert "`helper` is not there when it runs: do not use it; write what you need of it into the source." in prompt


def test_code_that_lacks_nothing_is_told_nothing() -> None:
    assert EXTRACT.constraint.splitlines() == [
        "Python source with one function `def extract_answer(question, response)`; helpers may stand beside it."
    ]
    own = bundled(trust="in-process").parameter.constraint
    assert "\n" not in own
    several = bundled().parameter.constraint
    assert "`helper` and `look_up` are not there when it runs: do not use them" in several
    assert "It may call" not in several
