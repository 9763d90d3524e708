"""The scripted model, foreign models taken in, messages and usage."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

import trace_adapters as ta
from trace_adapters.errors import AdapterError, ModelError, ScriptExhausted, SettingError
from trace_adapters.extend import Question, report
from trace_adapters.lm import LM, LanguageModel, Reply, ScriptedLM, Usage, as_lm, count_tokens, record_calls
from trace_adapters.lm.replies import NO_USAGE
from trace_adapters.testing.openai_server import Completion, OpenAIServer


def test_script_is_read_in_order():
    """A list is answered once, in order, and every call is kept."""
    lm = ScriptedLM(["a", "b", "c"])
    assert [reply.text for reply in lm("one", n=2, temperature=0.5)] == ["a", "b"]
    assert lm([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])[0].text == "c"
    with pytest.raises(ScriptExhausted, match="'three'"):
        lm("three")
    assert [call.prompt for call in lm.calls] == ["one", "system: s\n\nuser: u", "three"]
    assert lm.calls[0].options == {"temperature": 0.5}


def test_a_copy_of_its_owner_reads_the_same_script():
    """Programs and optimizers are deep-copied; the model that they ask is one."""
    lm = ta.ScriptedLM(["a", "b"])
    optimizer = ta.OptoPrime([ta.node(1, trainable=True)], lm=lm)
    copied = copy.deepcopy(optimizer)
    assert copied.parameters[0] is not optimizer.parameters[0]
    assert (copied.lm("?")[0].text, optimizer.lm("?")[0].text) == ("a", "b")


def test_script_may_be_a_function():
    """A function sees the messages, and role, options or sample_index if it names them."""
    lm = ScriptedLM(lambda messages, sample_index: f"{messages[0]['content']}{sample_index}", profile="small")
    assert [reply.text for reply in lm("x", n=2, sample_index=3)] == ["x3", "x4"]
    assert ScriptedLM(lambda messages, role, options: f"{role}{options}")("x", role="judge")[0].text == "judge{}"
    assert (lm.profile, isinstance(lm, LanguageModel)) == ("small", True)


def test_script_may_fail():
    """An exception in a script is raised and recorded; a ready reply is passed on."""
    records = []
    reply = Reply("r", Usage(1, 1, 0, 0.5), "m", "length", 0.1)
    lm = ScriptedLM([ModelError("down"), reply, 5])
    with record_calls(records.append):
        with pytest.raises(ModelError, match="down"):
            lm("x")
        assert lm("x") == [reply]
        with pytest.raises(SettingError, match="5"):
            lm("x")
    assert [(record.status, record.usage.cost_usd) for record in records] == [
        ("error", None),
        ("ok", 0.5),
        ("error", None),
    ]
    with pytest.raises(SettingError, match="list of replies"):
        ScriptedLM("abc")


async def test_script_is_thread_safe_and_awaitable():
    """Every reply is given once."""
    lm = ScriptedLM([str(number) for number in range(200)])
    with ThreadPoolExecutor(8) as pool:
        texts = {reply.text for replies in pool.map(lambda _: lm("x", n=2), range(95)) for reply in replies}
    assert len(texts) == 190
    assert len(await lm.acall("x", n=10)) == 10


def test_records_stay_in_their_context():
    """A sink hears its own context only, unless the context is carried along."""
    import contextvars

    lm, records = ScriptedLM(lambda messages: "ok"), []
    with record_calls(records.append):
        deaf = threading.Thread(target=lm, args=("x",))
        heard = threading.Thread(target=contextvars.copy_context().run, args=(lm, "y"))
        for thread in (deaf, heard):
            thread.start()
            thread.join()
    assert [record.messages[0]["content"] for record in records] == ["y"]


def test_usage_adds_up():
    """Tokens that are known are counted; a cost is known only if all are."""
    assert Usage(1, 2, None, 0.5) + Usage(3, None, 4, 0.25) == Usage(4, 2, 4, 0.75)
    assert (Usage(1, 2, 0, 0.5) + Usage(1, 2)).cost_usd is None
    assert Usage(None, None).total_tokens is None


def test_as_lm_takes_models_and_names():
    """A model stays itself; a name becomes an LM."""
    lm = ScriptedLM(["a"])
    assert as_lm(lm) is lm
    assert isinstance(as_lm("gpt-4o-mini"), LM)


def test_a_name_is_asked_as_the_profile_says():
    """The profile was left out; without one it is the model's own."""
    assert as_lm("any", profile="small").profile == "small"
    assert (as_lm("any").profile, as_lm("local").profile) == ("strong", "small")


