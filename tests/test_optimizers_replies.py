"""Every reply is read in one place: applied whole, or rejected with a reason that a model can learn from."""

from __future__ import annotations

import pytest

from trace_adapters.bundles import bundle
from trace_adapters.errors import ParameterError
from trace_adapters.nodes import Parameter
from trace_adapters.optimizers.grammars import frame_of
from trace_adapters.optimizers.replies import Reading, free_tag, read_reply, read_value, unfence


@bundle(trainable=True)
def main_fn(x):
    return x + 1


CODE = main_fn.parameter
TEXT = Parameter("Answer the question.\n{question}", "template")
COUNT = Parameter(5, "count")
RATE = Parameter(0.5, "rate")
STRICT = Parameter(True, "strict")
SHAPE = Parameter([1, 2], "shape")
EMPTY = Parameter(None, "limit", kind="json")
MODE = Parameter("fast", "mode", choices=("fast", "slow", 3, None))
ALL = {p.key: p for p in (CODE, TEXT, COUNT, RATE, STRICT, SHAPE, EMPTY, MODE)}
BASE = {key: parameter.data for key, parameter in ALL.items()}


def read(text: str, **options: object) -> Reading:
    return read_reply(text, ALL, BASE, **options)  # type: ignore[arg-type]


def tag(name: str, value: str) -> str:
    return f'<value name="{name}">{value}</value>'


def test_reads_reasoning_and_several_values() -> None:
    reply = f"<reasoning>Both are off.</reasoning>\n{tag('count', '7')}\n\n{tag('rate', ' 0.25 ')} That is all."
    assert read(reply) == Reading({"count": 7, "rate": 0.25}, "Both are off.", None)


def test_text_is_kept_verbatim_between_its_tags() -> None:
    text = '  "Say" <b>it</b>:\n\n\tAnswer: {question} \\n {{x}} $1'
    assert read(tag("template", f"\n{text}\n")).values == {"template": text}


@pytest.mark.parametrize(
    "word", ["define", "def", "default def f(x): return", "TERMINATE", "Code: #Code", "# Variables"]
)
def test_no_word_inside_a_value_is_magic(word: str) -> None:
    text = f"Please {word} the answer of {{question}}."
    assert read(tag("template", text)) == Reading({"template": text}, "", None)


def test_a_closing_tag_may_stand_inside_a_value() -> None:
    text = 'Write <value name="x">…</value> like XML and end with </value>! {question}'
    only = {"template": TEXT}
    shown = free_tag([text])
    assert shown == "value2"
    assert read_reply(f'<value2 name="template">{text}</value2>', only, BASE, tag=shown).values == {"template": text}
    assert read(tag("template", "{question} </value>!")).values == {"template": "{question} </value>!"}


def test_the_tag_avoids_every_text_shown() -> None:
    assert free_tag(["plain", "a value here"]) == "value"
    assert free_tag(["<VALUE name=", "</value2>"]) == "value3"


@pytest.mark.parametrize(
    "reply",
    [
        '<value name="count">7</value>',
        "<VALUE NAME='count'>\n7\n</VALUE>",
        "Sure!\n```xml\n<value name = count >\n  7\n</value >\n```",
        '<value name="Count">```\n7\n```</value>',
        '<value name="count">7',
    ],
)
def test_form_is_read_leniently(reply: str) -> None:
    assert read(reply).values == {"count": 7}


def test_fences_around_a_whole_value_are_form() -> None:
    assert read(tag("template", "\n```text\nNew {question}\n```\n")).values == {"template": "New {question}"}
    assert read(tag("template", "See ```x``` in {question}")).values == {"template": "See ```x``` in {question}"}
    assert unfence("```python\nx = 1\n```") == "x = 1"


def test_the_last_of_two_values_for_one_name_counts() -> None:
    assert read(tag("count", "6") + " no, better: " + tag("count", "7")).values == {"count": 7}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I would change the count to 7.", "no <value name="),
        ("", "no <value name="),
        ('{"suggestion": {"count": 7}} {"more": 1}', "no <value name="),
        (tag("counter", "7"), "no variable 'counter'; the variables are main_fn, template"),
        (tag("count", "5"), "changes nothing"),
        (tag("template", BASE["template"]), "changes nothing"),
        (tag("template", "  "), "empty"),
    ],
)
def test_what_cannot_be_used_is_rejected_with_the_reason(reply: str, reason: str) -> None:
    reading = read(reply)
    assert reading.values == {}
    assert reason in (reading.rejected or "")


