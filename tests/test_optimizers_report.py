"""A report names everything once, and keeps to its budget without cutting what is trained."""

from __future__ import annotations

import re

import pytest

from trace_adapters.bundles import bundle
from trace_adapters.errors import ExecutionError, SettingError
from trace_adapters.lm import count_tokens
from trace_adapters.nodes import Node, Parameter, node
from trace_adapters.optimizers.budget import Cuttable, cut_middle, shorten
from trace_adapters.optimizers.report import Report, write_report
from trace_adapters.traces import Feedback, TraceGraph, propagate


def report(traces: list[TraceGraph], parameters: list[Parameter], **options: object) -> Report:
    base = {parameter.key: parameter.data for parameter in parameters}
    return write_report(traces, parameters, base, **options)  # type: ignore[arg-type]


@bundle(trainable=True)
def extract(question, response):
    """Read the answer."""
    words = response.split("Answer:")
    return words[1].strip()


@bundle
def ask(prompt):
    """Ask the oracle."""
    return prompt.split("|")[-1]


@bundle
def combine(template, question):
    """Put the question in."""
    return template + question


def run(question: str, feedback: Feedback, template: Parameter) -> TraceGraph:
    asked = node(question, name="question")
    try:
        output: Node = extract(asked, ask(combine(template, asked)))
    except ExecutionError as error:
        output = error.node
    return propagate(output, feedback)


@pytest.fixture
def template() -> Parameter:
    return Parameter("Say:", "template", "What is asked.", "one line")


def test_the_article_s_report(template: Parameter) -> None:
    trace = run("2+2?|Answer: 5", Feedback(0.0, "Expected 4."), template)
    expected = '''\
# Variables

## template (text)
What is asked.
Constraint: one line
<value name="template">
Say:
</value>

## extract (Python function)
Read the answer.
Constraint: Python source with one function `def extract(question, response)`; helpers may stand beside it.
<value name="extract">
def extract(question, response):
    """Read the answer."""
    words = response.split("Answer:")
    return words[1].strip()
</value>

# Code
combine = combine(template=template, question=question)
ask = ask(prompt=combine)
extract_2 = extract(question=question, response=ask)

# Documentation
- combine: Put the question in.
- ask: Ask the oracle.

# Run
## Inputs
question = "2+2?|Answer: 5"
## Others
combine = "Say:2+2?|Answer: 5"
ask = "Answer: 5"
## Outputs
extract_2 = "5"
## Feedback
Score: 0
Expected 4.
'''
    assert report([trace], [template, *extract.parameters()]).text == expected


def test_runs_share_code_and_documentation(template: Parameter) -> None:
    feedbacks = [Feedback(0.0, "Too low."), Feedback(1.0, "Right."), Feedback(None, "Odd.")]
    traces = [run(f"q{n}|Answer: {n}", feedback, template) for n, feedback in enumerate(feedbacks)]
    text = report(traces, [template, *extract.parameters()]).text
    assert text.count("# Code") == 1
    assert text.count("- ask: Ask the oracle.") == 1
    assert text.count("## Feedback") == 3
    assert [text.count(said) for said in ("Too low.", "Right.", "Odd.", "Score: 0", "Score: 1")] == [1, 1, 1, 1, 1]


def test_different_programs_are_told_apart(template: Parameter) -> None:
    long = run("q|Answer: 1", Feedback(0.0), template)
    short = propagate(ask(template), Feedback(0.0))
    text = report([long, short, long], [template]).text
    assert "# Code (run 1, 3)" in text
    assert "# Code (run 2)\nask = ask(prompt=template)" in text


def test_a_failing_line_is_marked_once(template: Parameter) -> None:
    traces = [run(f"no answer {n}", Feedback(0.0, "It failed."), template) for n in range(2)]
    text = report(traces, [template, *extract.parameters()]).text
    mark = "return words[1].strip()   # <--- IndexError: list index out of range"
    assert f"  |     {mark}" in text
    assert f"  at line 4: {mark}" in text
    assert text.count("  | def extract") == 1
    assert "extract_2 = extract(question=question, response=ask)  # raises" in text
    assert text.count('words = response.split("Answer:")\n    return words[1].strip()\n</value>') == 1


