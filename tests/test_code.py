"""The source of a function is a value: taken as written, checked, compiled once, its errors shown at their line."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json as encoded
import linecache
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trace_adapters.code import (
    CodeSpec,
    check_source,
    compile_source,
    error_place,
    load_function,
    read_source,
    spec_of,
)
from trace_adapters.errors import CodeError, ParameterError
from trace_adapters.lines import annotate
from trace_adapters.source_surroundings import used_names

LIMIT = 3
WORDS = ["yes", "no"]
PATTERN = re.compile("a+")
SECRET = object()


def decorate(*_: Any, **__: Any) -> Any:
    return lambda function: function


@decorate("@bundle(", x=")")
@decorate()
def plain(question, *, limit=LIMIT):
    """Answer.

    With care.
    """
    # a comment
    text = """kept
  as is"""
    return encoded.dumps([question, limit, text, WORDS, Counter(PATTERN.findall(question))])
    # the last comment


def uses_what_is_away(x):
    return missing_helper(x) + str(SECRET)  # noqa: F821


class Holder:
    @staticmethod
    def static(x: int, /, y: str = "a") -> str:
        return y * x

    @classmethod
    def of_class(cls, x):
        return cls, x

    def method(self, x, *rest, key=None, **options):
        return [self, x, rest, key, options]

    def private(self):
        return self.__hidden


def enclosing(n):
    suffix = "!"

    async def nested(text):
        return text * n + suffix

    return nested


def test_source_is_the_def_alone_with_its_comments_and_strings_as_written():
    assert read_source(plain).text == (
        "def plain(question, *, limit=LIMIT):\n"
        '    """Answer.\n\n    With care.\n    """\n'
        "    # a comment\n"
        '    text = """kept\n  as is"""\n'
        "    return encoded.dumps([question, limit, text, WORDS, Counter(PATTERN.findall(question))])\n"
        "    # the last comment\n"
    )


def test_source_carries_what_it_takes_from_around_it():
    source = read_source(plain)
    assert source.name == "plain"
    assert source.arguments == ("question", "limit")
    assert (source.imports["encoded"], source.imports["Counter"]) == ("json", "collections:Counter")
    assert source.constants == {"LIMIT": 3, "WORDS": ["yes", "no"], "PATTERN": PATTERN}
    assert source.constants["WORDS"] is not WORDS
    assert source.unavailable == ()
    assert source.spec == CodeSpec("plain", "(question, *, limit=LIMIT)", doc="Answer.\n\nWith care.")
    assert Path(source.filename).name == "test_code.py"
    assert linecache.getline(source.filename, source.first_line).startswith("def plain(")


def test_names_that_a_sandbox_cannot_have_are_listed():
    assert read_source(uses_what_is_away).unavailable == ("SECRET", "missing_helper")
    assert read_source(uses_what_is_away, uses=("missing_helper",)).unavailable == ("SECRET",)


@pytest.mark.parametrize(
    ("function", "first_line", "parameters"),
    [
        (Holder.static, 'def static(x: int, /, y: str = "a") -> str:', "(x, /, y='a')"),
        (Holder.of_class, "def of_class(cls, x):", "(cls, x)"),
        (Holder().method, "def method(self, x, *rest, key=None, **options):", "(self, x, *rest, key=None, **options)"),
        (enclosing(2), "async def nested(text):", "(text)"),
    ],
)
def test_methods_and_nested_functions_are_dedented(function, first_line, parameters):
    source = read_source(function)
    assert source.text.split("\n")[0] == first_line
    assert source.spec.parameters == parameters
    check_source(source.text, source.spec)


def test_closure_values_are_constants():
    source = read_source(enclosing(2))
    assert source.constants == {"n": 2, "suffix": "!"}
    assert source.spec.is_async


def test_inner_functions_of_a_wrapped_function_are_seen_through():
    @functools.lru_cache
    def cached(x):
        return x

    assert read_source(cached).text == "def cached(x):\n    return x\n"


@pytest.mark.parametrize(
    ("thing", "word"),
    [
        (lambda x: x, "lambda"),
        (len, "built in"),
        ("a".upper, "built in"),
        (functools.partial(plain, "a"), "partial"),
        (Holder, "class"),
        (Holder(), "Holder"),
        (3, "int"),
        (Holder().private, "private name"),
    ],
)
def test_what_has_no_source_of_its_own_is_refused_with_advice(thing, word):
    with pytest.raises(CodeError, match=word):
        read_source(thing)


def test_a_function_made_by_exec_has_no_source():
    namespace: dict[str, Any] = {}
    exec("def made(x): return x", namespace)
    with pytest.raises(CodeError, match=r"prompt, or made by exec"):
        read_source(namespace["made"])


def test_a_notebook_cell_is_read_through_linecache():
    name, text = "<ipython-input-7-abc>", "x = 1\n\ndef cell(a):\n    return a + x\n"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {}
    exec(compile(text, name, "exec"), namespace)
    assert read_source(namespace["cell"]).text == "def cell(a):\n    return a + x\n"


def test_a_file_changed_after_import_is_noticed(tmp_path):
    path = tmp_path / "changing.py"
    path.write_text("def one(x):\n    return x\n")
    module = _import(path)
    path.write_text("# a new line\n\ndef one(x):\n    return x\n")
    with pytest.raises(CodeError, match="changed after it was imported"):
        read_source(module.one)


def test_reading_works_after_dspy_has_replaced_inspect():
    pytest.importorskip("dspy")
    assert read_source(plain).name == "plain"


SPEC = CodeSpec("answer", "(question, n=1)", uses=("call_lm",))


@pytest.mark.parametrize(
    "text",
    [
        "def answer(question, n=1):\n    return question",
        "def answer(question: str, n: int = 1) -> str:\n    return call_lm(question)",
        '"""Doc."""\nfrom __future__ import annotations\nimport re, os.path as p\n'
        'A = B = -1\nC: int = 2\nD = {"a": [1, (2,)]}\n'
        'E, F = 1, "x" + "y"\nR = re.compile(r"\\d")\n\n@decorated\nclass H: ...\n\ndef help(x): return x\n\n'
        "def answer(question, n=1):\n    return help(question)\n\nasync def more(): ...",
    ],
)
def test_sources_that_keep_the_rules_pass(text):
    check_source(text, SPEC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def answer(question, n=1:\n    return 1", "syntax error in line 1.*'def answer"),
        ("", "defines no function"),
        ("def reply(question, n=1): return 1", "only 'reply'.*Keep its name"),
        ("def answer(question): return 1", r"must be \(question, n=1\), got \(question\)"),
        ("def answer(question, n=2): return 1", r"got \(question, n=2\)"),
        ("def answer(n=1, question=2): return 1", "Keep the names, their order and their defaults"),
        ("def answer(question, *, n=1): return 1", r"got \(question, \*, n=1\)"),
        ("async def answer(question, n=1): return 1", "must not be async"),
        ("class answer: ...", "not a class"),
        ("def answer(question, n=1): return 1\ndef answer(question, n=1): return 2", "defined 2 times"),
        ("@cache\ndef answer(question, n=1): return 1", "no decorator. Remove `@cache`"),
        ("def answer(question, n=1): return 1\nprint(answer('a'))", "Line 2, `print"),
        ("for i in range(3): pass\ndef answer(question, n=1): return 1", "Line 1"),
        ("def answer(question, n=1): return 1\nif __name__ == '__main__': pass", "Line 2"),
        ("X = open('a')\ndef answer(question, n=1): return 1", "Line 1"),
        ("X = [open('a')]\ndef answer(question, n=1): return 1", "Line 1"),
        ("from os import *\ndef answer(question, n=1): return 1", "Line 1"),
        ("from . import x\ndef answer(question, n=1): return 1", "Line 1"),
        ("def answer(question, n=1): return 1\nanswer = 3", "gives the name 'answer'"),
        ("import re as call_lm\ndef answer(question, n=1): return 1", "redefines 'call_lm'"),
        ("def answer(question, n=1):\n    yield from (await x)", "syntax error"),
        ("return 1\ndef answer(question, n=1): return 1", "Line 1"),
        ("def answer(question, n=1):\n    x: int\n    nonlocal y", "syntax error"),
        ("def answer(question, n=1): return 1\x00", "cannot be parsed|syntax error"),
        ("```python\ndef answer(question, n=1): return 1\n```", "syntax error in line 1"),
        ("x = " + "(" * 5_000 + ")" * 5_000, "cannot be parsed|syntax error"),
        ("#" * 100_001, "at most"),
    ],
)
def test_sources_that_break_the_rules_are_refused_with_a_sentence(text, message):
    with pytest.raises(CodeError, match=message):
        check_source(text, SPEC)


def test_a_proposal_that_is_no_text_is_refused():
    with pytest.raises(ParameterError, match="must be a string, got list"):
        check_source(["def answer"], SPEC)  # type: ignore[arg-type]


def test_specs_of_a_program_name_what_it_provides():
    assert spec_of(read_source(plain), uses=("call_lm",)).uses == ("call_lm",)


def test_a_source_is_compiled_once():
    assert compile_source("def f():\n    return 1\n") is compile_source("def f():\n    return 1\n")


def test_a_loaded_function_is_found_by_name_and_brings_its_own_helpers():
    text = (
        "import math\nK = 2\n\ndef helper(x):\n    return x * K\n\n"
        "def plain(question, *, limit=LIMIT):\n    return [helper(math.floor(question)), limit]\n"
    )
    loaded = load_function(text, "plain", plain)
    assert loaded(2.5) == [4, 3]
    assert "helper" not in globals()
    assert read_source(loaded).text == text[text.index("def plain") :]


def test_a_loaded_function_sees_globals_and_closure_as_they_are_now(monkeypatch):
    loaded = load_function("async def nested(text):\n    return [text, n, suffix, LIMIT]", "nested", enclosing(7))
    monkeypatch.setitem(globals(), "LIMIT", 50)
    assert asyncio.run(loaded("a")) == ["a", 7, "!", 50]


def test_a_loaded_method_can_call_super():
    class Parent:
        def greet(self):
            return "parent"

    class Child(Parent):
        def greet(self):
            return super().greet()

    loaded = load_function("def greet(self):\n    return 'new ' + super().greet()", "greet", Child.greet)
    assert loaded(Child()) == "new parent"


def test_annotations_of_a_source_are_never_evaluated():
    assert load_function("def f(x: Unknown) -> 1/0:\n    return x", "f", {})(3) == 3


def test_a_source_that_does_not_define_the_name_cannot_be_loaded():
    with pytest.raises(CodeError, match="'f'"):
        load_function("def g(x): return x", "f", {})


def test_an_error_is_found_at_its_line_in_the_source():
    text = "def helper(x):\n    return x[5]\n\ndef f(x):\n    return helper(x)\n"
    with pytest.raises(IndexError) as raised:
        load_function(text, "f", {})([])
    assert error_place(raised.value) == (2, "    return x[5]")
    assert error_place(raised.value, text) == (2, "    return x[5]")
    assert error_place(raised.value, "another text") is None
    assert error_place(ValueError("never raised")) is None


def test_an_error_in_the_original_file_is_found_in_its_source():
    source = read_source(Holder.static)
    with pytest.raises(TypeError) as raised:
        Holder.static("a", "b")
    assert error_place(raised.value, source) == (2, "    return y * x")


def test_a_place_that_came_from_elsewhere_is_believed_also_through_causes():
    inner = ValueError("inner")
    inner.trace_adapters_place = (3, "line")  # type: ignore[attr-defined]
    outer = RuntimeError("outer")
    outer.__cause__ = inner
    assert error_place(outer) == (3, "line")


def test_the_message_stands_beside_the_failing_line():
    assert annotate("def f(a):\n    x = a[1]\n    return x\n", (2, "    x = a[1]"), "IndexError: list\nindex") == (
        "def f(a):\n    x = a[1]   # <--- IndexError: list index\n    return x\n"
    )
    assert annotate("a = 1", None, "message") == "a = 1"
    assert annotate("a = 1", (9, ""), "message") == "a = 1"


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.pop(path.stem, None)
    spec.loader.exec_module(module)
    return module


def test_global_in_a_helper_means_the_text_it_stands_in():
    text = (
        "count = 0\n\ndef bump():\n    global count\n    try:\n        count += 1\n    finally:\n        pass\n\n"
        "def f():\n    bump()\n    bump()\n    return count\n"
    )
    around = {"count": 40}
    assert load_function(text, "f", around)() == 2
    assert around["count"] == 40


def test_global_of_a_name_that_the_text_does_not_bind_is_the_modules():
    around = {"total": 40}
    text = "def f(n):\n    global total\n    total += n\n    return total\n"
    assert load_function(text, "f", around)(2) == 42
    assert around["total"] == 42


def test_lines_of_a_string_in_an_indented_function_stay_as_they_are():
    """The source is dedented, what it means is not."""

    def inner(x):
        return f"""{x}:
            kept
    as is"""

    text = read_source(inner).text
    assert text.startswith("def inner(x):\n    return")
    assert load_function(text, "inner", {})("a") == inner("a")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are of Python 3.12")
def test_names_that_type_parameters_of_a_class_use_are_seen():
    """Python 3.12 reads them by an instruction of their own."""
    names: dict[str, object] = {}
    exec(
        "def f(x):\n"
        "    class C:\n"
        "        def m[T: Bound](self) -> T: return self\n"
        "        type A = Alias\n"
        "    return C\n",
        names,
    )
    assert used_names(names["f"].__code__) >= {"Bound", "Alias"}


LOCKS = [threading.Lock()]
NAMES = {"a": [1, ("b",)]}


def uses_a_list_of_locks(x):
    return len(LOCKS) + len(NAMES)


def test_containers_of_other_objects_are_no_constants():
    """They would be copied, which fails for a lock; a sandbox could not have them."""
    source = read_source(uses_a_list_of_locks)
    assert (dict(source.constants), source.unavailable) == ({"NAMES": NAMES}, ("LOCKS",))
