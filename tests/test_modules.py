"""What modules promise."""

from __future__ import annotations

import errno
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import trace_adapters as ta
from trace_adapters.errors import DataError, ParameterError, UntrustedCode
from trace_adapters.targets import failure_feedback, wrap


class Agent(ta.Module):
    def __init__(self):
        self.template = ta.node("Answer: {q}", name="template", trainable=True)
        self.parts = {"limits": [ta.node(3, name="limit", trainable=True)]}

    @ta.bundle(trainable=True)
    def fill(self, template, q):
        return template.format(q=q)

    def forward(self, q):
        return self.fill(self.template, q)


def test_parameters_are_found_in_attributes_containers_and_methods():
    """Everything trainable that the object holds is found, in order."""
    assert list(Agent().parameters_dict()) == ["template", "limit", "fill"]


@dataclass
class Limits:
    lowest: int
    highest: ta.Node


def test_dataclasses_are_containers():
    """As for a bundle's arguments: what a dataclass holds counts as held."""

    class Bounded(ta.Module):
        def __init__(self):
            self.limits = [Limits(1, ta.node(9, trainable=True))]

    module = Bounded()
    assert module.values() == {"limits.0.highest": 9}
    module.copy().set_values({"limits.0.highest": 8})
    assert module.limits[0].highest.data == 9


def test_equal_keys_become_paths():
    """Two parts with the same key are told apart by where they are."""

    class Pair(ta.Module):
        def __init__(self):
            self.left, self.right = Agent(), Agent()

    assert list(Pair().parameters_dict())[:2] == ["left.template", "left.parts.limits.0"]


def test_save_and_load_bring_values_back(tmp_path):
    """What is saved is JSON; what is loaded is what was saved."""
    agent, other = Agent(), Agent()
    agent.template.data = "Q: {q}"
    agent.save(tmp_path / "agent.json")
    assert json.loads((tmp_path / "agent.json").read_text())["values"]["template"] == "Q: {q}"
    other.load(tmp_path / "agent.json")
    assert other.values() == agent.values()


