"""A script of TextGrad runs unchanged: on disk, with its arguments, as Python runs it."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trace_adapters.testing.openai_server import OpenAIServer

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = Path(__file__).parent / "scripts"
PATH = os.pathsep.join(map(str, (ROOT, ROOT / "adapters/textgrad")))


def run(*arguments, cwd, **env):
    """Run Python in a folder, with a home of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    home = {"HOME": str(cwd), "XDG_CACHE_HOME": str(cwd / "cache"), "OPENAI_API_KEY": "none"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**kept, **home, "PYTHONPATH": PATH, **env},
        capture_output=True,
        text=True,
        timeout=110,
    )


def counting_server():
    """Counts from the third prompt on; the fifth prompt makes it forget."""
    versions = itertools.count(1)

    def answer(request):
        system, user = (str(message["content"]) for message in request.messages[:2])
        if "You improve a program from the trace" in system:
            number = next(versions)
            return (
                f"<reasoning>\nIdea {number}.\n</reasoning>\n"
                f'<value name="structured_system_prompt">\nCount, version {number}.\n</value>'
            )
        version = int((re.findall(r"version (\d+)", system) or ["0"])[0])
        number = int(re.findall(r"I have (\d+)", user)[0])
        return f"It is {number if version >= 3 and version != 5 else number + 1}."

    return OpenAIServer(answer)


def updates(server):
    return [r for r in server.requests if "You improve a program from the trace" in str(r.messages[0])]


def test_a_script_on_disk_makes_one_call_a_step(tmp_path):
    """3 epochs of 4 steps, batches of 3, validation with revert: 12 update calls, not a line changed."""
    with counting_server() as server:
        done = run(
            "-m", "trace_adapters_textgrad", "--report", "report.json", SCRIPTS / "counting.py", "--out", "out.json",
            cwd=tmp_path, OPENAI_BASE_URL=server.base_url,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(updates(server)) == 12
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["validation"][0] == 0.0
    assert results["validation"][-1] == 1.0
    assert results["rejected"] == 1
    assert results["prompt"][-1] == "Count, version 12."
    forward = 12 * 3 + 13 * 4  # batches, and validation before the first step and after each
    assert len(server.requests) - 12 <= forward  # TextGrad's own cache answers what was asked before
    assert not any("feedback" in str(r.messages[0]).lower() and r not in updates(server) for r in server.requests)
    assert done.stdout == "gradient: Idea 12.\n"
    assert "no Variable of a numpy.int64" in done.stderr
    assert "12 steps, 12 with new values: 12 model calls of the optimizer" in done.stderr
    assert "TextGrad's own would have made 84 calls" in done.stderr  # 2 x 3 + 1, twelve times
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["steps"], report["calls"], report["textgrad_calls"]) == (12, 12, 84)
    assert report["each"][0]["changed"] == {"structured_system_prompt": "Count, version 1."}
    assert "took these values back" in report["each"][5]["prompt"]


def test_textgrads_way_makes_the_calls_of_textgrad(tmp_path):
    """`--optimizer textgrad`: the same script under textual gradients."""

    def answer(request):
        system = str(request.messages[0]["content"])
        if '<value name="' in system:
            return '<value name="structured_system_prompt">\nCount better.\n</value>'
        return "It is 0." if "Count" in system[:6] else "Count with care."

    with OpenAIServer(answer) as server:
        done = run(
            "-m", "trace_adapters_textgrad", "--optimizer", "textgrad", "--report", "report.json",
            SCRIPTS / "counting.py", "--out", "out.json", "--max_epochs", "1",
            cwd=tmp_path, OPENAI_BASE_URL=server.base_url,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["optimizer"], report["steps"], report["textgrad_calls"]) == ("textgrad", 4, 28)
    assert report["each"][0]["changed"] == {"structured_system_prompt": "Count better."}
    assert report["each"][0]["calls"] > 1


PROBE = """
import json, os, sys
import beside
if __name__ == "__main__":
    known = sorted(set(globals()) - {"__annotations__"})
    main = sys.modules["__main__"]
    print(json.dumps([sys.argv, __file__, sys.path[0], main.__file__, __package__, beside.NAME, known, os.getcwd()]))
"""


