"""What a text was put together from is found again, whatever the values."""

from __future__ import annotations

import string
import time

from hypothesis import given, settings, strategies as st

from trace_adapters_textgrad.matching import fields_in_format, order_in_join
from trace_adapters_textgrad.naming import name_of_role, unique_names

VALUES = st.lists(st.text("ab\n", max_size=4), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.sampled_from(["", "\n"]), st.randoms())
def test_a_join_is_taken_apart(values, separator, random):
    """The order found makes the same text, and uses every value."""
    text = separator.join(values)
    known = list(dict.fromkeys(values))  # as a set has them: each once
    random.shuffle(known)
    order = order_in_join(text, known, separator)
    if order is not None:
        assert separator.join(known[number] for number in order) == text
        assert set(order) == set(range(len(known)))
    else:
        assert "" in values  # where an empty text was joined without a separator cannot be told
        assert separator == ""


def test_values_that_hide_in_others_are_used():
    """The first way to read the text is not always the one that uses all."""
    assert order_in_join("a\nb\na\nb", ["b", "a\nb", "a"], "\n") in ([1, 2, 0], [2, 0, 1])
    assert order_in_join("x\ny", ["x", "z"], "\n") is None


def test_equal_values_keep_the_order_they_are_given_in():
    """They are different Variables."""
    assert order_in_join("0\n1\n0\n0", ["0", "0", "1", "0"], "\n") == [0, 2, 1, 3]


def test_long_sums_are_quick():
    """1,500 different values, joined in another order than they are known in."""
    values = [f"value {number} {'x' * (number % 7)}" for number in range(1500)]
    started = time.perf_counter()
    assert order_in_join("\n".join(reversed(values)), values, "\n") == list(range(1499, -1, -1))
    assert time.perf_counter() - started < 20


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("ab {}é", max_size=5), min_size=1, max_size=4),
    st.lists(st.text("ab: ", max_size=4), min_size=5, max_size=5),
    st.randoms(),
)
def test_a_filled_format_is_taken_apart(values, literals, random):
    """The texts found for the fields make the same text; braces in values are no fields."""
    names = [f"field {letter}" for letter in string.ascii_lowercase[: len(values)]]
    template = literals[0] + "".join(f"{{{name}}}{literal}" for name, literal in zip(names, literals[1:], strict=False))
    text = template.format(**dict(zip(names, values, strict=True)))
    known = list(dict.fromkeys(values))
    random.shuffle(known)
    found = fields_in_format(template, text, known)
    assert list(found) == names
    assert template.format(**{name: said for name, (_, said) in found.items()}) == text
    assert all(known[number] == said for number, said in found.values())


def test_a_value_that_changed_since_is_cut_out():
    """The literals around it tell what it was."""
    found = fields_in_format("Q: {q}\nA: {a}\nQ again: {q}", "Q: 1\nA: old\nQ again: 1", ["new", "1"])
    assert found == {"q": (1, "1"), "a": (0, "old")}
    assert fields_in_format("{q!r:>9}", "      'x'", ["x"]) == {"q": (0, "      'x'")}
    assert fields_in_format("{", "x", ["x"]) == {}


def test_names_are_identifiers_without_articles():
    """The beginning of the role, up to what it is for."""
    roles = {
        "structured system prompt to a somewhat capable language model": "structured_system_prompt",
        "the query": "query",
        "Code generated that must be evaluated": "code_generated",
        "4th try": "_4th_try",
        "of the": "of",
        "...": "variable",
        "réponse à la question": "réponse_à_la_question",
        "x" * 99: "x" * 40,
    }
    assert {role: name_of_role(role) for role in roles} == roles
    assert unique_names(["x", "x", "x_2", "x"]) == ["x", "x_3", "x_2", "x_4"]
