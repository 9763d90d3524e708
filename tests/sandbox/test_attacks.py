"""Attacks fail for the right reason at every level; the host is unharmed, and the next call works.

Each file in `attacks/` is the source of one attack, `attack(path)` with the path of a secret. What must come of it
stands there as a regular expression for `Type: message` or `returns value`: `WORKER` for a worker process, `NAMESPACE`
and `BWRAP` where these differ, `MONTY`. `THEN` is the next candidate, which must not notice: `THEN_GIVES`.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trace_adapters.errors import SandboxUnavailable
from trace_adapters.sandbox import Limits, SandboxPool, starting

ATTACKS = {path.stem: path for path in sorted((Path(__file__).parent / "attacks").glob("*.py"))}
LIMITS = Limits(grace_s=0.15, memory_mb=256)
FULL = "seccomp+landlock"
ECHO = "def f(x):\n    return x\n"
# the level that must hold -> the sandbox that is asked for, and which expectation counts: the first that there is
LEVELS = {
    f"namespace+{FULL}": ("strict", ("NAMESPACE", "WORKER")),
    FULL: ("strict", ("WORKER",)),
    f"bwrap+{FULL}": ("bwrap", ("BWRAP", "NAMESPACE", "WORKER")),
    "monty": ("monty", ("MONTY",)),
}
_NO_NAMESPACE = "import trace_adapters.sandbox.namespaces as n; n.show_only = lambda *a: False\n"
_START = "from trace_adapters.sandbox.worker import main"


@dataclass(frozen=True)
class Attack:
    text: str
    said: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Attack:
        text = path.read_text(encoding="utf-8")
        named = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
        return cls(text, {node.targets[0].id: ast.literal_eval(node.value) for node in named})


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pool(level: str) -> Iterator[SandboxPool]:
    with pytest.MonkeyPatch.context() as patch, SandboxPool(limits=LIMITS, sandbox=LEVELS[level][0]) as pool:
        if level == FULL:  # what holds where user namespaces are switched off
            patch.setattr(starting, "_BOOT", starting._BOOT.replace(_START, _NO_NAMESPACE + _START))
        try:
            held = pool.level()
        except SandboxUnavailable as error:
            pytest.skip(str(error))
        if held != level:
            pytest.skip(f"this machine confines by {held} only")
        yield pool


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user") / "secret.txt"
    path.write_text("key")
    return path


def outcome(pool: SandboxPool, text: str, path: Path, timeout_s: float) -> str:
    try:
        return f"returns {pool.run(text, 'attack', [str(path)], timeout_s=timeout_s)!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails_for_the_right_reason(pool: SandboxPool, level: str, secret: Path, name: str) -> None:
    attack = Attack.read(ATTACKS[name])
    expected = next(attack.said[key] for key in LEVELS[level][1] if key in attack.said)
    environment = dict(os.environ)
    came = outcome(pool, attack.text, secret, attack.said.get("TIMEOUT_S", 5.0))
    assert re.match(expected, came), came[:300]
    assert secret.read_text() == "key"
    assert secret.stat().st_mode & 0o777 == 0o644 & ~_umask()
    assert [path.name for path in secret.parent.iterdir()] == ["secret.txt"]
    assert dict(os.environ) == environment
    assert pool.run(ECHO, "f", [name]) == name
    if "THEN" in attack.said:
        assert re.match(attack.said["THEN_GIVES"], outcome(pool, attack.said["THEN"], secret, 5.0))


def test_there_are_attacks_of_every_kind() -> None:
    assert len(ATTACKS) >= 100
    for path in ATTACKS.values():
        assert {"WORKER", "MONTY"} <= Attack.read(path).said.keys()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to count processes")
def test_nothing_is_left_of_a_pool_that_was_attacked(secret: Path) -> None:
    before, opened = _children(), len(os.listdir("/proc/self/fd"))
    with SandboxPool(limits=LIMITS) as pool:
        for name in ("fork", "end_the_process", "catch_the_time_limit", "close_everything"):
            outcome(pool, ATTACKS[name].read_text(), secret, 0.15)
    assert _children() == before
    assert len(os.listdir("/proc/self/fd")) <= opened


def _children() -> set[str]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {line.split()[0] for line in listed.stdout.splitlines() if "ps -o" not in line}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