def test_as_lm_of_functions():
    """A function gets a prompt, or messages if its argument is called so, and the options it names."""

    def shout(prompt: str, temperature: float = 0.0) -> str:
        return f"{prompt.upper()} {temperature}"

    def count(messages) -> str:
        return str(len(messages))

    records = []
    with record_calls(records.append):
        loud = as_lm(shout)("hi", temperature=0.5, seed=3, role="judge", n=2)
    assert [reply.text for reply in loud] == ["HI 0.5", "HI 0.5"]
    assert (records[0].model, records[0].role, records[0].usage.cost_usd) == ("shout", "judge", None)
    assert as_lm(count)([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])[0].text == "2"
    assert as_lm(shout)([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])[0].text.startswith(
        "SYSTEM: A"
    )
    with pytest.raises(AdapterError, match="text"):
        as_lm(lambda prompt: 5)("x")
    with pytest.raises(SettingError, match="grammar"):
        as_lm(shout)("x", grammar="root ::= [a]")


class _HistoryModel:
    """Called with messages=, returns outputs, appends to its history: as model objects of frameworks do."""

    model = "vendor/large"

    def __init__(self) -> None:
        self.history: list[dict] = []
        self.seen: list[dict] = []

    def forward(self, prompt=None, messages=None, **options):
        raise NotImplementedError

    def __call__(self, prompt=None, *, messages=None, **options):
        self.seen.append(options)
        outputs = [messages[-1]["content"], {"text": "second", "reasoning_content": "…"}][: options.get("n", 1)]
        choices = [SimpleNamespace(finish_reason="stop") for _ in outputs]
        usage = {"prompt_tokens": 11, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
        entry = {"outputs": outputs, "usage": usage, "cost": None, "response": SimpleNamespace(choices=choices)}
        self.history.append(entry | {"response_model": "large-2026"})
        return outputs

    async def acall(self, prompt=None, *, messages=None, **options):
        return self(messages=messages, **options)


async def test_as_lm_of_a_model_object_with_history():
    """Usage and stop reason come from the note of this very call; its own cache is told the samples apart."""
    model = _HistoryModel()
    lm = as_lm(model)
    replies = lm("hi", n=2, sample_index=1, temperature=1.0)
    assert [(reply.text, reply.finish_reason, reply.model) for reply in replies] == [
        ("hi", "stop", "large-2026"),
        ("second", "stop", "large-2026"),
    ]
    assert replies[0].usage == Usage(11, 4, 2, None)
    assert replies[1].usage.total_tokens == 0
    assert model.seen == [{"temperature": 1.0, "rollout_id": 1, "n": 2}]
    assert (await lm.acall("again"))[0].text == "again"
    assert lm.model == "vendor/large"


def test_the_note_of_another_call_is_not_taken_for_this_ones():
    """Another thread may have asked since; a note that is gone means that nothing is known."""

    class Busy(_HistoryModel):
        kept = True

        def __call__(self, *args, **options):
            outputs = super().__call__(*args, **options)
            others = {"outputs": ["hi"], "usage": {"prompt_tokens": 999, "completion_tokens": 1}}
            self.history = [*self.history, others] if self.kept else [others]
            return outputs

    model = Busy()
    assert as_lm(model)("hi")[0].usage.prompt_tokens == 11
    model.kept = False
    assert as_lm(model)("hi")[0].usage == Usage(None, None)


def test_as_lm_of_a_model_object_counts_under_threads():
    """Calls of many threads do not mix their notes."""
    lm = as_lm(_HistoryModel())
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda number: lm(str(number))[0], range(50)))
    assert [reply.text for reply in texts] == [str(number) for number in range(50)]
    assert all(reply.usage.prompt_tokens == 11 for reply in texts)