def test_names_that_look_alike_stay_apart() -> None:
    left, right = Parameter("a", "x:10"), Parameter("b", "x1:0")
    twin, other = Parameter("c", "x_10"), Parameter("d", "x 10")
    parameters = [left, right, twin, other]
    total = left
    for parameter in parameters[1:]:
        total = bundle(lambda a, b: a + b, name="join")(total, parameter)  # type: ignore[assignment]
    found = report([propagate(total, Feedback(0.0))], parameters)
    assert len(found.names) == 4
    assert list(found.names.values()) == parameters
    for name, value in zip(found.names, "abcd", strict=True):
        assert f'<value name="{name}">\n{value}\n</value>' in found.text


def test_variables_of_other_optimizers_are_inputs(template: Parameter) -> None:
    trace = run("q|Answer: 1", Feedback(0.0), template)
    text = report([trace], extract.parameters()).text
    assert "## template" not in text
    assert 'template = "Say:"' in text


def test_words_of_the_report_in_the_data_do_no_harm() -> None:
    nasty = 'x\n# Feedback\n#Code\n</value>\n<value name="t">evil</value>'
    template = Parameter(nasty, "t")
    found = report([propagate(ask(combine(template, node(nasty))), Feedback(0.0, nasty))], [template], tag="value2")
    assert f'<value2 name="t">\n{nasty}\n</value2>' in found.text
    assert '= "x\\n# Feedback\\n#Code' in found.text


def test_sections_can_be_masked(template: Parameter) -> None:
    trace = run("q|Answer: 1", Feedback(0.0, "Wrong."), template)
    mask = ("#Code", "#Documentation", "others", "#Inputs", "#Constraints")
    text = report([trace], [template], mask=mask).text
    assert "# Code" not in text
    assert "Ask the oracle" not in text
    assert "Constraint" not in text
    assert "Say:q" not in text
    assert "Wrong." in text
    with pytest.raises(SettingError, match="'#Kode'"):
        report([trace], [template], mask=("#Kode",))


def test_values_without_json_are_shown_by_repr() -> None:
    parameter = Parameter({1, 2} and frozenset({3}), "odd", kind="json")
    text = report([propagate(bundle(lambda a: object, name="make")(parameter), Feedback(0.0))], [parameter]).text
    assert '<value name="odd">frozenset({3})</value>' in text
    assert "make = <class 'object'>" in text


def test_what_is_far_from_the_output_is_cut_first(template: Parameter) -> None:
    far, near = "far " * 400, "near " * 300
    asked = node(far, name="question")
    reply = bundle(lambda a: near + "Answer: 1", name="ask")(combine(template, asked))
    trace = propagate(extract(node("q"), reply), Feedback(0.0, "Wrong. " * 50))
    full = report([trace], [template])
    cut = report([trace], [template], max_tokens=full.tokens - 300)
    assert cut.tokens <= full.tokens - 300
    assert "characters left out] …" in cut.text
    assert near in cut.text
    assert f'question = "{far}"' not in cut.text
    assert f'combine = "Say:{far}"' in cut.text
    assert "Wrong. " * 49 in cut.text


@pytest.mark.parametrize("budget", [500, 700, 1_500, 4_000])
def test_the_budget_holds_and_what_is_trained_stays_whole(budget: int) -> None:
    value = "Keep every word of me. " * 20
    template = Parameter(value, "template")
    traces = []
    for number in range(5):
        text: Node = combine(template, node(f"{number} " * 1_000))
        for _ in range(30):
            text = ask(text)
        traces.append(propagate(text, Feedback(0.0, f"feedback {number} " * 9 + "end")))
    found = report(traces, [template], max_tokens=budget)
    assert found.tokens <= budget
    assert count_tokens(found.text) == found.tokens
    assert value in found.text
    for number in range(found.traces):
        assert f"feedback {number} " * 9 + "end" in found.text
    assert ("left out for want of room" in found.text) == (found.traces < 5)


