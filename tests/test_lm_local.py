"""The embedded model: one server process for all clients, on real weights (skipped where they are not fetched)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trace_adapters.errors import ModelError, ModelUnavailable, SettingError
from trace_adapters.lm import LM
from trace_adapters.lm.weights import find_weights, home, model_path

SMALL = "smollm2-135m"
FAST = {"threads": 1, "context": 512, "slots": 1, "idle_s": 0.3}
SETTLE_S = 60.0


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip("xllamacpp")
    try:
        return model_path(SMALL)
    except ModelUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def house(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the tests' own, with the weights linked into it."""
    place = tmp_path_factory.mktemp("home")
    (place / "models").mkdir()
    (place / "models" / weights.name).symlink_to(weights)
    before = os.environ.get("TRACE_ADAPTERS_HOME")
    os.environ["TRACE_ADAPTERS_HOME"] = str(place)
    yield place
    if before is None:
        del os.environ["TRACE_ADAPTERS_HOME"]
    else:
        os.environ["TRACE_ADAPTERS_HOME"] = before


@pytest.fixture(scope="module")
def lm(house: Path) -> Iterator[LM]:
    model = LM(f"local:{SMALL}", max_tokens=24, temperature=0.0, **FAST)
    yield model
    model.close()


def _server_pid(house: Path) -> int:
    (state,) = house.glob("servers/*/state.json")
    return int(json.loads(state.read_text())["pid"])


def _wait_until(happened) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"


@pytest.mark.local_model
def test_reply_usage_and_stop_reasons(lm):
    """A real reply says how many tokens it used, that it was free, and why it ended."""
    (cut,) = lm("Count from one to one hundred in words.", max_tokens=4)
    (ended,) = lm("Say yes.", grammar='root ::= "yes"')
    assert (cut.finish_reason, cut.usage.completion_tokens, cut.model) == ("length", 4, SMALL)
    assert (ended.text, ended.finish_reason, ended.usage.cost_usd) == ("yes", "stop", 0.0)
    assert cut.usage.prompt_tokens > 10
    assert lm.profile == "small"


@pytest.mark.local_model
def test_stop_texts_and_schema(lm):
    """Stop texts end a reply before them; a JSON schema holds."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    (stopped,) = lm("Say: alpha beta gamma", grammar='root ::= "alpha beta gamma"', stop=["beta"])
    (shaped,) = lm("Is water wet?", json_schema=schema, max_tokens=60)
    assert stopped.text == "alpha "
    assert isinstance(json.loads(shaped.text)["ok"], bool)


@pytest.mark.local_model
def test_samples_differ_and_repeat(lm):
    """At temperature 1 samples differ; each is the same when asked for again, alone or together, in any order."""
    exact = {"temperature": 1.0, "seed": 5, "cache_prompt": False, "max_tokens": 12}
    together = [reply.text for reply in lm("Tell a tale.", n=3, **exact)]
    alone = [lm("Tell a tale.", sample_index=index, **exact)[0].text for index in (2, 1, 0)]
    assert len(set(together)) == 3
    assert together == alone[::-1]


@pytest.mark.local_model
async def test_acall(lm):
    """Awaited calls give the same replies."""
    (awaited,) = await lm.acall("Name a color.")
    assert awaited.text == lm("Name a color.")[0].text


@pytest.mark.local_model
def test_too_long_a_prompt_is_a_model_error(lm):
    """The server's words about its context reach the user."""
    with pytest.raises(ModelError, match="context size"):
        lm("word " * 2000)


@pytest.mark.local_model
def test_other_openai_clients_can_use_it(lm):
    """base_url and api_key are those of a real server; without the key nobody gets in."""
    import openai

    with openai.OpenAI(base_url=lm.base_url, api_key=lm.api_key) as client:
        answer = client.chat.completions.create(
            model=lm.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=3
        )
        assert answer.usage.completion_tokens == 3
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").chat.completions.create(model=lm.model, messages=[], max_tokens=3)


