"""The client of OpenAI-compatible servers, against a real local HTTP server."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from trace_adapters.errors import ModelError, ModelUnavailable, SettingError
from trace_adapters.lm import LM, LanguageModel, MemoryCache, Price, SqliteCache, Usage, record_calls
from trace_adapters.lm.connections import Connections
from trace_adapters.lm.endpoints import Address
from trace_adapters.testing.openai_server import ChatRequest, Completion, Failure, Garbage, Hangup, OpenAIServer


def _lm(server: OpenAIServer, **options) -> LM:
    return LM("stub", base_url=server.base_url, api_key="k", **options)


def test_reply_carries_text_usage_and_finish_reason():
    """A reply says what was answered, used and why it ended."""
    with OpenAIServer([Completion("hello", usage=(7, 3), finish_reason="length")]) as server:
        (reply,) = _lm(server, temperature=0.0, max_tokens=9)("hi", stop=["."])
    assert (reply.text, reply.finish_reason, reply.cached) == ("hello", "length", False)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.cost_usd) == (7, 3, None)
    sent = server.requests[0].body
    assert sent == {
        "model": "stub",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "max_tokens": 9,
        "stop": ["."],
    }
    assert server.requests[0].headers["authorization"] == "Bearer k"


def test_price_makes_cost_and_missing_usage_is_unknown():
    """Costs are computed from a price; unknown usage or price is None, never 0."""
    with OpenAIServer([Completion("a", usage=(1000, 500)), Completion("b", usage=None)]) as server:
        lm = _lm(server, price=Price(prompt=1.0, completion=2.0))
        known, unknown = lm("x")[0].usage, lm("x")[0].usage
    assert known.cost_usd == pytest.approx(0.002)
    assert (unknown.prompt_tokens, unknown.completion_tokens, unknown.cost_usd) == (None, None, None)


def test_sdk_repeats_after_429_and_500():
    """The SDK's own retries are the only ones; Retry-After is obeyed."""
    with OpenAIServer([Failure(429, retry_after_s=0.01), Failure(500, retry_after_s=0.01), "ok"]) as server:
        assert _lm(server, max_retries=2)("x")[0].text == "ok"
    assert len(server.requests) == 3


def test_no_retry_beyond_max_retries():
    """A call fails with the server's words when the retries are used up."""
    with OpenAIServer(lambda request: Failure(500, "on fire", retry_after_s=0.01)) as server:
        with pytest.raises(ModelError, match=r"500.*on fire"):
            _lm(server, max_retries=1)("x")
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Failure(401, "who are you"), ModelUnavailable, "API key"),
        (Failure(404, "no such model"), ModelUnavailable, "no such model"),
        (Failure(400, "too long"), ModelError, "too long"),
        (Garbage(), ModelError, "chat completion"),
        (Garbage("<html>login</html>", "text/html"), ModelError, "chat completion"),
        (Garbage("{}"), ModelError, "chat completion"),
        (Garbage('{"choices": []}'), ModelError, "chat completion"),
        (Garbage('{"choices": [{"index": 0}]}'), ModelError, "message"),
        (Hangup(), ModelUnavailable, "no connection"),
        (Completion("late", delay_s=3.0), ModelError, "timeout"),
    ],
)
def test_failures_are_model_errors(answer, error, words):
    """Whatever the server does wrong, one of our errors says it."""
    with OpenAIServer([answer]) as server, pytest.raises(ModelError, match=words) as caught:
        _lm(server, max_retries=0, timeout_s=0.3 if words == "timeout" else 30.0)("x")
    assert type(caught.value) is error


def test_no_server_is_model_unavailable():
    """A dead address is named in the message."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    lm = LM("m", base_url=url, max_retries=0)
    with pytest.raises(ModelUnavailable, match=url):
        lm("x")
    with pytest.raises(ModelUnavailable, match=url):
        lm.check()


def test_no_key_is_model_unavailable(monkeypatch):
    """OpenAI without a key fails before anything is sent, and says what to do."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelUnavailable, match="OPENAI_API_KEY"):
        LM("gpt-4o-mini")("x")


