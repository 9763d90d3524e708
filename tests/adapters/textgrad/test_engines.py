"""Engines of TextGrad answer our optimizers, models of ours answer TextGrad."""

from __future__ import annotations

import pytest
import textgrad as tg

import trace_adapters as ta
import trace_adapters_textgrad as tat
from trace_adapters.testing.openai_server import Completion, OpenAIServer

QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]


def test_an_engine_gets_prompt_and_system_prompt(engine):
    """The two stay apart, through `tat.as_lm` and through `ta.as_lm`."""
    asked = engine("4")
    for lm in (tat.as_lm(asked), ta.as_lm(asked)):
        assert lm(QUESTION)[0].text == "4"
        assert lm.model == "stub"
    assert asked.asked == [("2 + 2?", "Be brief.")] * 2


def test_an_engine_that_can_only_generate_is_asked_so():
    """TextGrad's base class answers None when called."""

    class Plain(tg.EngineLM):
        model_string = "plain"

        def generate(self, prompt, system_prompt=None, temperature=0.0):
            return f"{system_prompt} {prompt} {temperature}"

    assert tat.as_lm(Plain())(QUESTION, temperature=0.7, seed=1)[0].text == "Be brief. 2 + 2? 0.7"


def test_a_published_engine_and_a_client_answer(monkeypatch, tmp_path):
    """TextGrad's own OpenAI engine by name, and a client of the SDK."""
    openai = pytest.importorskip("openai")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with OpenAIServer(lambda request: Completion(f"to {len(request.messages)}")) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert tat.as_lm("gpt-4o")(QUESTION)[0].text == "to 2"
        client = openai.OpenAI(base_url=server.base_url, api_key="none")
        assert tat.as_lm(client, name="stub")(QUESTION)[0].text == "to 2"
        assert tat.as_engine(client, name="stub")("2 + 2?") == "to 2"


def test_a_model_of_ours_is_an_engine():
    """It runs TextGrad's modules and its backward pass; pictures travel as parts of a message."""
    lm = ta.ScriptedLM(lambda messages: f"{messages[0]['content'][:8]}|{messages[1]['content']}")
    asked = tat.as_engine(lm)
    assert asked("2 + 2?", system_prompt="Be brief.") == "Be brief|2 + 2?"
    assert asked.model_string == "scripted"
    answer = tg.BlackboxLLM(asked, "Be brief.")(tg.Variable("2 + 2?", role_description="query"))
    assert answer.value == "Be brief|2 + 2?"
    answer.backward(asked)
    asked([b"\x89PNG123", "What is it?"])
    parts = lm.calls[-1].messages[1]["content"]
    assert parts[0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert parts[1] == {"type": "text", "text": "What is it?"}


def test_engines_of_the_second_kind_are_engines():
    """TextGrad's experimental engines have a base of their own."""
    experimental = tg.get_engine("experimental:openai/stub", cache=False)
    assert tat.as_engine(experimental) is experimental
    prompt = tg.Variable("Be brief.", role_description="system prompt")
    assert tat.TGD([prompt], engine=experimental).engine is experimental
    assert tat.as_lm(experimental).model == "openai/stub"
    stage = tat.wrap(tg.BlackboxLLM(experimental, prompt))
    assert stage.copy().program.engine is experimental


def test_engines_and_names_stay_as_they_are(engine):
    """What TextGrad understands is left to it."""
    asked = engine()
    assert tat.as_engine(asked) is asked
    assert (tat.as_engine("gpt-4o"), tat.as_engine(None)) == ("gpt-4o", None)
    with pytest.raises(ta.AdapterError, match="expected a language model"):
        tat.as_lm(3)


def test_what_is_no_engine_is_told_with_what_to_do():
    """A name that TextGrad does not know, a class instead of an engine, a client without a model."""
    openai = pytest.importorskip("openai")
    with pytest.raises(ta.AdapterError, match=r"no engine of the name 'gpt-5'.*'experimental:gpt-5'"):
        tat.as_lm("gpt-5")
    with pytest.raises(ta.AdapterError, match="make an instance of it"):
        tat.as_lm(tg.EngineLM)
    prompt = tg.Variable("Be brief.", role_description="system prompt")
    with pytest.raises(ta.SettingError, match="name="):
        tat.TGD([prompt], engine=openai.OpenAI(api_key="none"))
