"""Scripts run as Python runs them, with our optimizers in the place of TextGrad's."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PROGRAM = "python -m trace_adapters_textgrad"
_OPTIONAL = ("feedback", "max_prompt_tokens", "memory")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a script; options stand before its name, what stands after it is its own."""
    options = _parser().parse_args(arguments)
    if not options.module and not os.path.isfile(options.script):
        said = "give the script in it" if os.path.isdir(options.script) else "give the name of a script"
        _parser().error(f"there is no file {options.script!r}; {said}")
    if options.report is not None:
        _check_report(options.report)
    if find_spec("textgrad") is None:
        _parser().error("TextGrad is not installed here; pip install 'trace-adapters[textgrad]'")
    report = None if options.report is None else os.path.abspath(options.report)  # the script may go elsewhere
    process = os.getpid()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import_module("textgrad")  # before our modules, which would leave out the logs that a script may count on
    patching = import_module("trace_adapters_textgrad.patching")
    terms: dict[str, Any] = {"optimizer": options.optimizer, "on_error": options.on_error}
    terms |= {name: getattr(options, name) for name in _OPTIONAL if getattr(options, name) is not None}
    start = run_module if options.module else run
    session = None
    try:
        with patching.patched(**terms) as session:
            start(options.script, options.arguments)
    finally:
        if session is not None and os.getpid() == process:
            sys.stderr.write(f"trace-adapters: {session}\n")
            if report is not None:
                session.write(report)


def run(script: str, arguments: Sequence[str]) -> None:
    """Run a file as `python SCRIPT ARGUMENTS` does: as `__main__`, with its folder first on the path."""
    path = os.path.abspath(script)
    module = ModuleType("__main__")
    vars(module).update(
        __annotations__={},
        __builtins__=__builtins__,
        __cached__=None,
        __file__=path,
        __loader__=SourceFileLoader("__main__", path),
        __package__=None,
    )
    sys.argv = [script, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    sys.modules["__main__"] = module
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, vars(module))  # noqa: S102  # the user's own script


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run a module as `python -m NAME ARGUMENTS` does."""
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _check_report(path: str) -> None:
    """End here if the report could not be written when the script has ended."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        _parser().error(f"there is no folder {folder!r} for the report")
    if os.path.isdir(path):
        _parser().error(f"the report {path!r} is a folder; give the name of a file")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s [options] SCRIPT [ARGUMENTS]\n       %(prog)s [options] -m MODULE [ARGUMENTS]",
        description="Run a TextGrad script unchanged: one model call for each optimizer step.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--optimizer", choices=("optoprime", "textgrad"), default="optoprime", help="default: optoprime"
    )
    parser.add_argument("--report", metavar="FILE", help="write what every step did to this file, as JSON")
    parser.add_argument("--feedback", metavar="TEXT", help="what is said of every evaluation")
    parser.add_argument("--max-prompt-tokens", type=int, metavar="N", help="limit of a prompt's estimated length")
    parser.add_argument("--memory", type=int, metavar="N", help="past attempts that a prompt shows")
    parser.add_argument(
        "--on-error", choices=("skip", "raise"), default="skip", help="when two replies in a row cannot be used"
    )
    parser.add_argument("-m", dest="module", action="store_true", help="run the module of that name instead of a file")
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS")
    return parser
