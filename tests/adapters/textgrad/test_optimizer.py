"""`TGD` is TextGrad's class by signature and effects; a step is one model call."""

from __future__ import annotations

import gc
import inspect
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import textgrad as tg
from textgrad.autograd import FormattedLLMCall, StringBasedFunction

import trace_adapters as ta
import trace_adapters_textgrad as tat
from trace_adapters_textgrad import shims


def text(value, role="a text", trainable=False):
    return tg.Variable(value, requires_grad=trainable, role_description=role)


@pytest.fixture
def prompt():
    return text("Be brief.", "system prompt to the language model", True)


def loss_of(engine, prompt, questions=("2 + 2?", "3 + 3?", "4 + 4?")):
    """The published loop: a batch, a judge, a sum."""
    model, judge = tg.BlackboxLLM(engine, prompt), tg.TextLoss("Is it right?", engine)
    return tg.sum([judge(model(text(question, "query to the language model"))) for question in questions])


def test_a_step_is_one_call_and_backward_none(engine, prompt, proposing):
    """Whatever the batch; TextGrad's own makes 2 for each of the 3 samples, then one."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD(parameters=[prompt], engine=asked)
    optimizer.zero_grad()
    loss = loss_of(asked, prompt)
    before = len(asked.asked)
    loss.backward()
    assert len(asked.asked) == before
    optimizer.step()
    assert len(asked.asked) == before + 1
    assert prompt.value == "Think first."
    assert (optimizer.last.calls, optimizer.last.textgrad_calls) == (1, 7)


def chain(engine, prompts, questions):
    """Every prompt in a row, for every question, each judged."""
    judge = tg.TextLoss("Is it right?", engine)
    losses = []
    for question in questions:
        value = text(question, "question")
        for prompt in prompts:
            value = tg.BlackboxLLM(engine, prompt)(value)
        losses.append(judge(value))
    return tg.sum(losses)


def mixed(engine, prompts, questions):
    """Formatted calls, functions, additions; inputs whose author left `requires_grad` as it is."""
    call = FormattedLLMCall(engine, "{q} {a}", {"q": None, "a": None}, prompts[0])
    count = StringBasedFunction(lambda x, y: str(len(x.value)), "counts")
    results = []
    for question in questions:
        careless = text(question, "question", True)
        answer = call(inputs={"q": careless, "a": prompts[1] + careless}, response_role_description="answer")
        results.append(count(inputs={"x": answer, "y": text("1")}) + answer)
    return tg.sum(results)


@pytest.mark.parametrize(("build", "length", "batch"), [(chain, 1, 3), (chain, 4, 1), (chain, 4, 2), (mixed, 2, 2)])
def test_textgrad_makes_as_many_calls_as_is_said(engine, proposing, build, length, batch):
    """What the report compares with is what TextGrad really does on the same graph: 2LB + L for a chain."""
    prompts = [text(f"step {number}", f"prompt {number}", True) for number in range(length)]
    questions = [f"{number} + {number}?" for number in range(batch)]
    asked = engine("<IMPROVED_VARIABLE>Think first.</IMPROVED_VARIABLE>")
    optimizer = tg.TGD(parameters=prompts, engine=asked)
    loss = build(asked, prompts, questions)
    before = len(asked.asked)
    loss.backward(asked)
    optimizer.step()
    spent = len(asked.asked) - before
    if build is chain:
        assert spent == 2 * length * batch + length
    del optimizer
    gc.collect()
    ours = engine(proposing(prompt_0="Think twice."))
    twin = tat.TGD(parameters=prompts, engine=ours)
    build(ours, prompts, questions).backward()
    twin.step()
    assert (twin.last.calls, twin.last.textgrad_calls) == (1, spent)


def test_a_template_and_two_functions_are_learned_in_one_call(engine, is_update):
    """The program of the article: create_prompt, a template, extract_answer; TextGrad asks about each of its calls."""

    def create_prompt(template, question):
        return template.replace("QUESTION", question)

    def extract_answer(response):
        return response.split("Answer:")[1]

    def loss_of_batch(asked):
        model, judge = tg.BlackboxLLM(asked, "Be brief."), tg.TextLoss("Is it right?", asked)
        queries = [text(question, "question") for question in ("2 + 2?", "3 + 3?")]
        return tg.sum([judge(extract(model(create(template, query)))) for query in queries])

    template = text("Q: QUESTION", "template of the prompt", True)
    create, extract = tat.trainable(create_prompt, "puts the question into the template"), tat.trainable(extract_answer)
    parameters = [template, create.code, extract.code]
    theirs = engine("<IMPROVED_VARIABLE>def f(): pass</IMPROVED_VARIABLE>")
    before = [variable.value for variable in parameters]
    loss = loss_of_batch(theirs)
    asked_before = len(theirs.asked)
    optimizer = tg.TGD(parameters, engine=theirs)
    loss.backward(theirs)
    optimizer.step()
    spent = len(theirs.asked) - asked_before
    del optimizer
    for variable, value in zip(parameters, before, strict=True):
        variable.set_value(value)

    better = 'def extract_answer(response):\n    return response.split("is")[-1].strip()'
    new = {"template": "QUESTION Say only the number.", "extract_answer": better}
    given = "".join(f'<value name="{name}">\n{value}\n</value>\n' for name, value in new.items())
    ours = engine(lambda prompt, system: given if is_update(system) else "It is 4")
    learning = tat.TGD(parameters, engine=ours)
    loss_of_batch(ours).backward()
    learning.step()
    assert (learning.last.calls, learning.last.textgrad_calls) == (1, spent)
    assert spent == 15
    assert set(learning.last.changed) == {"template", "extract_answer"}
    assert "(execution failed) IndexError" in learning.last.prompt
    assert extract(tg.BlackboxLLM(ours)(create(template, text("2 + 2?")))).value == "4"


def test_it_is_textgrads_class_with_textgrads_signature(engine, prompt):
    """Positional arguments, defaults and `isinstance` stay."""
    for ours, theirs in (
        (tat.TGD, shims.TextualGradientDescent),
        (tat.TextualGradientDescentwithMomentum, shims.TextualGradientDescentwithMomentum),
    ):
        assert issubclass(ours, theirs)
        names = list(inspect.signature(theirs).parameters)
        assert list(inspect.signature(ours).parameters)[: len(names)] == names
    optimizer = tat.TGD([prompt], 0, engine(), ["Be short."])
    assert isinstance(optimizer, tg.TGD)
    assert optimizer.constraint_text == "Constraint 1: Be short."


def test_no_engine_at_all_is_textgrads_own_error(prompt):
    """Without an engine of its own it needs the global one."""
    with pytest.raises(Exception, match="No engine provided"):
        tat.TGD(parameters=[prompt])
    tg.set_backward_engine(tat.as_engine(ta.ScriptedLM(["x"])))
    tat.TGD(parameters=[prompt])


def test_the_prompt_shows_everything_once(engine, prompt, proposing):
    """The whole parameter, what it is for, constraints, examples; one run for each sample, the code once."""
    prompt.set_value(" ".join(f"word{number}" for number in range(200)))
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD(
        [prompt], 0, asked, ["Be polite.", "At most 200 words."], in_context_examples=["Example: be kind."]
    )
    loss_of(asked, prompt).backward()
    optimizer.step()
    shown = optimizer.last.prompt
    assert prompt.value not in shown
    assert " ".join(f"word{number}" for number in range(200)) in shown
    assert shown.count("Be polite.\nAt most 200 words.") == 1
    assert shown.count("Example: be kind.") == 1
    assert "system prompt to the language model" in shown
    assert shown.count("\nresponse = llm(prompt=query, system_prompt=system_prompt)\n") == 1
    assert [shown.count(f"# Run {number}\n") for number in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert all(question in shown for question in ("2 + 2?", "3 + 3?", "4 + 4?"))


def test_the_reasoning_is_the_gradient(engine, prompt, proposing):
    """What TextGrad's users look at is there: gradients, their text, the picture with gradients."""
    pytest.importorskip("graphviz")
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], engine=asked)
    loss = loss_of(asked, prompt)
    loss.backward()
    optimizer.step()
    assert prompt.get_gradient_text() == "Say it better."
    assert "feedback to system prompt" in next(iter(prompt.gradients)).get_role_description()
    assert "Say it better." in loss.generate_graph(print_gradients=True).source
    optimizer.zero_grad()
    assert prompt.gradients == set()