def test_one_bad_value_rejects_all() -> None:
    reading = read(tag("template", "Better {question}") + tag("count", "about seven"))
    assert reading.values == {}
    assert reading.rejected == "count: Expected a number alone, got 'about seven'."


def test_a_value_that_another_one_interrupts_is_not_used() -> None:
    """It would hold the words between the two."""
    reading = read('<value name="template">Answer {question}\nAnd the count: ' + tag("count", "7"))
    assert "template is not closed" in (reading.rejected or "")


def test_a_cut_reply_is_not_half_used() -> None:
    reading = read(tag("count", "7") + '<value name="template">Answer the que', cut_off=True)
    assert reading.values == {}
    assert "template is not closed" in (reading.rejected or "")
    assert "length limit" in (reading.rejected or "")


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("count", "7", 7),
        ("count", "5.0", 5),
        ("count", "-3", -3),
        ("rate", "2", 2.0),
        ("rate", "1e-3", 0.001),
        ("strict", "False", False),
        ("strict", "false", False),
        ("strict", "true", True),
        ("shape", "[3,4]", [3, 4]),
        ("shape", "[True, None, 'a']", [True, None, "a"]),
        ("shape", "(3, 4)", [3, 4]),
        ("limit", "null", None),
        ("limit", "None", None),
        ("limit", '{"a": [1]}', {"a": [1]}),
        ("mode", "slow", "slow"),
        ("mode", '"slow"', "slow"),
        ("mode", "3", 3),
        ("mode", "None", None),
    ],
)
def test_values_keep_their_type(key: str, raw: str, value: object) -> None:
    got = read_value(raw, ALL[key], BASE[key])
    assert (type(got), got) == (type(value), value)


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("count", "5.5"),
        ("count", "True"),
        ("count", "'7'"),
        ("count", "1,000"),
        ("count", "7 seconds"),
        ("count", "None"),
        ("count", "{{}}"),
        ("shape", "{[1]}"),
        ("rate", "nan"),
        ("rate", "1e999"),
        ("rate", "[1]"),
        ("strict", "0"),
        ("strict", "null"),
        ("strict", '"False"'),
        ("shape", "3"),
        ("shape", "null"),
        ("shape", '{"a": 1}'),
        ("shape", "[1] [2]"),
        ("shape", '[1] {"b": 2}'),
        ("mode", "quick"),
        ("mode", "fast or slow"),
    ],
)
def test_what_is_not_of_the_type_is_refused_not_coerced(key: str, raw: str) -> None:
    with pytest.raises(ParameterError):
        read_value(raw, ALL[key], BASE[key])


def test_code_is_taken_out_of_its_fence_and_indentation() -> None:
    reply = tag("main_fn", "\nHere it is:\n```python\n    def main_fn(x):\n        return x + 2\n```\n")
    assert read(reply).values == {"main_fn": "def main_fn(x):\n    return x + 2\n"}


def test_code_without_a_tag_is_read_if_it_is_the_only_question() -> None:
    reply = "Like this:\n```python\ndef main_fn(x):\n    return x * 2\n```\nDone."
    assert read_reply(reply, {"main_fn": CODE}, BASE).values == {"main_fn": "def main_fn(x):\n    return x * 2\n"}
    assert "no <value" in (read(reply).rejected or "")


def test_a_helper_may_stand_before_the_function() -> None:
    source = "def helper(x):\n    return 3000\n\ndef main_fn(x):\n    return helper(x) + 1\n"
    assert read(tag("main_fn", f"\n{source}\n")).values == {"main_fn": source}


@pytest.mark.parametrize(
    "source",
    [
        "null",
        "None",
        "",
        '["def main_fn(x):", "    return x"]',
        "def other(x):\n    return x",
        "def main_fn(x, y):\n    return x",
        "def main_fn(x):\n    return (x",
        "def main_fn(x):\n    return x\nimport os\nos.system('true')",
        '{"code": "def main_fn(x): return x"}',
    ],
)
def test_code_that_cannot_stand_in_is_rejected(source: str) -> None:
    reading = read(tag("main_fn", f"\n{source}\n"))
    assert reading.values == {}
    assert (reading.rejected or "").startswith("main_fn: ")