def test_environment_names_the_server(monkeypatch):
    """OPENAI_BASE_URL and OPENAI_API_KEY are used when nothing is given."""
    with OpenAIServer(["ok"], api_key="secret") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        lm = LM("m")
        lm.check()
        assert (lm("x")[0].text, lm.base_url, lm.api_key) == ("ok", server.base_url, "secret")


def test_n_is_one_request_and_usage_is_counted_once():
    """n choices come from one request; the sum of their usages is that of the request."""
    with OpenAIServer([Completion(["a", "b", "c"], usage=(10, 6))]) as server:
        replies = _lm(server)("x", n=3)
    assert [reply.text for reply in replies] == ["a", "b", "c"]
    assert sum(reply.usage.completion_tokens for reply in replies) == 6
    assert server.requests[0].body["n"] == 3


def test_a_server_that_ignores_n_is_asked_again():
    """n replies are n replies, also from servers that return one choice a request."""
    texts = iter("abc")
    with OpenAIServer(lambda request: Completion([next(texts)])) as server:
        replies = _lm(server, seed=1)("x", n=3)
    assert [reply.text for reply in replies] == ["a", "b", "c"]
    assert len({request.body["seed"] for request in server.requests}) == 3


def test_samples_have_seeds_of_their_own():
    """The seed of a sample is derived from (seed, sample_index): the first is the seed itself, all are repeatable."""
    with OpenAIServer(lambda request: str(request.body.get("seed"))) as server:
        lm = _lm(server, seed=7)
        seeds = [lm("x", sample_index=index)[0].text for index in (0, 1, 2, 1)]
        assert _lm(server)("x", sample_index=3)[0].text == "None"
    assert seeds[0] == "7"
    assert len(set(seeds[:3])) == 3
    assert seeds[1] == seeds[3]