def test_a_step_without_a_loss_is_an_error(engine, prompt, proposing):
    """TextGrad's own asks the model and overwrites the value; here nobody is asked."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], engine=asked)
    with pytest.raises(ta.SettingError, match=r"call loss.backward\(\) first.*system_prompt"):
        optimizer.step()
    loss_of(asked, prompt).backward()
    optimizer.zero_grad()
    with pytest.raises(ta.SettingError):
        optimizer.step()
    loss_of(asked, prompt).backward()
    optimizer.step()
    with pytest.raises(ta.SettingError):
        optimizer.step()


def test_gradients_that_are_there_already_are_learned_from(engine, prompt):
    """As in TextGrad: an optimizer made after backward(), and gradients that a program puts on its Variables."""
    asked = engine("Say how to think.")
    tg.set_backward_engine(asked, override=True)
    loss_of(asked, prompt, ["2 + 2?"]).backward()  # TextGrad's own
    asked.answer = lambda *_: '<value name="system_prompt">\nThink first.\n</value>'
    for kind in ("optoprime", "textgrad"):
        prompt.set_value("Be brief.")
        optimizer = tat.TGD([prompt], optimizer=kind)
        prompt.gradients.add(text("Never rhyme."))
        optimizer.step()
        assert prompt.value == "Think first."
        assert optimizer.last.calls == 1
        assert "Never rhyme." in optimizer.last.prompt
        assert ("Say how to think." in optimizer.last.prompt) == (kind == "optoprime")
        with pytest.raises(ta.SettingError):  # what is there now is our own reasoning
            optimizer.step()


def test_a_gradient_put_beside_a_loss_is_not_lost(engine, prompt, proposing):
    """Both are in the one question."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], engine=asked)
    loss_of(asked, prompt, ["2 + 2?"]).backward()
    prompt.gradients.add(text("Never rhyme."))
    optimizer.step()
    assert "2 + 2?" in optimizer.last.prompt
    assert "Never rhyme." in optimizer.last.prompt