async def test_as_lm_of_a_chat_model():
    """An object with invoke returns a message with content, usage and metadata."""

    class Chat:
        model_name = "chat-1"

        def invoke(self, messages, **options):
            return SimpleNamespace(
                content=[{"type": "text", "text": messages[0]["content"]}],
                usage_metadata={"input_tokens": 3, "output_tokens": 2},
                response_metadata={"finish_reason": "stop", "model_name": "chat-1b"},
            )

        async def ainvoke(self, messages, **options):
            return self.invoke(messages, **options)

    lm = as_lm(Chat())
    for reply in (lm("hi")[0], (await lm.acall("hi"))[0]):
        assert (reply.text, reply.model, reply.finish_reason) == ("hi", "chat-1b", "stop")
        assert reply.usage == Usage(3, 2)


def test_as_lm_of_an_engine():
    """An object with generate(prompt, system_prompt=...) gets the system messages apart, and options that it takes."""

    class Engine:
        model_string = "engine-1"

        def generate(self, content, system_prompt=None, temperature=0.0):
            return f"{system_prompt} | {content} | {temperature}"

    class Called(Engine):
        def __call__(self, content, **kwargs):
            return "called: " + self.generate(content, **kwargs)

    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    reply = as_lm(Engine())(question, temperature=0.5, seed=3)[0]
    assert (reply.text, reply.model, reply.finish_reason) == ("Be brief. | 2 + 2? | 0.5", "engine-1", None)
    assert as_lm(Called())("2 + 2?", n=2)[1].text == "called: None | 2 + 2? | 0.0"

    class Broken(Engine):
        def generate(self, content, system_prompt=None):
            return 4

    with pytest.raises(AdapterError, match="expected a text from engine"):
        as_lm(Broken())("2 + 2?")


async def test_as_lm_of_sdk_clients():
    """The SDK's clients are asked for the model that is named."""
    import openai

    with OpenAIServer(lambda request: Completion(request.body["model"])) as server:
        plain = openai.OpenAI(base_url=server.base_url, api_key="k")
        awaited = openai.AsyncOpenAI(base_url=server.base_url, api_key="k")
        assert [reply.text for reply in as_lm(plain, name="m1")("x", n=2)] == ["m1", "m1"]
        assert (await as_lm(awaited, name="m2").acall("x"))[0].text == "m2"
        assert (await as_lm(plain, name="m3").acall("x"))[0].text == "m3"
        with pytest.raises(SettingError, match="name="):
            as_lm(plain)
        plain.close()
        await awaited.close()


@pytest.mark.parametrize("thing", [5, None, object(), ScriptedLM, dict])
def test_as_lm_refuses_the_rest(thing):
    """What cannot answer is refused with what could."""
    with pytest.raises(AdapterError, match="expected a language model"):
        as_lm(thing)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("hello", 1), ("3.14", 4), ("internationalization", 4), ("a 12", 4), ("日本", 2)]
)
def test_token_estimate(text, tokens):
    """The estimate is deterministic and errs upwards."""
    assert count_tokens(text) == tokens


def test_a_call_that_a_cache_answered_used_nothing():
    """A framework's cache repeats the usage of the first call: a resumed study would count it against its budget."""
    records = []
    reply = Reply("four", Usage(100, 1, cost_usd=0.1), "m", "stop", 0.0)
    with record_calls(records.append):
        report(Question("forward", "m", [], {}), [reply], 0.0, 0.0, cached=True)
    assert (records[0].replies, records[0].usage) == (("four",), NO_USAGE)