def probe(folder, *arguments, cwd):
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_script_sees_what_python_shows_it(tmp_path):
    """Arguments, path, `__main__`, its own folder, modules beside it: the same with and without us."""
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "probe.py").write_text(PROBE)
    (folder / "beside.py").write_text("NAME = 'beside'\n")
    plain = probe(folder, "deep/probe.py", "--optimizer", "-x", "1", cwd=tmp_path)
    ours = probe(folder, "-m", "trace_adapters_textgrad", "deep/probe.py", "--optimizer", "-x", "1", cwd=tmp_path)
    assert ours == plain
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "beside.py").write_text("NAME = 'relative'\n")
    (package / "probe.py").write_text(PROBE.replace("import beside", "from . import beside"))
    plain = probe(folder, "-m", "pack.probe", "x", cwd=tmp_path)
    ours = probe(folder, "-m", "trace_adapters_textgrad", "-m", "pack.probe", "x", cwd=tmp_path)
    assert ours == plain


def test_a_script_that_fails_fails_as_it_would(tmp_path):
    """Its traceback, its exit status; the report comes all the same."""
    (tmp_path / "fails.py").write_text("import sys\nprint('begun')\nif len(sys.argv) > 1: sys.exit(3)\n1 / 0\n")
    done = run("-m", "trace_adapters_textgrad", "--report", "r.json", "fails.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "begun\n")
    assert f'File "{tmp_path / "fails.py"}", line 4' in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "No step was made with our optimizers." in done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["steps"] == 0
    assert run("-m", "trace_adapters_textgrad", "fails.py", "x", cwd=tmp_path).returncode == 3
    missing = run("-m", "trace_adapters_textgrad", "nothing.py", cwd=tmp_path)
    assert missing.returncode == 2
    assert "there is no file 'nothing.py'" in missing.stderr
    folder = run("-m", "trace_adapters_textgrad", ".", cwd=tmp_path)
    assert folder.returncode == 2
    assert "give the script in it" in folder.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_child_that_runs_to_the_end_reports_nothing(tmp_path):
    """One report, by the process that was started."""
    (tmp_path / "forks.py").write_text("import os\nif os.fork():\n    os.wait()\nprint('end', flush=True)\n")
    done = run("-m", "trace_adapters_textgrad", "--report", "r.json", "forks.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "end\nend\n")
    assert done.stderr.count("No step was made with our optimizers.") == 1


def test_a_report_that_cannot_be_written_is_refused_at_once(tmp_path):
    """Not when a script of hours has ended."""
    (tmp_path / "script.py").write_text("print('begun')\n")
    for report, said in [("nowhere/r.json", "there is no folder"), (".", "is a folder")]:
        done = run("-m", "trace_adapters_textgrad", "--report", report, "script.py", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


@pytest.mark.parametrize(
    ("statement", "logs"), [("import trace_adapters_textgrad.shims", False), ("import textgrad", True)]
)
def test_importing_us_leaves_nothing_behind(tmp_path, statement, logs):
    """TextGrad alone makes ./logs; where we are the first to import it, it does not. No price list is fetched."""
    check = "import os; assert os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] == 'True'; import textgrad"
    done = run("-c", f"{statement}; {'' if logs else check}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "logs").exists() == logs


def test_the_face_costs_nothing_until_it_is_used(tmp_path):
    """`import trace_adapters_textgrad` does not import TextGrad."""
    done = run("-c", "import sys, trace_adapters_textgrad; print('textgrad' in sys.modules)", cwd=tmp_path)
    assert done.stdout == "False\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_script_may_use_a_pool_of_processes(tmp_path):
    """Functions of the script are found in the children, and their steps are in the report."""

    def answer(request):
        if "You improve a program from the trace" not in str(request.messages[0]):
            return "It is wrong."
        version = len(re.findall("# version", str(request.messages[1]))) + 1
        code = f"def f(x):\n    return {{1: f'{{x + 1}}'}}  # version {version}"
        value = f'<value name="code_generated">\n```python\n{code}\n```\n</value>'
        return f"<reasoning>\nSay it better.\n</reasoning>\n{value}"

    with OpenAIServer(answer) as server:
        done = run(
            "-m", "trace_adapters_textgrad", "--report", "r.json", SCRIPTS / "coding.py", "7",
            cwd=tmp_path, OPENAI_BASE_URL=server.base_url,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  # version") == 3
    assert done.stdout.count(" True\n") == 3
    assert json.loads((tmp_path / "r.json").read_text())["steps"] == 6
    assert "6 steps, 6 with new values: 6 model calls" in done.stderr