def test_losses_add_up_until_the_step(engine, prompt, proposing):
    """Two calls of backward() are two runs in one prompt."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], engine=asked)
    for question in ("2 + 2?", "3 + 3?"):
        loss_of(asked, prompt, [question]).backward()
    optimizer.step()
    assert "# Run 2\n" in optimizer.last.prompt
    assert "# Run 3\n" not in optimizer.last.prompt


def test_a_loss_may_be_added_up_in_a_loop(engine, prompt, proposing, is_update):
    """Sums of sums, 1,200 deep, are as many runs; a prompt holds as many as fit."""
    learned = proposing(system_prompt="Think first.")
    asked = engine(lambda query, system: learned(query, system) if is_update(system) else f"answer to {query}")
    optimizer = tat.TGD([prompt], engine=asked, max_prompt_tokens=3_000)
    model = tg.BlackboxLLM(asked, prompt)
    total = model(text("question 0", "query"))
    for number in range(1, 1_200):
        total = tg.sum([total, model(text(f"question {number}", "query"))])
    total.backward()
    optimizer.step()
    assert "# Run 1\n" in optimizer.last.prompt
    assert "more runs are left out for want of room" in optimizer.last.prompt
    assert 10 < optimizer.last.prompt.count("## Feedback") < 1_000
    assert optimizer.last.prompt.index('"question 0"') < optimizer.last.prompt.index('"question 1"')


def test_all_parameters_are_set_or_none(engine, is_update):
    """TextGrad's own changes the first and then fails on the second."""
    first, second = text("one", "first prompt", True), text("two", "second prompt", True)
    replies = iter(
        [
            '<value name="first_prompt">\nuno\n</value>\n<value name="second_prompt">\ndu',
            '<value name="first_prompt">\nuno\n</value>\n<value name="second_prompt">\ndue\n</value>',
        ]
    )
    asked = engine(lambda prompt, system: next(replies) if is_update(system) else "fine")
    optimizer = tat.TGD([first, second], engine=asked)
    value = tg.BlackboxLLM(asked, second)(tg.BlackboxLLM(asked, first)(text("start")))
    tg.TextLoss("Good?", asked)(value).backward()
    optimizer.step()
    assert (first.value, second.value) == ("uno", "due")
    assert (optimizer.last.calls, len(optimizer.last.rejected)) == (2, 1)
    assert "second_prompt is not closed" in optimizer.last.rejected[0]
    assert "second_prompt is not closed" in optimizer.last.prompt  # the second question says what was wrong