def test_code_without_a_check_must_define_what_was_defined() -> None:
    bare = Parameter("def f(x):\n    return x\n", "f", kind="code")
    assert read_value("def f(x):\n    return 2", bare, bare.data) == "def f(x):\n    return 2\n"
    for wrong in ("def g(x):\n    return x", "x = 1", "def f(x) return"):
        with pytest.raises(ParameterError):
            read_value(wrong, bare, bare.data)


def test_a_check_of_the_user_that_breaks_is_a_rejection() -> None:
    def check(value: str) -> None:
        if value != "a":
            raise KeyError("boom")

    odd = Parameter("a", "odd", check=check)
    reading = read_reply(tag("odd", "b"), {"odd": odd}, {"odd": "a"})
    assert reading.rejected == "odd: KeyError: 'boom'"


FORMATTED = "{q:>3} of {user.name}: {items[0]} {q!r} {{sic}}"


@pytest.mark.parametrize(
    ("current", "new", "reason"),
    [
        ("Say {q}", "no placeholder at all", "lost {q}. Keep every placeholder: {q}."),
        ("{q} {z}", "Only {z}", "lost {q}. Keep every placeholder: {q}, {z}."),
        ("Say {q}", "{q} {z}", "nothing fills: {z}. Use only {q}, and write braces that are no placeholder twice"),
        ("Say {q}", 'Say {q} as {"a": 1}', 'nothing fills: {"a": 1}'),
        ("Say {q}", "Say {q} {}", "nothing fills: {}"),
        ("Say {q}", "{q} {", "do not pair"),
        ("Say {q}", "}{q}", "do not pair"),
        ("Say {q}", "{q} {q.__class__}", "nothing fills: {q.__class__}"),
        ("Say {q}", "{q} {q[0]}", "nothing fills: {q[0]}"),
        ("Say {q}", "{q!r}", "does more with a placeholder than the current one: {q!r}. Write"),
        ("Say {q}", "{q:>1000000000}", "{q:>1000000000}. Write placeholders as they were: {q}."),
        ("Say {q}", "{q} {q:{q}}", "{q:{q}}"),
        (FORMATTED, FORMATTED + " {q:>4}", "{q:>4}"),
        (FORMATTED, FORMATTED + " {user.name.x}", "{user.name.x}"),
        ("Say {}", "Say {:>1000000000}", "{:>1000000000}"),
        ("Say {0}", "Say {0.__class__}", "{0.__class__}"),
    ],
)
def test_a_template_keeps_its_placeholders_and_gets_no_power(current: str, new: str, reason: str) -> None:
    template = Parameter(current, "t")
    reading = read_reply(tag("t", new), {"t": template}, {"t": current})
    assert reading.values == {}
    assert reason in (reading.rejected or "")


@pytest.mark.parametrize(
    ("current", "new"),
    [
        ("Say {q}", "{q}! {q} {{sic}} {{}}"),
        (FORMATTED, "{items[0]} {q!r} {q:>3} {q} {user.name}"),
        ("Say {}", 'Say {} or {"a": 1} {'),
        ("Say it.", "Say {it} {"),
        ('As {"answer": 1}, {q}', "As you like {"),
        ("a { b", "{c} {"),
        ("A set {{1, 2}}", "{"),
    ],
)
def test_what_keeps_its_placeholders_and_what_has_none_is_free(current: str, new: str) -> None:
    template = Parameter(current, "t")
    assert read_reply(tag("t", new), {"t": template}, {"t": current}) == Reading({"t": new})


def test_a_check_of_its_own_takes_the_place_of_the_one_for_placeholders() -> None:
    def check(text: str) -> None:
        if "{" not in text:
            raise ParameterError("No brace.")

    own = Parameter("Say {q}", "t", check=check)
    assert read_reply(tag("t", "{other}"), {"t": own}, {"t": "Say {q}"}).values == {"t": "{other}"}
    assert read_reply(tag("t", "none"), {"t": own}, {"t": "Say {q}"}).rejected == "t: No brace."


def test_small_questions_keep_placeholders_with_a_format() -> None:
    for text in ("Say.\n{q:>3}", "Say.\n{q!r} {}", "Say.\n{q[0]}", "Say.\n{user.name}"):
        assert frame_of(text, replace=True) == ("", text.removeprefix("Say."))