CLIENT = f"""
import sys, time
from trace_adapters.lm import LM
lm = LM("local:{SMALL}", threads=1, context=512, slots=1, idle_s=0.3)
print(lm.base_url, lm("Hi", max_tokens=2)[0].usage.completion_tokens, flush=True)
sys.stdin.read()
"""


def _client() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.local_model
def test_processes_share_one_server_that_leaves_with_the_last(house, monkeypatch):
    """Three processes that start at once get one server; it outlives a killed client and leaves when nobody is left."""
    monkeypatch.setenv("TRACE_ADAPTERS_HOME", str(house / "race"))
    (house / "race").mkdir()
    (house / "race" / "models").symlink_to(house / "models")
    clients = [_client() for _ in range(3)]
    try:
        lines = [client.stdout.readline().split() for client in clients]
        assert len({line[0] for line in lines}) == 1
        assert [line[1] for line in lines] == ["2"] * 3
        pid = _server_pid(house / "race")
        clients[0].kill()
        clients[1].communicate("", timeout=SETTLE_S)
        time.sleep(1.5)  # longer than idle_s and the server's poll
        assert _is_alive(pid)
        clients[2].kill()
        _wait_until(lambda: not _is_alive(pid))
        _wait_until(lambda: not list(house.glob("race/servers/*/state.json")))
    finally:
        for client in clients:
            client.kill()
            client.communicate()


@pytest.mark.local_model
def test_a_killed_server_is_replaced_by_the_next_call(house):
    """kill -9 of the server costs nothing but a restart, also with many threads calling."""
    lm = LM(f"local:{SMALL}", max_tokens=3, threads=1, context=256, slots=1, idle_s=0.2)
    lm("Hi")
    directory = lm._endpoint.directory
    pid = json.loads((directory / "state.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda number: lm(f"Hi {number}")[0].usage.completion_tokens, range(4)))
    assert replies == [3] * 4
    assert json.loads((directory / "state.json").read_text())["pid"] != pid
    lm.close()


@pytest.mark.local_model
def test_a_server_that_does_not_start_shows_its_log(weights, house, tmp_path):
    """A broken file passes the first look, but not the runtime; the end of the log says what it thinks."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(weights.read_bytes()[:2_000_000])
    with pytest.raises(ModelUnavailable, match=r"(?s)server\.log:.*failed to load model"):
        LM(f"local:{broken}", **FAST)("Hi")


def test_absent_weights_name_the_command(tmp_path, monkeypatch):
    """Nothing is fetched unasked; the message is the command to type."""
    monkeypatch.setenv("TRACE_ADAPTERS_HOME", str(tmp_path))
    with pytest.raises(ModelUnavailable, match=r"trace-adapters models fetch qwen2\.5-coder-1.5b$"):
        LM("local")("Hi")
    with pytest.raises(ModelUnavailable, match=r"trace-adapters models fetch smollm2-135m$"):
        LM("local:smollm2-135m").check()
    assert home() == tmp_path
    assert not (tmp_path / "servers").exists()


@pytest.mark.parametrize("options", [{"threads": -1}, {"slots": 0}, {"context": "big"}, {"batch": 1}])
def test_bad_settings(options):
    """Settings are checked when the model is named."""
    with pytest.raises(SettingError, match="expected"):
        LM("local", **options)


def test_names(tmp_path):
    """A local model is a known name, a fetched file or a path."""
    assert LM("local").model == "qwen2.5-coder-1.5b"
    assert LM(f"local:{tmp_path}/My-Model.gguf").model == "My-Model"
    assert find_weights("SmolLM2-135M").name == SMALL
    with pytest.raises(SettingError, match="known model"):
        LM("local:gpt-7")
    with pytest.raises(ModelUnavailable, match="no file"):
        LM(f"local:{tmp_path}/absent.gguf")("Hi")