def test_loading_learned_code_needs_consent(tmp_path):
    """A file never brings code in without allow_code=True."""
    agent, other = Agent(), Agent()
    agent.fill.parameter.data = "def fill(self, template, q):\n    return q"
    agent.save(tmp_path / "agent.json")
    with pytest.raises(UntrustedCode, match="fill"):
        other.load(tmp_path / "agent.json")
    assert other.values() == Agent().values()
    other.load(tmp_path / "agent.json", allow_code=True)
    assert other("x").data == "x"


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other"}'])
def test_a_foreign_file_is_a_clear_error(tmp_path, text):
    """Nothing is changed by a file that is none of ours."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError):
        Agent().load(tmp_path / "x.json")


def test_values_are_set_all_or_none():
    """One bad value leaves everything as it was."""
    agent = Agent()
    with pytest.raises(ParameterError):
        agent.set_values({"template": "new {q}", "fill": "def other(): pass"})
    assert agent.values() == Agent().values()


def test_a_copy_has_parameters_of_its_own():
    """Changing the copy does not change the original, nor its bundles."""
    agent = Agent()
    agent("x")
    copied = agent.copy()
    copied.template.data = "changed {q}"
    copied.fill.parameter.data = "def fill(self, template, q):\n    return 'copied'"
    assert (agent("1").data, copied("1").data) == ("Answer: 1", "copied")


def test_static_and_class_methods_have_sources_of_their_own_too():
    """A copy with learned sources leaves the original as it was."""

    class Mixed(ta.Module):
        base = 10

        @ta.bundle(trainable=True, trust="in-process")
        @staticmethod
        def static(x):
            return x

        @ta.bundle(trainable=True, trust="in-process")
        @classmethod
        def of_class(cls, x):
            return cls.base + x

    mixed = Mixed()
    other = mixed.copy()
    other.set_values(
        {"static": "def static(x):\n    return -x\n", "of_class": "def of_class(cls, x):\n    return cls.base - x\n"}
    )
    assert [mixed.static(1).data, mixed.of_class(1).data, other.static(1).data, other.of_class(1).data] == [
        1,
        11,
        -1,
        9,
    ]
    assert repr(mixed.static) == "<trainable bundle static(x)>"


def test_model_makes_a_module_of_a_class():
    """@model keeps name and methods."""

    @ta.model
    class Doubler:
        """Doubles."""

        def __init__(self):
            self.factor = ta.node(2, name="factor", trainable=True)

        def forward(self, x):
            return self.factor * x

    assert Doubler.__name__ == "Doubler"
    assert Doubler()(4).data == 8
    assert Doubler().parameters()[0].key == "factor"


def test_a_bundle_saves_and_loads_its_source(tmp_path):
    """As a module does."""
    extract = ta.bundle(trainable=True)(plain)
    extract.parameter.data = "def plain(x):\n    return 'learned'\n"
    extract.save(tmp_path / "deep" / "f.json")
    other = ta.bundle(trainable=True)(plain)
    with pytest.raises(UntrustedCode):
        other.load(tmp_path / "deep" / "f.json")
    other.load(tmp_path / "deep" / "f.json", allow_code=True)
    assert other(1).data == "learned"


def test_a_file_of_another_function_is_not_taken_for_this_ones(tmp_path):
    """It was ignored in silence, and the function went on unlearned."""
    ta.bundle(trainable=True, name="other")(plain).save(tmp_path / "f.json")
    with pytest.raises(ta.ParameterError, match="no parameter other; there are \\['plain'\\]"):
        ta.bundle(trainable=True)(plain).load(tmp_path / "f.json")


def plain(x):
    return x


WRITES = {
    "save": lambda path: Agent().save(path),
    "export": lambda path: Agent().export(path),
    "bundle": lambda path: ta.bundle(trainable=True)(plain).save(path),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_cannot_be_written_is_a_data_error_and_leaves_nothing(tmp_path, write, monkeypatch):
    """The error names the path and the reason; no half-written file stays, and an old one stays as it was."""

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(DataError, match=r"folder cannot be written: Is a directory"):
        write(tmp_path / "folder")
    with pytest.raises(DataError, match=r"file/below cannot be written: "):
        write(tmp_path / "file" / "below")
    with pytest.raises(DataError, match="no file name"):
        write("")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DataError, match=r"file cannot be written: Read-only file system"):
        write(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"


def test_threads_that_save_to_one_file_leave_a_whole_one(tmp_path):
    """Each writes beside the file under a name of its own; the last one stands."""
    agents = [Agent() for _ in range(8)]
    for number, agent in enumerate(agents):
        agent.set_values({"template": f"{number}" * 200_000})
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda agent: [agent.save(tmp_path / "a.json") for _ in range(10)], agents))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    last = Agent()
    last.load(tmp_path / "a.json")
    assert last.values()["template"] in {agent.values()["template"] for agent in agents}


def test_a_text_that_no_file_can_hold_is_a_data_error(tmp_path):
    """Half a surrogate pair is no UTF-8."""
    agent = Agent()
    agent.template.data = "\ud800{q}"
    with pytest.raises(DataError, match=r"a\.json cannot be written: .*surrogates"):
        agent.save(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


class Asking(ta.Module):
    """Gives a node to a function that is no bundle."""

    def __init__(self, ask):
        self.template = ta.node("Say {q}", name="template", trainable=True)
        self.ask = ask

    def forward(self, q):
        return self.ask(self.template.format(q=q), self.template)


class Unchangeable(Exception):
    def __str__(self):
        return "Input should be a valid string [input_value=<Node format='Say x'>, input_type=Node]"


def refuse_with_text(*_):
    raise Unchangeable


@pytest.mark.parametrize(
    ("ask", "begins"),
    [
        (lambda text, _: json.dumps([{"content": text}]), "Object of type Node is not JSON serializable"),
        (lambda _, template: json.dumps(template), "Object of type Parameter is not JSON serializable"),
        (lambda text, _: " ".join([text]), "sequence item 0: expected str instance, Node found"),
        (lambda text, _: re.match("a", text), "expected string or bytes-like object"),
        (lambda text, _: Path(text), ("expected str, bytes", "argument should be a str")),
    ],
)
def test_a_plain_function_that_cannot_take_a_node_is_told_of(ask, begins):
    """The error keeps its type and its text, and says what to do; also as the feedback of the run."""
    inner = Asking(ask)
    for program in (inner, Asking(lambda *_: inner("x"))):
        with pytest.raises(TypeError) as caught:
            program("x")
        assert str(caught.value).startswith(begins)
        assert str(caught.value).count("decorate it with @ta.bundle, or pass node.data") == 1
    run = wrap(inner).run({}, {"q": "x"})
    assert "decorate it with @ta.bundle" in failure_feedback(run).text


def test_an_error_with_a_text_of_its_own_gets_a_note():
    """What cannot be changed is added to."""
    with pytest.raises(Unchangeable) as caught:
        Asking(refuse_with_text)("x")
    assert "decorate it with @ta.bundle" in caught.value.__notes__[0]


def test_an_error_that_cannot_be_read_goes_through():
    """Looking at an error never hides it."""

    class Unreadable(Exception):
        def __str__(self):
            raise KeyError("text")

    def fail(*_):
        raise Unreadable

    with pytest.raises(Unreadable):
        Asking(fail)("x")


@pytest.mark.parametrize("message", ["no Node here", "Value is wrong", "x", ""])
def test_other_errors_are_left_alone(message):
    """Only what names one of our nodes as a type is about nodes."""

    def fail(*_):
        raise TypeError(message)

    with pytest.raises(TypeError) as caught:
        Asking(fail)("x")
    assert str(caught.value) == message
    assert not hasattr(caught.value, "__notes__")


def test_a_parameter_of_two_places_is_one_in_a_copy_too():
    """Else a step would change one of them only."""
    agent = Agent()
    agent.again = agent.template
    other = agent.copy()
    other.set_values({"template": "new"})
    assert (other.again.data, other.again is other.template, agent.again.data) == ("new", True, "Answer: {q}")
