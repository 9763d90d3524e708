"""What can be changed in a chain, what it is called, and which new values are refused before any model is asked."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from langchain_core.output_parsers import BaseOutputParser, StrOutputParser
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)
from langchain_core.runnables import RunnableBranch, RunnableGenerator, RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool

import trace_adapters_langchain as tal
from trace_adapters import AdapterError, CodeError, ParameterError, SettingError


def is_math(x: Any) -> bool:
    """Whether a question is about numbers."""
    return "math" in x["topic"]


def shorten(text: str) -> str:
    return text[:10]


@tool
def search(query: str) -> str:
    """Search the archive."""
    return f"found {query}"


FEW_SHOT = FewShotPromptTemplate(
    examples=[{"q": "1+1", "a": "2"}],
    example_prompt=PromptTemplate.from_template("Q: {q}\nA: {a}"),
    prefix="Answer like this.",
    suffix="Q: {question}\nA:",
)


def keys(chain: Any, trainable: Any = ("prompt", "examples", "partial", "code", "tool")) -> list[str]:
    return list(tal.trace(chain, trainable).parameters)


def test_names_are_roles_and_function_names() -> None:
    chat = ChatPromptTemplate([("system", "Be {tone}."), MessagesPlaceholder("history"), ("human", "{question}")])
    assert keys(chat) == ["prompt.system", "prompt.human"]
    assert keys(PromptTemplate.from_template("{q}")) == ["prompt"]
    assert keys(PromptTemplate.from_template("{q}", name="ask")) == ["ask"]
    assert keys(RunnableLambda(shorten)) == ["shorten"]
    assert keys(FEW_SHOT) == ["prompt.prefix", "prompt.suffix", "prompt.examples", "prompt.example"]
    assert keys(PromptTemplate.from_template("{q} {n}").partial(n="3")) == ["prompt", "prompt.n"]
    assert keys(search) == ["search"]


def test_names_tell_same_roles_apart_by_what_is_around_and_inside() -> None:
    two = ChatPromptTemplate([("human", "{question}"), ("ai", "Yes?"), ("human", "{answer}")])
    assert keys(two) == ["prompt.human.question", "prompt.ai", "prompt.human.answer"]
    parallel = {"left": PromptTemplate.from_template("{q}"), "right": PromptTemplate.from_template("{q}")}
    assert keys(RunnablePassthrough() | parallel) == ["left.prompt", "right.prompt"]
    branch = RunnableBranch((is_math, PromptTemplate.from_template("{q}")), PromptTemplate.from_template("{q}!"))
    assert keys(branch) == ["is_math", "is_math.prompt", "otherwise.prompt"]
    lambdas = {"first": lambda x: x + 1, "second": lambda x: x + 2}
    assert keys(RunnablePassthrough() | lambdas) == ["first", "second"]


def test_no_name_says_how_many_steps_stand_before() -> None:
    chain = PromptTemplate.from_template("{q}") | RunnableLambda(lambda x: x) | RunnableLambda(lambda x: [x])
    longer = RunnablePassthrough() | RunnableLambda(lambda x: {"q": x}) | chain
    assert set(keys(chain)) <= {*keys(longer)}


def test_kinds_names_and_globs_choose() -> None:
    chain = RunnableBranch((is_math, FEW_SHOT), PromptTemplate.from_template("{question}")) | RunnableLambda(shorten)
    assert keys(chain, "code") == ["is_math", "shorten"]
    assert keys(chain, ["examples", "shorten"]) == ["prompt.examples", "shorten"]
    assert keys(chain, "*suffix") == [key for key in keys(chain) if key.endswith("suffix")]
    partial = PromptTemplate.from_template("{q} {n}").partial(n="3")
    assert keys(partial, None) == ["prompt"]
    assert keys(partial, "partial") == ["prompt.n"]


def test_tool_descriptions_are_changed_where_they_were_bound(answering: Any) -> None:
    bound = answering(lambda text: "ok").bind(tools=[convert_to_openai_tool(search)])
    traced = tal.trace(bound)
    assert list(traced.parameters) == ["search.description"]
    changed = traced.with_values({"search.description": "Look into the archive; short queries."}).plain()
    assert changed.kwargs["tools"][0]["function"]["description"] == "Look into the archive; short queries."
    assert bound.kwargs["tools"][0]["function"]["description"] == "Search the archive."
    assert [p.key for p in traced.node("hi").parents if hasattr(p, "key")] == ["search.description"]


def test_other_providers_tools_and_argument_descriptions(answering: Any) -> None:
    schema = {"type": "object", "properties": {"query": {"type": "string", "description": "What to look for."}}}
    tool_of = {"name": "search", "description": "Search.", "input_schema": schema}
    traced = tal.trace(answering(lambda text: "ok").bind(tools=[tool_of, "opaque"]))
    assert list(traced.parameters) == ["search.description", "search.query"]
    changed = traced.with_values({"search.query": "Two words."}).plain()
    assert changed.kwargs["tools"][0]["input_schema"]["properties"]["query"]["description"] == "Two words."
    assert schema["properties"]["query"]["description"] == "What to look for."


def test_texts_of_messages_with_pictures() -> None:
    content = [{"type": "text", "text": "Look at {thing}."}, {"type": "image_url", "image_url": {"url": "{link}"}}]
    traced = tal.trace(ChatPromptTemplate([("human", content)]))
    assert list(traced.parameters) == ["prompt.human"]
    better = traced.with_values({"prompt.human": "Describe {thing}."})
    message = better.invoke({"thing": "this", "link": "http://x/y.png"}).to_messages()[0]
    assert message.content[0]["text"] == "Describe this."
    assert message.content[1]["image_url"]["url"] == "http://x/y.png"


def test_the_users_prompt_is_never_changed() -> None:
    """`model_copy` is shallow and carries what LangChain cached of the old prompt: both would show here."""
    chat = ChatPromptTemplate([("system", "Be brief."), SystemMessage("Really."), ("human", "{q}")])
    before = copy.deepcopy(chat)
    assert chat._serialized
    prompt_of = chat.messages[0].prompt
    assert prompt_of._serialized
    traced = tal.trace(chat | RunnableLambda(lambda p: p.to_string()))
    other = traced.with_values({next(k for k in traced.parameters if "system" in k): "Be long."}).plain()
    assert chat == before
    assert other.steps[0] != chat
    assert "Be long." in str(other.steps[0]._serialized)
    assert "Be long." not in str(chat._serialized)


CHAT = ChatPromptTemplate([("system", 'Reply as {{"answer": 1}}.'), ("human", "{question} for {who:>3}")])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("prompt.human", "Answer, {who:>3}.", "lost {question}"),
        ("prompt.human", "{question} {who:>3} {mood}", "variables that nothing fills: {mood}"),
        ("prompt.human", '{question} {who:>3} as {"a": 1}', "written twice|write braces that are no variable twice"),
        ("prompt.human", "{question} {who:>3} {", "braces do not pair"),
        ("prompt.human", "{{question}} for {who:>3}", "This is a f-string template.*mustache or jinja2"),
        ("prompt.human", "{question!r} for {who:>3}", "does more with a variable"),
        ("prompt.human", "{question} for {who:>999999999}", "does more with a variable"),
        ("prompt.human", "{question} for {who.__class__}", "lost {who}"),
        ("prompt.system", "", "empty"),
        ("prompt.system", 3, "Expected a text"),
        ("prompt.system", 'Reply as {"answer": 1}.', "There are none; write braces"),
        ("shorten", "def shorten(text):\n    return text[", "syntax error"),
        ("shorten", "def shorten(text, n):\n    return text", "parameters of 'shorten' must be"),
        ("shorten", "def cut(text):\n    return text", "Keep its name"),
        ("nothing", "x", "There is no parameter nothing"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_a_model_is_asked(
    answering: Any, key: str, value: Any, reason: str
) -> None:
    model = answering(lambda text: "a text that is long")
    traced = tal.trace(CHAT | model | StrOutputParser() | shorten)
    with pytest.raises(ParameterError, match=reason.replace("{", r"\{").replace("}", r"\}")) as raised:
        traced.with_values({key: value})
    assert key in str(raised.value)
    assert model.asked == []


def test_a_tool_keeps_its_name() -> None:
    with pytest.raises(CodeError, match="the model calls it as 'search'"):
        tal.trace(search).with_values({"search": "def find(query):\n    return query\n"})


@pytest.mark.parametrize("form", ["mustache", "jinja2"])
def test_other_template_formats_keep_their_variables(form: str) -> None:
    if form == "jinja2":
        pytest.importorskip("jinja2")
    traced = tal.trace(PromptTemplate.from_template("{{q}}?", template_format=form))
    assert traced.with_values({"prompt": 'Say {"a": 1}: {{q}}'}).invoke({"q": "x"}).text == 'Say {"a": 1}: x'
    with pytest.raises(ParameterError, match="write {{q}}".replace("{", r"\{")):
        traced.with_values({"prompt": "Say {q}"})


def test_braces_in_examples_are_refused_where_they_would_be_filled_twice() -> None:
    traced = tal.trace(FEW_SHOT)
    with pytest.raises(ParameterError, match=r"twice in examples"):
        traced.with_values({"prompt.examples": [{"q": '{"x": 1}', "a": "1"}]})
    doubled = traced.with_values({"prompt.examples": [{"q": '{{"x": 1}}', "a": "1"}]})
    assert 'Q: {"x": 1}' in doubled.invoke({"question": "?"}).text
    with pytest.raises(ParameterError, match="lacks a"):
        traced.with_values({"prompt.examples": [{"q": "1"}]})
    with pytest.raises(ParameterError, match="list of mappings"):
        traced.with_values({"prompt.examples": "1+1=2"})
    chat = FewShotChatMessagePromptTemplate(
        examples=[{"q": "1", "a": "1"}], example_prompt=ChatPromptTemplate([("human", "{q}"), ("ai", "{a}")])
    )
    free = tal.trace(chat).with_values({"prompt.examples": [{"q": '{"x": 1}', "a": "1"}]})
    assert free.invoke({}).to_messages()[0].content == '{"x": 1}'


def test_learned_examples_and_example_templates_are_used() -> None:
    better = tal.trace(FEW_SHOT).with_values(
        {"prompt.examples": [{"q": "2+2", "a": "4"}, {"q": "3+3", "a": "6"}], "prompt.example": "{q} = {a}"}
    )
    text = better.invoke({"question": "4+4"}).text
    assert "2+2 = 4\n\n3+3 = 6" in text
    assert "2+2" not in FEW_SHOT.invoke({"question": "4+4"}).text


def test_nothing_to_train_is_told_with_what_is_there() -> None:
    with pytest.raises(AdapterError, match="nothing to train"):
        tal.trace(RunnablePassthrough())
    with pytest.raises(AdapterError, match="There are prompt;"):
        tal.trace(PromptTemplate.from_template("{q}"), "code")
    with pytest.raises(AdapterError, match="Expected a LangChain Runnable"):
        tal.trace(shorten)  # type: ignore[arg-type]


def test_unknown_names_are_told_with_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"No parameter matches 'promt'\. There are prompt, shorten; kinds are"):
        tal.trace(PromptTemplate.from_template("{q}") | RunnableLambda(shorten), ["promt"])


def test_a_lambda_without_source_is_told() -> None:
    unreadable = eval("lambda x: x")  # made as at a prompt
    chain = PromptTemplate.from_template("{q}") | RunnableLambda(unreadable, name="cut")
    assert keys(chain) == ["prompt"]
    with pytest.raises(SettingError, match=r"'cut' cannot be trained\..*keep no source"):
        tal.trace(chain, ["cut"])


def test_terms_that_cannot_hold_are_refused_even_where_no_code_is_trained() -> None:
    """An option that could only be ignored is no option."""
    prompt = PromptTemplate.from_template("{q}")
    for terms in ({"trust": "full"}, {"timeout_s": -1}, {"timeout_s": "soon"}, {"sandbox": "jail"}):
        with pytest.raises(SettingError):
            tal.trace(prompt, ["prompt"], **terms)
    with pytest.raises(ParameterError, match="mapping of parameters"):
        tal.trace(prompt).with_values(None)  # type: ignore[arg-type]


def test_a_builtin_and_a_function_that_asks_for_config_are_told() -> None:
    def configured(x: Any, config: Any) -> Any:
        return x

    with pytest.raises(SettingError, match="no source of its own"):
        tal.trace(PromptTemplate.from_template("{q}") | RunnableLambda(str), ["str"])
    stream = PromptTemplate.from_template("{q}") | RunnableGenerator(upper)
    with pytest.raises(SettingError, match="from a stream to a stream"):
        tal.trace(stream, ["upper"])
    with pytest.raises(SettingError, match='trust="in-process"'):
        tal.trace(RunnableLambda(configured), ["configured"])
    assert keys_in_process(configured) == ["configured"]


def upper(chunks: Any) -> Any:
    for chunk in chunks:
        yield chunk.upper()


def keys_in_process(function: Any) -> list[str]:
    return list(tal.trace(RunnableLambda(function), ["configured"], trust="in-process").parameters)


class LastWord(BaseOutputParser[str]):
    """Reads the last word."""

    strip: str = "."

    def parse(self, text: str) -> str:
        return text.split()[-1].strip(self.strip)


def test_the_method_of_a_parser_is_code() -> None:
    parser = LastWord(strip="!")
    traced = tal.trace(RunnableLambda(shorten) | parser, "*parse")
    assert list(traced.parameters) == ["LastWord.parse"]
    source = "def parse(self, text):\n    return text.split()[0].strip(self.strip)\n"
    better = traced.with_values({"LastWord.parse": source})
    assert traced.invoke("one two!") == "two"
    assert better.invoke("one! two!") == better.plain().invoke("one! two!") == "one"
    assert isinstance(better.plain().steps[1], LastWord)
    assert better.node("one! two").data == "one"


def test_functions_that_langchain_made_are_not_the_users() -> None:
    assert keys(PromptTemplate.from_template("{q}") | StrOutputParser()) == ["prompt"]


def test_a_function_that_changes_names_around_it_hides_no_others() -> None:
    """What cannot be trained is named with its reason; the rest of the chain can be traced."""
    count = 0

    def number(x: Any) -> str:
        nonlocal count
        count += 1
        return f"{x.text}{count}"

    chain = PromptTemplate.from_template("{q}") | number
    traced = tal.trace(chain)
    assert list(traced.parameters) == ["prompt"]
    assert traced.node({"q": "no. "}).data == "no. 1"
    with pytest.raises(SettingError, match="changes `count`"):
        tal.trace(chain, trainable="number")