def test_an_unusable_reply_is_asked_for_once_more_and_recorded(engine, prompt):
    """Nothing is lost silently: a warning, the reasons and the reply; or an error, if that is asked for."""
    asked = engine("I would rather not.")
    optimizer = tat.TGD([prompt], engine=asked)
    loss_of(asked, prompt).backward()
    with pytest.warns(UserWarning, match="The parameters are unchanged"):
        optimizer.step()
    assert (optimizer.last.calls, len(optimizer.last.rejected), optimizer.last.changed) == (2, 2, {})
    assert optimizer.last.reply == "I would rather not."
    assert prompt.value == "Be brief."
    strict = tat.TGD([prompt], engine=asked, on_error="raise")
    loss_of(asked, prompt).backward()
    with pytest.raises(ta.ModelError, match="I would rather not"):
        strict.step()


def test_the_same_value_again_is_no_failure(engine, prompt, proposing):
    """One call, no second question, no error."""
    asked = engine(proposing(system_prompt="Be brief."))
    optimizer = tat.TGD([prompt], engine=asked, on_error="raise")
    loss_of(asked, prompt).backward()
    with pytest.warns(UserWarning, match="changes nothing"):
        optimizer.step()
    assert optimizer.last.calls == 1


def test_an_error_of_the_engine_keeps_the_losses(engine, prompt, proposing, is_update):
    """The step can be repeated."""
    broken = [True]

    def answer(question, system):
        if is_update(system) and broken.pop() if broken else False:
            raise ConnectionError("no line")
        return proposing(system_prompt="Think first.")(question, system)

    asked = engine(answer)
    optimizer = tat.TGD([prompt], engine=asked)
    broken.clear()
    loss_of(asked, prompt).backward()
    broken.append(True)
    with pytest.raises(ConnectionError):
        optimizer.step()
    optimizer.step()
    assert prompt.value == "Think first."


def test_a_server_that_fails_is_told_in_clear_words(engine, prompt):
    """TextGrad's engines hide it in an error of their retry library."""
    import httpx
    import openai
    import tenacity

    @tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
    def failing(question, system):
        raise openai.APIConnectionError(request=httpx.Request("POST", "http://127.0.0.1:9"))

    optimizer = tat.TGD([prompt], engine=engine(failing))
    loss_of(engine(), prompt).backward()
    with pytest.raises(ta.ModelError, match=r"step\(\) may be repeated: APIConnectionError: Connection error"):
        optimizer.step()


def test_textgrads_optimizer_on_the_same_loss_is_an_error(engine, prompt, proposing):
    """It would get no gradients; once it is gone, all is well."""
    asked = engine(proposing(system_prompt="Think first."))
    other = text("extra", "another prompt", True)
    theirs = tg.TGD([other], engine=asked)
    ours = tat.TGD([prompt], engine=asked)
    loss = tg.sum([loss_of(asked, prompt), loss_of(asked, other)])
    with pytest.raises(ta.SettingError, match="TextualGradientDescent is alive that trains Variables of this loss"):
        loss.backward()
    loss_of(asked, prompt).backward()  # without its parameters there is nothing to say
    del theirs
    loss.backward()
    ours.step()
    assert prompt.value == "Think first."


def test_backward_is_textgrads_own_for_other_losses(engine, prompt):
    """What depends on no parameter of ours goes TextGrad's way, as does everything once ours is gone."""
    asked = engine("better")
    other = text("extra", "another prompt", True)
    ours = tat.TGD([prompt], engine=asked)
    loss_of(asked, other).backward(asked)
    assert other.get_gradient_text() == "better\nbetter\nbetter"
    assert ours.last is None
    del ours
    gc.collect()
    loss_of(asked, prompt).backward(asked)
    assert "better" in prompt.get_gradient_text()


def test_two_of_ours_share_a_loss(engine, proposing):
    """Each takes its own parameters from it."""
    first, second = text("one", "first prompt", True), text("two", "second prompt", True)
    asked = engine(lambda p, s: proposing(first_prompt="uno")(p, s) if "first_prompt (" in p else
                   proposing(second_prompt="due")(p, s))  # fmt: skip
    both = [tat.TGD([first], engine=asked), tat.TGD([second], engine=asked)]
    tg.BlackboxLLM(asked, second)(tg.BlackboxLLM(asked, first)(text("start"))).backward()
    for optimizer in both:
        optimizer.step()
    assert (first.value, second.value) == ("uno", "due")


