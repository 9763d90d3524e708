"""What an exported program promises."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys

import pytest

import trace_adapters as ta
from trace_adapters.errors import DataError

HALF = 0.5  # used by the class below
UNUSED = print


def rounded(x):
    return math.floor(x + HALF)


def named(key):
    return ta.node("given", key, trainable=True)


class Agent(ta.Module):
    """Answers."""

    def __init__(self):
        self.template = ta.node("Answer: {q}", name="template", trainable=True, description="ä prompt")
        self.limit = ta.node(3, "limit", trainable=True)
        self.given = named("name")
        self.parts = [ta.node(n, trainable=True) for n in (1, 2)]

    @ta.bundle(trainable=True)
    def fill(self, template, q):
        return template.format(q=q)

    def forward(self, q):
        return self.fill(self.template, q)

    def size(self):
        return rounded(self.limit.data)

    def label(self):
        return "a ".replace("a", "name") + self.given.data


def loaded(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_the_program_with_its_values(tmp_path):
    """Learned functions and values stand where the original ones stood; the rest is set at the end."""
    agent = Agent()
    agent.template.data = "Say:\n{q}"
    agent.limit.data = 7.6
    agent.parts[1].data = 20
    agent.fill.parameter.data = "def fill(self, template, q):\n    # learned\n    return template.format(q=q) + '!'\n"
    agent.export(tmp_path / "deep" / "agent.py")
    text = (tmp_path / "deep" / "agent.py").read_text()
    assert 'node("""Say:\n{q}""", name="template"' in text
    assert "    def fill(self, template, q):\n        # learned\n" in text
    assert "import math" in text
    assert "UNUSED" not in text
    assert "test_the_file" not in text
    other = loaded(tmp_path / "deep" / "agent.py", "exported_agent").Agent()
    assert other("x").data == "Say:\nx!"
    assert other.size() == 8
    assert other.values() == {**agent.values(), "fill": other.fill.parameter.data}
    assert other.label() == agent.label() == "name given"
    other.export(tmp_path / "again.py")
    assert loaded(tmp_path / "again.py", "exported_again").Agent().values()["parts.1"] == 20


FED = """
import trace_adapters as ta

MARK = "page\u2028break"
\f
class Fed(ta.Module):
    def __init__(self):
        self.template = ta.node("Hi {q}", name="template", trainable=True)

    @ta.bundle(trainable=True)
    def fill(self, template, q):
        return template.format(q=q) + MARK

    def forward(self, q):
        return self.fill(self.template, q)
"""


@pytest.mark.parametrize(
    "text", ["a\r\nb {q}", "a\nb\x00 {q}", "\f\n{q}", "one\n\u2028{q}", "tab\t\n{q}", 'quoted\n{q}"']
)
def test_signs_that_end_lines_for_some_only_change_nothing(tmp_path, monkeypatch, text):
    """A form feed ends no line of Python's; a return in a literal would become a line feed."""
    (tmp_path / "fed_module.py").write_text(FED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "fed_module", raising=False)
    fed = importlib.import_module("fed_module").Fed()
    fed.template.data = text
    fed.fill.parameter.data = "def fill(self, template, q):\n    return template.format(q=q) + '!' + MARK\n"
    fed.export(tmp_path / "exported.py")
    other = loaded(tmp_path / "exported.py", "exported_fed").Fed()
    assert other.values()["template"] == text
    assert other("x").data == text.format(q="x") + "!page\u2028break"


PACKAGED = """
from __future__ import annotations
from math import *
from .helpers import shout
from . import helpers as kept
import trace_adapters as ta

for name in ("a", "b"):
    LAST = name
TABLE = {}
TABLE["x"] = 4
TABLE.update(y=5)
OTHER = []
OTHER.append(1)

class Base(ta.Module):
    def __init__(self):
        self.template = ta.node("Hi {q}", name="template", trainable=True)

class Greeter(Base):
    def forward(self, q):
        from .helpers import shout as loud
        return ta.format(self.template, q=f"{shout(q)}{loud(q)}{kept.MARK}{sqrt(4)}{LAST}{TABLE}")
"""


def test_what_the_module_does_to_make_its_names_is_in_the_file(tmp_path, monkeypatch):
    """Loops, changes of a table, star imports and imports from the own package; the file may stand anywhere."""
    package = tmp_path / "in" / "exported_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "helpers.py").write_text("MARK = '?'\ndef shout(text):\n    return text.upper()\n")
    (package / "greeter.py").write_text(PACKAGED)
    monkeypatch.syspath_prepend(str(tmp_path / "in"))
    greeter = importlib.import_module("exported_package.greeter").Greeter()
    greeter.template.data = "Yo {q}"
    greeter.export(tmp_path / "greeter.py")
    text = (tmp_path / "greeter.py").read_text()
    assert "OTHER" not in text
    other = loaded(tmp_path / "greeter.py", "exported_greeter").Greeter()
    assert other("a").data == greeter("a").data == "Yo AA?2.0b{'x': 4, 'y': 5}"


def test_a_function_with_helpers_is_set_at_the_end(tmp_path):
    """What cannot stand in a class is a learned value."""
    agent = Agent()
    source = "def mark():\n    return '?'\n\ndef fill(self, template, q):\n    return q + mark()\n"
    agent.fill.parameter.data = source
    agent.export(tmp_path / "agent.py")
    assert loaded(tmp_path / "agent.py", "exported_helpers").Agent()("x").data == "x?"


def test_a_local_class_cannot_be_exported(tmp_path):
    """It needs what only its function knows; the error says what to do."""

    class Local(ta.Module):
        pass

    with pytest.raises(DataError, match="top level"):
        Local().export(tmp_path / "x.py")