def test_json_schema_and_unknown_fields():
    """A schema becomes a strict response_format; fields the SDK does not know go into the body."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with OpenAIServer(["{}"]) as server:
        _lm(server)("x", json_schema=schema, top_k=5)
    body = server.requests[0].body
    assert body["response_format"]["json_schema"] == {"name": "reply", "schema": schema, "strict": True}
    assert body["top_k"] == 5


def test_grammar_only_where_supported():
    """A grammar is refused for servers that would ignore it."""
    with OpenAIServer(["yes"]) as server:
        with pytest.raises(SettingError, match="grammar"):
            _lm(server)("x", grammar='root ::= "yes"')
        assert not server.requests
        _lm(server, supports_grammar=True)("x", grammar='root ::= "yes"')
    assert server.requests[0].body["grammar"] == 'root ::= "yes"'


@pytest.mark.parametrize("messages", [[], [{"content": "no role"}], 5, ["text"]])
def test_bad_messages(messages):
    """What is no message is refused."""
    with pytest.raises(SettingError, match="message"):
        LM("m", base_url="http://127.0.0.1:9/v1")(messages)


def test_many_threads_share_one_client():
    """Every thread gets the reply to its own question."""
    with OpenAIServer(lambda request: request.messages[0]["content"]) as server:
        lm = _lm(server)
        with ThreadPoolExecutor(8) as pool:
            texts = list(pool.map(lambda number: lm(f"q{number}")[0].text, range(40)))
    assert texts == [f"q{number}" for number in range(40)]


def test_acall_is_concurrent_and_works_in_several_loops():
    """Awaited calls overlap; a second event loop gets a client of its own."""
    waiting = set()

    def answer(request: ChatRequest) -> Completion:
        waiting.add(request.messages[0]["content"])
        return Completion("ok", delay_s=0.3)

    with OpenAIServer(answer) as server:
        lm = _lm(server)

        async def ask() -> list[str]:
            replies = await asyncio.gather(*(lm.acall(f"q{number}", n=1) for number in range(5)))
            return [reply.text for (reply,) in replies]

        assert asyncio.run(asyncio.wait_for(ask(), 20)) == ["ok"] * 5
        assert asyncio.run(ask()) == ["ok"] * 5
    assert len(waiting) == 5


def test_the_client_of_an_event_loop_is_closed_with_it():
    """A program that is run by `asyncio.run` once an example would use up the files that a process may open."""
    here, there = (Address(f"http://127.0.0.1:{port}/v1", "k") for port in (1, 2))
    connections, clients = Connections(1.0, 0), []

    async def use() -> None:
        clients.append(connections.async_client(here))
        assert connections.async_client(here) is clients[-1]

    async def move() -> None:
        clients.extend([connections.async_client(here), connections.async_client(there)])
        while not clients[-2].is_closed():
            gc.collect()
            await asyncio.sleep(0.01)
        assert not connections.async_client(there).is_closed()

    asyncio.run(use())
    asyncio.run(move())
    assert [client.is_closed() for client in clients] == [True, True, True]
    abandoned = asyncio.new_event_loop()
    abandoned.run_until_complete(use())
    abandoned.close()
    asyncio.run(use())
    assert connections._async_clients == {}


async def test_acall_raises_model_errors():
    """Awaited calls fail with the same errors."""
    with OpenAIServer([Failure(400, "no"), Garbage()]) as server:
        lm = _lm(server, max_retries=0)
        for _ in range(2):
            with pytest.raises(ModelError):
                await lm.acall("x")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_cache_knows_samples_apart(kind, tmp_path):
    """The same sample is not asked twice; another sample, option or model is another question."""
    numbers = iter(range(100))
    cache = MemoryCache() if kind == "memory" else SqliteCache(tmp_path / "deep" / "replies.db")
    with OpenAIServer(lambda request: Completion([f"t{next(numbers)}"] * 1)) as server:
        lm = _lm(server, cache=cache)
        first = [reply.text for reply in lm("x", n=2)]
        again = lm("x", n=3)
        other = lm("x", temperature=1.0)[0].text
        same = LM("stub", base_url=server.base_url, cache=cache)("x", sample_index=1)[0]
        assert LM("else", base_url=server.base_url, cache=cache)("x")[0].cached is False
    assert first == ["t0", "t1"]
    assert [(reply.text, reply.cached) for reply in again] == [("t0", True), ("t1", True), ("t2", False)]
    assert again[0].usage.cost_usd == 0.0
    assert again[0].usage.total_tokens == 0
    assert other == "t3"
    assert (same.text, same.cached) == ("t1", True)


def test_failed_calls_are_not_cached(tmp_path):
    """After an error the question is asked again, and the file serves another process's client."""
    cache = SqliteCache(tmp_path / "replies.db")
    with OpenAIServer([Failure(400), "ok"]) as server:
        lm = _lm(server, cache=cache)
        with pytest.raises(ModelError):
            lm("x")
        assert lm("x")[0].text == "ok"
        other = pickle.loads(pickle.dumps(lm))
        assert other("x")[0].cached
        other.close()
    cache.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE reply SET replies = '{'",
        "UPDATE reply SET replies = '[1]'",
        "UPDATE reply SET replies = NULL",
        "UPDATE reply SET replies = x'ff00'",
        "DROP TABLE reply",
    ],
)
def test_a_damaged_cache_costs_a_call_and_says_so_once(tmp_path, damage, caplog):
    cache = SqliteCache(tmp_path / "replies.db")
    with OpenAIServer(["a", "b", "c"]) as server, closing(_lm(server, cache=cache)) as lm:
        assert lm("x")[0].text == "a"
        with closing(sqlite3.connect(cache.path)) as connection, connection:
            connection.execute(damage)
        assert lm("x")[0].text == "b"
        assert lm("y")[0].text == "c"
    cache.close()
    assert caplog.text.count("cached replies at") == 1


