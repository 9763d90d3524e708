"""Grammars (GBNF) that leave a small model no room to miss the reply's form."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from trace_adapters.lines import split_lines
from trace_adapters.nodes import Parameter

PLACEHOLDER = re.compile(r"(?<!\{)\{[\w.\[\]]*(?:![rsa])?(?::[^{}\n]*)?\}(?!\})")

_JSON = r"""
json ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( string ":" ws json ("," ws string ":" ws json)* )? "}"
array ::= "[" ws ( json ("," ws json)* )? "]"
string ::= "\"" ( [^"\\\x00-\x1f] | "\\" ["\\/bfnrt] )* "\""
number ::= "-"? [0-9]{1,15} ("." [0-9]{1,15})?
ws ::= " "?
"""


def asks_sentences(parameter: Parameter) -> bool:
    """Whether a few sentences are asked for, to go into a text: into instructions, not into an answer."""
    return parameter.kind == "text" and not parameter.asked_whole


def reply_grammar(parameter: Parameter, name: str, current: Any, tag: str, *, last: str = "") -> str:
    """The grammar of a reply that gives one parameter a value in its tag.

    Args:
        parameter: Of instructions, a few sentences are asked for; see `asks_sentences`.
        name: Its name in the prompt.
        current: Its current value.
        tag: The tag.
        last: The sentence that sentences must end with, if any.
    """
    opening, closing = f'<{tag} name="{name}">', f"</{tag}>"
    if parameter.kind == "code":
        return _code_grammar(f"{opening}\n", f"\n{closing}", str(current))
    if asks_sentences(parameter):
        return _text_grammar(f"{opening}\n", f"{last and ' ' + last}\n{closing}")
    return f"root ::= {quote(opening)} answer {quote(closing)}\n{_value_rules(parameter, current)}"


def definition_line(source: str) -> str:
    """The `def` line(s) of the function in a source, up to the colon; of the last one if there are helpers.

    Raises:
        ValueError: If the source has no function.
    """
    functions = [s for s in ast.parse(source).body if isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if not functions:
        raise ValueError(f"Expected the source of a function, got {source!r}.")
    function = functions[-1]
    first = function.body[0]
    if first.lineno > function.lineno:
        lines = split_lines(source)[function.lineno - 1 : first.lineno - 1]
        header = "\n".join(line.rstrip() for line in lines).rstrip()
        if header.endswith(":"):
            return header
    function.body = [ast.Pass()]
    return ast.unparse(function).rsplit("\n", 1)[0]


def quote(text: str) -> str:
    """A text as a GBNF literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _code_grammar(before: str, after: str, source: str) -> str:
    # "import re" costs nothing where it is not needed, and small models forget it where it is.
    start = quote(f"{before}```python\nimport re\n")
    header = quote(f"\n{definition_line(source)}\n")
    return (
        f"root ::= {start} import{{0,2}} {header} line{{1,14}} {quote('```' + after)}\n"
        'import ::= "import " [a-z]{2,12} "\\n"\n'
        'line ::= "    " [^\\n`]{1,110} "\\n"\n'
    )


def _text_grammar(before: str, after: str) -> str:
    # Without colons, which lead into lists that the length limit cuts; whole sentences, not too short ones.
    return (
        f"root ::= {quote(before)} sentence more{{0,2}} {quote(after)}\n"
        'sentence ::= [A-Z] [^.:\\n{}<>]{20,160} "."\n'
        'more ::= " " sentence\n'
    )


def frame_of(text: str, *, replace: bool) -> tuple[str, str]:
    """Where new sentences go in a text: what stays before and after them.

    They come before the first line with a placeholder, which stays with all that follows, or else at the end.

    Args:
        text: The current text.
        replace: Whether they take the place of what stands before.
    """
    match = PLACEHOLDER.search(text)
    start = text.rfind("\n", 0, match.start()) + 1 if match else len(text)
    head, tail = text[:start], text[start:]
    if head and not head.endswith("\n"):
        head += "\n"
    return ("" if replace else head), (f"\n{tail}" if tail else "")


def _value_rules(parameter: Parameter, current: Any) -> str:
    if parameter.kind == "text":
        return 'answer ::= "\\n" character+ "\\n"\ncharacter ::= [^<] | "<" [^/]\n'
    if parameter.kind == "choice":
        return "answer ::= " + _alternatives(parameter.choices) + "\n"
    if isinstance(current, bool):
        return 'answer ::= "true" | "false"\n'
    if parameter.kind == "number":
        fraction = "" if isinstance(current, int) else ' ("." [0-9]{1,6})?'
        return f'answer ::= "-"? [0-9]{{1,9}}{fraction}\n'
    tops: list[tuple[type, str]] = [(dict, "object"), (list, "array"), (str, "string")]
    top = next((rule for kind, rule in tops if isinstance(current, kind)), "json")
    return f"answer ::= {top}\n{_JSON.strip()}\n"


def _alternatives(choices: Sequence[Any]) -> str:
    forms = [choice if isinstance(choice, str) else json.dumps(choice, ensure_ascii=False) for choice in choices]
    return " | ".join(quote(form) for form in forms)