def test_a_parameter_that_no_loss_reaches_is_warned_of(engine, prompt, proposing):
    """It is no error: the next loss may reach it."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt, text("x", "forgotten prompt", True)], engine=asked)
    loss_of(asked, prompt).backward()
    with pytest.warns(UserWarning, match="No loss depends on forgotten_prompt"):
        optimizer.step()


def test_past_attempts_are_shown_as_many_as_were_asked_for(engine, prompt, numbered):
    """`gradient_memory` is computed by TextGrad and never shown; here it is."""

    def shown(**options):
        prompt.set_value("version 0")
        asked = engine(numbered("system_prompt"))
        optimizer = options.pop("kind", tat.TGD)(parameters=[prompt], engine=asked, **options)
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(asked, prompt).backward()
            optimizer.step()
        return optimizer.last.prompt

    assert [shown().count("## Tried"), shown(gradient_memory=2).count("## Tried")] == [4, 2]
    assert "\nversion 3\n" in shown(gradient_memory=1)
    assert "\nversion 2\n" not in shown(gradient_memory=1)
    assert "## Tried" not in shown(memory=0)
    momentum = tat.TextualGradientDescentwithMomentum
    assert shown(kind=momentum, momentum_window=3).count("## Tried") == 3
    assert "## Tried" not in shown(kind=momentum)
    assert "the changes were too small" in shown(kind=momentum, momentum_window=3)


def test_what_the_program_took_back_is_told(engine, prompt, numbered):
    """A validation that reverts the prompt is feedback on it."""
    asked = engine(numbered("system_prompt"))
    optimizer = tat.TGD([prompt], engine=asked)
    loss_of(asked, prompt).backward()
    optimizer.step()
    prompt.set_value("Be brief.")
    loss_of(asked, prompt).backward()
    optimizer.step()
    assert '<value name="system_prompt">\nversion 1\n</value>\nFeedback: The program took these values back.' in (
        optimizer.last.prompt
    )


def test_feedback_may_be_a_function_of_each_loss(engine, prompt, proposing):
    """Numbers, texts or both; the direction is explicit: higher is better."""
    asked = engine(proposing(system_prompt="Think first."))
    seen = []

    def judge(loss):
        seen.append(loss.value)
        return 0.25 * len(seen), f"evaluation {len(seen)}"

    optimizer = tat.TGD([prompt], engine=asked, feedback=judge)
    loss_of(asked, prompt).backward()
    optimizer.step()
    assert seen == ["fine"] * 3
    assert "Score: 0.75\nevaluation 3" in optimizer.last.prompt


def test_names_and_own_instructions_reach_the_prompt(engine, prompt, proposing):
    """Names replace those from roles; a system prompt of the user's stands beside ours."""
    asked = engine(proposing(style="Think first."))
    own = "Prefer rhymes. Reply between {new_variable_start_tag} and {new_variable_end_tag}."
    optimizer = tat.TGD([prompt], engine=asked, names=["style"], optimizer_system_prompt=own)
    loss_of(asked, prompt).backward()
    optimizer.step()
    assert prompt.value == "Think first."
    assert "Prefer rhymes." in optimizer.last.prompt


def test_what_is_set_on_the_optimizer_later_holds(engine, prompt, proposing):
    """TextGrad reads these attributes at every step; so do we."""
    before, asked = engine(), engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], engine=before, constraints=["Write English."])
    optimizer.engine = asked
    optimizer.constraints.append("No rhymes.")
    optimizer.in_context_examples = ["Count aloud."]
    optimizer.optimizer_system_prompt = "Be bold."
    loss_of(asked, prompt).backward()
    optimizer.step()
    assert (prompt.value, before.asked) == ("Think first.", [])
    for said in ("Write English.\nNo rhymes.", "Count aloud.", "Be bold."):
        assert said in optimizer.last.prompt


def test_lists_may_be_given_in_other_forms(engine, prompt, proposing):
    """A single constraint as a text is one constraint, not one a letter; parameters may come from a generator."""
    asked = engine(proposing(system_prompt="Think first."))
    momentum = tat.TextualGradientDescentwithMomentum
    for kind in (tat.TGD, momentum):
        prompt.set_value("Be brief.")
        parameters = (variable for variable in [prompt])
        optimizer = kind(parameters=parameters, engine=asked, constraints="No rhymes.", in_context_examples="Count.")
        loss_of(asked, prompt).backward()
        optimizer.step()
        assert prompt.value == "Think first."
        assert "Constraint: No rhymes.\n" in optimizer.last.prompt
        assert "examples:\nCount.\n" in optimizer.last.prompt
        del optimizer