def test_a_cache_on_a_full_disk_ends_no_run(tmp_path, caplog):
    cache = SqliteCache(tmp_path / "replies.db")
    cache._connection.execute("PRAGMA max_page_count = 3")
    with OpenAIServer(lambda request: "long " * 5_000) as server, closing(_lm(server, cache=cache)) as lm:
        assert [lm(f"{n}")[0].cached for n in (1, 2, 1)] == [False, False, False]
    cache.close()
    assert caplog.text.count("disk is full") == 1


def test_a_cache_that_is_dropped_closes_its_file(tmp_path):
    cache = SqliteCache(tmp_path / "replies.db")
    connection = cache._connection
    del cache
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_every_call_is_reported():
    """The ledger gets good, failed and cached calls, with role, usage and sample."""
    records, outer = [], []
    with OpenAIServer([Completion("a", usage=(3, 2)), Failure(400, "bad")]) as server:
        lm = _lm(server, cache=MemoryCache())
        with record_calls(outer.append), record_calls(records.append):
            lm("x", role="judge", temperature=0.5)
            lm("x", role="judge", temperature=0.5)
            with pytest.raises(ModelError):
                lm("y", sample_index=4)
        lm("x", role="judge", temperature=0.5)
    good, cached, failed = records
    assert outer == records
    assert (good.role, good.model, good.replies, good.status, good.cached) == ("judge", "stub", ("a",), "ok", False)
    assert (good.usage.prompt_tokens, good.options, good.finish_reasons) == (3, {"temperature": 0.5}, ("stop",))
    assert (cached.cached, cached.usage.total_tokens, cached.replies) == (True, 0, ("a",))
    assert (failed.status, failed.sample_index, failed.replies, failed.usage.cost_usd) == ("error", 4, (), None)
    assert "bad" in failed.error


def test_what_a_sink_raises_reaches_the_caller():
    """A sink may stop a run."""

    def stop(record) -> None:
        raise KeyError("enough")

    with OpenAIServer(["a"]) as server, record_calls(stop), pytest.raises(KeyError, match="enough"):
        _lm(server)("x")


def test_copies_and_protocol():
    """A deep copy of a program shares its model; an LM is a LanguageModel."""
    lm = LM("m", base_url="http://127.0.0.1:9/v1")
    assert copy.deepcopy({"lm": lm})["lm"] is lm
    assert isinstance(lm, LanguageModel)
    assert (lm.profile, lm.supports_grammar, LM("m", profile="small").profile) == ("strong", False, "small")


@pytest.mark.parametrize("options", [{"n": 0}, {"sample_index": -1}])
def test_bad_counts(options):
    """n and sample_index have their ranges."""
    with pytest.raises(SettingError, match="expected"):
        LM("m", base_url="http://127.0.0.1:9/v1")("x", **options)


@pytest.mark.parametrize("kind", [MemoryCache, SqliteCache])
def test_lone_surrogates_are_sent_as_replacement_characters(kind, tmp_path):
    """In messages, their parts and options; in a reply they are kept, in a cache too."""
    cache = kind(tmp_path / "replies.db") if kind is SqliteCache else kind()
    asked = [{"role": "user", "content": [{"type": "text", "text": "a\ud800"}]}]
    with OpenAIServer(["b\udc00"]) as server:
        lm = _lm(server, cache=cache)
        replies = [lm(asked, stop=["\ud801"], top_k="\ud802")[0] for _ in range(2)]
        sent = server.requests[0].body
    assert [(reply.text, reply.cached) for reply in replies] == [("b\udc00", False), ("b\udc00", True)]
    assert sent["messages"][0]["content"] == [{"type": "text", "text": "a\ufffd"}]
    assert (sent["stop"], sent["top_k"]) == (["\ufffd"], "\ufffd")
    assert asked[0]["content"][0]["text"] == "a\ud800"


def test_a_sum_of_costs_with_an_unknown_one_is_unknown():
    """Never the part that happens to be known; tokens count as far as they are known."""
    known, unknown = Usage(10, 5, 2, 0.5), Usage(20, None)
    assert known + unknown == unknown + known == Usage(30, 5, 2, None)
    assert known + known == Usage(20, 10, 4, 1.0)
