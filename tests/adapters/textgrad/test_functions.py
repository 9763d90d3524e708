"""Python functions are parameters of TextGrad programs, under our optimizer and under TextGrad's."""

from __future__ import annotations

import pytest
import textgrad as tg

import trace_adapters as ta
import trace_adapters_textgrad as tat

BETTER = "def extract_answer(response):\n    return response.split()[-1]"


def extract_answer(response):
    """Takes the number out of the answer."""
    return int(response.split("Answer:")[1])


def text(value, role="a text"):
    return tg.Variable(value, requires_grad=False, role_description=role)


def test_a_call_is_in_textgrads_graph():
    """The output is a Variable whose predecessors are the source and the arguments."""
    extract = tat.trainable(extract_answer)
    response = text("Answer: 4", "response")
    output = extract(response=response)
    assert output.value == "4"
    assert output.predecessors == {extract.code, response}
    node = tat.to_node(output)
    assert (node.name, list(node.inputs)) == ("extract_answer", ["__code", "response"])
    assert node.operation.description == "Takes the number out of the answer."


def test_an_exception_is_the_output():
    """With the line at which it was raised, in the original and in a learned source."""
    extract = tat.trainable(extract_answer)
    said = extract("no idea").value
    assert said == (
        '(execution failed) IndexError: list index out of range (line 3 of extract_answer: return int(response.split('
        '"Answer:")[1]))'
    )  # fmt: skip
    extract.code.set_value("def extract_answer(response):\n    return 1 / 0")
    assert "ZeroDivisionError: division by zero (line 2 of extract_answer: return 1 / 0)" in extract("x").value
    extract.code.set_value("def another(response):\n    return 1")
    assert extract("x").value.startswith("(execution failed) CodeError: ")
    extract.code.set_value("I cannot write code.")
    assert extract("x").value.startswith("(execution failed) CodeError: ")


def test_ours_learns_a_function_and_a_prompt_in_one_call(engine, is_update):
    """The source is shown whole, checked, and run in the sandbox."""
    prompt = tg.Variable("Count.", role_description="system prompt to the model")
    extract = tat.trainable(extract_answer)

    def answer(question, system):
        if is_update(system):
            return f'<value name="extract_answer">\n```python\n{BETTER}\n```\n</value>'
        return "It is 4" if system == "Count." else "wrong"

    asked = engine(answer)
    optimizer = tat.TGD([prompt, extract.code], engine=asked)
    output = extract(response=tg.BlackboxLLM(asked, prompt)(text("2 + 2?", "query")))
    tg.TextLoss("Right?", asked)(output).backward()
    optimizer.step()
    assert "## extract_answer (Python function)" in optimizer.last.prompt
    assert "extract_answer_2 = extract_answer(response=response)" in optimizer.last.prompt
    assert extract.code.value.strip() == BETTER
    assert extract(response="It is 4").value == "4"
    assert (prompt.value, optimizer.last.calls) == ("Count.", 1)


def test_textgrads_own_optimizer_learns_it_too(engine):
    """Fences that models put around code are taken away."""
    extract = tat.trainable(extract_answer)
    asked = engine(f"<IMPROVED_VARIABLE>\n```python\n{BETTER}\n```\n</IMPROVED_VARIABLE>")
    optimizer = tg.TGD([extract.code], engine=asked)
    extract("It is 4").backward(asked)
    optimizer.step()
    assert extract("It is 4").value == "4"


def test_a_source_that_cannot_stand_in_is_refused_before_it_runs(engine, is_update):
    """The second question says why."""
    extract = tat.trainable(extract_answer)
    replies = iter(["def extract_answer(x, y):\n    return 1", BETTER])
    asked = engine(lambda p, s: f'<value name="extract_answer">\n{next(replies)}\n</value>' if is_update(s) else "no")
    optimizer = tat.TGD([extract.code], engine=asked, constraints=["Use no regular expressions."])
    tg.TextLoss("Right?", asked)(extract("It is 4")).backward()
    optimizer.step()
    assert (extract.code.value.strip(), optimizer.last.calls) == (BETTER, 2)
    assert "must be (response), got (x, y)" in optimizer.last.rejected[0]
    assert "Use no regular expressions." in optimizer.last.prompt
    assert "def extract_answer(response)" in optimizer.last.prompt