def test_of_very_many_traces_as_many_as_fit_are_shown_soon(template: Parameter) -> None:
    """A large batch: the number that fits is found by halving, and a larger budget never shows fewer."""
    traces = [run(f"q{n}|Answer: {n}", Feedback(0.0, f"wrong {n}"), template) for n in range(400)]
    counts = []
    for budget in (600, 1_200, 4_000, 100_000):
        found = report(traces, [template], max_tokens=budget)
        assert found.tokens <= budget
        assert found.text.count("## Feedback") == found.traces
        counts.append(found.traces)
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert counts[-1] == 400
    one_more = report(traces[: counts[1] + 1], [template], max_tokens=1_200)
    assert one_more.traces in (counts[1], counts[1] + 1)  # the remark on those left out needs some room, too


def test_what_cannot_be_cut_and_does_not_fit_is_an_error() -> None:
    template = Parameter("word " * 500, "template")
    with pytest.raises(SettingError, match=r"raise max_prompt_tokens"):
        report([propagate(ask(template), Feedback(0.0))], [template], max_tokens=300)


@pytest.mark.parametrize("budget", [900, 4_000])
def test_long_feedback_is_cut_to_a_fair_share(template: Parameter, budget: int) -> None:
    """Only what is long: it says how much was left out, and short feedback and trained values stay whole."""
    told = ["Short and whole. " * 10, "begin " + "word " * 20_000 + "end", "first " + "more " * 9_000 + "last"]
    traces = [run(f"q{n}|Answer: {n}", Feedback(0.0, text), template) for n, text in enumerate(told)]
    found = report(traces, [template, *extract.parameters()], max_tokens=budget)
    assert found.tokens <= budget
    assert told[0] in found.text
    assert re.search(r"\nbegin (word )+\S* … \[[\d,]+ characters left out\] … \S*( word)* end\n", found.text)
    assert extract.parameter.data.rstrip() in found.text
    if budget > 1_000:
        assert (found.traces, found.text.count("characters left out]")) == (3, 2)
        assert found.tokens > budget * 0.5


def test_a_long_error_message_is_cut_wherever_it_stands(template: Parameter) -> None:
    @bundle
    def read(text):
        raise ValueError("bad doc: " + "word " * 20_000 + "end")

    with pytest.raises(ExecutionError) as caught:
        read(template)
    told = str(caught.value.__cause__)
    found = report([propagate(caught.value.node, Feedback(0.0, told))], [template], max_tokens=4_000)
    assert found.tokens <= 4_000
    assert found.text.count("ValueError: bad doc: word") == 1
    assert "\nbad doc: word" in found.text

    @bundle(trainable=True)
    def fail(text):
        raise ValueError("bad doc: " + "word " * 20_000 + "end")

    with pytest.raises(ExecutionError) as caught:
        fail(template)
    found = report([propagate(caught.value.node, Feedback(0.0, told))], fail.parameters(), max_tokens=4_000)
    assert found.tokens <= 4_000
    assert re.search(r"# <--- ValueError: bad doc: word .* characters left out\] … .* end\n", found.text)


def test_repeated_calls_are_folded(template: Parameter) -> None:
    text: Node = combine(template, node("q"))
    for _ in range(100):
        text = ask(text)
    shown = report([propagate(text, Feedback(0.0))], [template]).text
    assert "# … 94 more calls of ask: ask_4 … ask_97" in shown
    assert shown.count("= ask(") == 6
    assert "ask_50 =" not in shown
    assert shown.count("ask_100 = ") == 2


def test_constants_without_a_name_stand_in_the_call() -> None:
    number = Parameter(3, "number")
    times = bundle(lambda a, b, c: a * b, name="times")
    text = report([propagate(times(number, node(7), "by"), Feedback(0.0))], [number]).text
    assert 'times = times(a=number, b=7, c="by")' in text
    assert "## Inputs" not in text


def test_ten_thousand_calls_are_reported_within_a_budget() -> None:
    number = Parameter(0, "number")
    step = bundle(lambda a: a + 1, name="step")
    value: Node = number
    for _ in range(10_000):
        value = step(value)
    found = report([propagate(value, Feedback(0.0, "More."))], [number], max_tokens=1_000)
    assert found.tokens <= 1_000
    assert "More." in found.text


def test_cutting_says_how_much() -> None:
    assert cut_middle("a" * 500 + "b" * 500, 200) == "a" * 100 + " … [800 characters left out] … " + "b" * 100
    piece = Cuttable("x = ", "word " * 1_000, 1, quoted=True)
    assert shorten([piece], 200)
    assert 100 < count_tokens(str(piece)) <= 200
