"""The examples in the documentation run."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize("name", ["tracing.md", "from-trace.md"])
def test_examples_run(name):
    """All blocks of a page in order, as one program."""
    text = (DOCS / name).read_text(encoding="utf-8")
    names = {"__name__": f"docs_{name.partition('.')[0].replace('-', '_')}"}
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    assert blocks
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        source = "\n" * line + block[1]  # so that a traceback names the line of the page
        filename = str(DOCS / name) + f":{line}"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        exec(compile(source, filename, "exec"), names)


def test_pages_name_only_what_is_there():
    """Links lead to files."""
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([\w./-]+\.md)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