def test_options_that_cannot_work_are_refused(engine, prompt):
    """Each in the user's words."""
    for options, message in [
        ({"optimizer": "adam"}, "optimizer is 'optoprime' or 'textgrad', got 'adam'"),
        ({"on_error": "ignore"}, "on_error is 'skip' or 'raise', got 'ignore'"),
        ({"feedback": 3}, "feedback is a text or a function of the loss, got 3"),
    ]:
        with pytest.raises(ta.SettingError, match=message):
            tat.TGD([prompt], engine=engine(), **options)
    with pytest.raises(ta.SettingError, match="at least one parameter"):
        tat.TGD([], engine=engine())
    with pytest.raises(ta.ParameterError, match="one name for each of 1"):
        tat.TGD([prompt], engine=engine(), names=["a", "b"])
    with pytest.warns(UserWarning, match="new_variable_tags has no use"):
        tat.TGD([prompt], engine=engine(), new_variable_tags=["<A>", "</A>"])


def test_an_engine_may_be_anything_that_answers(prompt):
    """A model of ours, a function of a prompt; without a global engine."""
    reply = '<value name="system_prompt">\nThink first.\n</value>'
    for asked in (ta.ScriptedLM([reply]), lambda prompt: reply):
        prompt.set_value("Be brief.")
        optimizer = tat.TGD([prompt], engine=asked)
        tg.sum([prompt, prompt]).backward()
        optimizer.step()
        assert prompt.value == "Think first."


def test_a_small_model_is_asked_in_its_own_way(engine, prompt):
    """About one parameter at a time, with a grammar for the reply; it comes through the engine unchanged."""
    other = text("Say it.", "second prompt", True)
    lm = ta.ScriptedLM(
        lambda messages: (
            f'<value name="{"second" if "Say it." in str(messages) else "system"}_prompt">\nCount.\n</value>'
        ),
        profile="small",
        supports_grammar=True,
    )
    optimizer = tat.TGD([prompt, other], engine=lm)
    asked = engine()
    value = tg.BlackboxLLM(asked, other)(tg.BlackboxLLM(asked, prompt)(text("2 + 2?", "query")))
    tg.TextLoss("Is it right?", asked)(value).backward()
    optimizer.step()
    assert len(lm.calls) == optimizer.last.calls == 1
    assert "grammar" in lm.calls[0].options
    assert len(optimizer.last.changed) == 1
    assert "Count." in next(iter(optimizer.last.changed.values()))


@pytest.mark.parametrize("optimizer", ["optoprime", "textgrad"])
@pytest.mark.parametrize(("role", "value"), [
    ("concise and accurate answer to the question", "Three: one pear\nand two plums, i.e. 3 < 4."),
    ("system prompt to the language model", "Count aloud."),
])  # fmt: skip
def test_a_small_model_gives_answers_whole(engine, optimizer, role, value):
    """Sentences go into what a model is told; of an answer all is asked for, and replaced."""
    answer = text("Count.", role, True)

    def reply(messages):
        tag = re.search('<(value[0-9]*) name="mine">', str(messages))
        return f'<{tag[1]} name="mine">\n{value}\n</{tag[1]}>' if tag else "Wrong."

    lm = ta.ScriptedLM(reply, profile="small", supports_grammar=True)
    chosen = tat.TGD([answer], engine=lm, optimizer=optimizer, names=["mine"])
    tg.TextLoss("Is it right?", engine())(answer).backward()
    chosen.step()
    assert (answer.value, chosen.last.rejected) == (value, ())
    grammar = next(call.options["grammar"] for call in lm.calls if "grammar" in call.options)
    assert ("sentence" in grammar) == ("prompt" in role)