def test_junk_in_a_source_does_not_stop_the_graph():
    """TextGrad's own optimizer checks nothing; ours still shows what is there, and learns from it."""
    extract = tat.trainable(extract_answer)
    extract.code.set_value("I cannot write code.")
    node = tat.to_node(extract("It is 4"))
    assert node.recorded_inputs["__code"].data == "I cannot write code."
    view = tat.parameter(extract.code)
    extract.code.set_value(BETTER)
    view.rename("other")
    assert (view.data, view.key) == (BETTER, "other")


def test_what_a_function_gets_and_gives():
    """Texts of Variables, numbers of Numbers, other arguments as they are; what it returns becomes a text."""
    seen = []

    def show(a, b, *rest, key=1, **more):
        seen.append((a, b, rest, key, more))
        return {"a": a, "n": [1, None]}

    extract = tat.trainable(show, "shows what it got")
    number = tat.Number(3, role_description="a number")
    output = extract(text("x"), number, 5, key=[1], other="z")
    assert seen == [("x", 3, (5,), [1], {"other": "z"})]
    assert output.value == '{"a": "x", "n": [1, null]}'
    assert list(tat.to_node(output).inputs) == ["__code", "a", "b", "rest_1", "key", "other"]


def test_a_template_keeps_its_placeholders(engine, proposing):
    """Braces in other texts are plain text: a solution may lose the braces it had."""
    template = tat.Template("Question: {question}", role_description="template of the prompt")
    solution = tg.Variable("f'{x}' is it", role_description="solution")
    asked = engine(proposing(template="No question.", solution="x is it"))
    filled = template.format(question=text("2 + 2?", "question"))
    assert filled.value == "Question: 2 + 2?"
    assert list(tat.to_node(filled).inputs) == ["template", "question"]
    both = tat.TGD([template, solution], engine=asked)
    (filled + solution).backward()
    with pytest.warns(UserWarning, match=r"lost \{question\}"):
        both.step()
    assert template.value == "Question: {question}"
    alone = tat.TGD([solution], engine=engine(proposing(solution="x is it")))
    del both
    (solution + solution).backward()
    alone.step()
    assert solution.value == "x is it"
    template.set_value("Question: {q}")
    assert template.format(question="2 + 2?").value == "(execution failed) KeyError: 'q'"


def test_host_functions_may_be_used():
    """Those that are declared, no others."""
    extract = tat.trainable(extract_answer, uses={"ask": lambda question: f"answer to {question}"})
    extract.code.set_value("def extract_answer(response):\n    return ask(response)")
    assert extract("it").value == "answer to it"


def test_a_model_that_cannot_be_asked_is_no_feedback():
    """It is not the source's fault."""

    def ask(question):
        raise ta.ModelUnavailable("no server")

    extract = tat.trainable(extract_answer, uses={"ask": ask}, trust="in-process")
    extract._learned.function.__globals__["ask"] = ask
    try:
        extract.code.set_value("def extract_answer(response):\n    return ask(response)")
        with pytest.raises(ta.ModelUnavailable):
            extract("it")
    finally:
        del extract._learned.function.__globals__["ask"]


def test_what_cannot_be_trained_is_refused():
    """Before anything runs."""
    with pytest.raises(ta.CodeError):
        tat.trainable(len)

    async def later(x):
        return x

    with pytest.raises(ta.AdapterError, match="takes a plain function"):
        tat.trainable(later)
    with pytest.raises(TypeError, match="missing a required argument"):
        tat.trainable(extract_answer)()