def test_tokens_are_counted(engine, prompt, proposing):
    """Those the model says; estimates, said to be such, for engines that say none."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], engine=asked)
    loss_of(asked, prompt).backward()
    optimizer.step()
    assert optimizer.last.estimated
    assert 300 < optimizer.last.usage.prompt_tokens < 1500
    assert 5 < optimizer.last.usage.completion_tokens < 60
    scripted = ta.ScriptedLM(['<value name="system_prompt">\nx\n</value>'])
    optimizer = tat.TGD([prompt], engine=scripted)
    (prompt + prompt).backward()
    optimizer.step()
    assert not optimizer.last.estimated


def test_many_threads_have_an_optimizer_each(engine, is_update):
    """As in the published solution optimization: a Variable and an optimizer for every question."""
    barrier = threading.Barrier(8)

    def answer(prompt, system):
        if not is_update(system):
            return "wrong"
        number = prompt.split("question number ")[1].split("\n")[0].rstrip('"')
        return f'<value name="solution">\nsolution of {number}\n</value>'

    asked = engine(answer)

    def solve(number):
        solution = text(f"question number {number}", "solution", True)
        optimizer = tat.TGD([solution], engine=asked)
        barrier.wait(10)
        tg.TextLoss("Right?", asked)(solution).backward()
        optimizer.step()
        return solution.value

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(solve, range(8))) == [f"solution of {number}" for number in range(8)]


def test_verbose_prints_the_new_value(engine, prompt, capsys, proposing):
    """As TextGrad's does."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], verbose=1, engine=asked)
    loss_of(asked, prompt).backward()
    optimizer.step()
    assert capsys.readouterr().out.splitlines()[-1] == "Think first."


def test_numbers_and_choices_are_parameters(engine, proposing):
    """They are texts for TextGrad, and checked; the reply is read as what they are."""
    limit = tat.Number(3, role_description="limit of words", low=1, high=9)
    tone = tat.Choice("plain", ["plain", "kind"], role_description="tone of the answer")
    asked = engine(proposing(limit="7", tone="kind"))
    optimizer = tat.TGD([limit, tone], engine=asked)
    (limit + tone).backward()
    optimizer.step()
    assert (limit.value, limit.number, tone.value) == ("7", 7, "kind")
    assert optimizer.last.changed == {"limit": 7, "tone": "kind"}
    for variable, value in ((limit, "10"), (limit, "many"), (tone, "rude")):
        with pytest.raises(ta.ParameterError):
            variable.set_value(value)
    outside = tat.TGD([limit], engine=engine(proposing(limit="99")))
    (limit + limit).backward()
    with pytest.warns(UserWarning, match="at most 9"):
        outside.step()
    assert limit.number == 7


def test_a_number_says_what_it_may_be():
    """Its constraint is in words for the model; its type is kept."""
    assert tat.Number(3, role_description="x", low=1, high=9).constraint == "A number of at least 1 and of at most 9."
    assert tat.Number(3, role_description="x", high=9).constraint == "A number of at most 9."
    share = tat.Number(0.5, role_description="x")
    share.set_value(1)
    assert (share.value, share.number, share.constraint) == ("1.0", 1.0, "")
    for value in (True, "3", None, float("inf")):
        with pytest.raises(ta.ParameterError):
            tat.Number(value, role_description="x")
    with pytest.raises(ta.ParameterError, match="Expected a number of at least 4, got 3"):
        tat.Number(3, role_description="x", low=4)
    with pytest.raises(ta.ParameterError, match=r"Expected a whole number, got '3\.5'"):
        tat.Number(3, role_description="x").set_value("3.5")
    with pytest.raises(ta.ParameterError, match="one of 'a', 'b', got 'c'"):
        tat.Choice("c", ["a", "b"], role_description="x")


def test_nothing_is_printed_or_warned_of_in_a_good_step(engine, prompt, capsys, proposing):
    """Silence is what a script has from TextGrad, too."""
    asked = engine(proposing(system_prompt="Think first."))
    optimizer = tat.TGD([prompt], engine=asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_of(asked, prompt).backward()
        optimizer.step()
    assert capsys.readouterr() == ("", "")


def test_textgrads_way_by_one_word(engine, prompt):
    """`optimizer="textgrad"` asks about every call that leads to the parameter, in `step()`; backward stays free."""

    def answer(question, system):
        return '<value name="system_prompt">\nThink first.\n</value>' if '<value name="' in system else "Say more."

    asked = engine(answer)
    optimizer = tat.TGD([prompt], engine=asked, optimizer="textgrad")
    loss = loss_of(asked, prompt)
    before = len(asked.asked)
    loss.backward()
    assert len(asked.asked) == before
    optimizer.step()
    assert prompt.value == "Think first."
    assert (optimizer.last.calls, optimizer.last.textgrad_calls) == (7, 7)
    assert "Say more." in prompt.get_gradient_text()
