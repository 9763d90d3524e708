"""One program of DSPy, TextGrad, LangChain and plain Python, trained as a whole."""

from __future__ import annotations

import copy
import re

import pytest
import textgrad as tg
from textgrad.autograd import StringBasedFunction

import trace_adapters as ta
import trace_adapters_textgrad as tat
from trace_adapters.testing.openai_server import OpenAIServer

dspy = pytest.importorskip("dspy")
pytest.importorskip("langchain_core")
tad = pytest.importorskip("trace_adapters_dspy")
tal = pytest.importorskip("trace_adapters_langchain")

BETTER = {
    "instructions": "Ask better.",
    "system_prompt": "Answer better.",
    "prompt": "better: {answer}",
    "read": 'def read(self, text):\n    return f"better! {text}"',
}


class Models:
    """Answers for every stage, and for an optimizer: what it is told to do better, it does."""

    def __init__(self):
        self.lm = ta.ScriptedLM(self.answer)
        self.updates = []

    def answer(self, messages):
        system, user = messages[0]["content"], messages[-1]["content"]
        if "<reasoning>" in system:
            self.updates.append(user)
            names = re.findall(r"^## (\w+) \(", user, re.MULTILINE)
            return "".join(f'<value name="{name}">\n{BETTER[name]}\n</value>\n' for name in names)
        if "## Feedback" in user:  # what should change about a value
            return "Let it be good."
        if "objective" in system:  # DSPy's
            return f"[[ ## question ## ]]\n{'better?' if 'better' in system else 'what?'}\n\n[[ ## completed ## ]]"
        return f"{user} {'better.' if 'better' in system else 'that.'}"


class Pipeline(ta.Module):
    """Asks with DSPy, answers with TextGrad, words it with LangChain, reads it in plain Python."""

    def __init__(self, program, answer, chain):
        self.program, self.asking = program, tad.parameters(program)
        self.answer = tat.wrap(answer)
        self.chain = tal.trace(chain, trainable=["prompt"])
        self.wording = self.chain.parameters

    @ta.bundle
    def ask(self, topic):
        """Ask a question about the topic."""
        values = {key: parameter.data for key, parameter in self.asking.items()}
        return tad.apply(self.program, values)(topic=topic).question

    @ta.bundle
    def word(self, answer):
        """Word the answer."""
        return self.chain.invoke({"answer": answer})

    @ta.bundle(trainable=True, trust="in-process")
    def read(self, text):
        """Read the answer."""
        return text

    def forward(self, topic):
        return self.read(self.word(self.answer(self.ask(topic))))


@pytest.fixture
def models():
    return Models()


@pytest.fixture
def predict(models):
    """The stage of DSPy, whose models have a server."""
    with OpenAIServer(lambda request: models.answer(request.messages)) as server:
        program = dspy.Predict("topic -> question")
        program.set_lm(tad.dspy_lm(ta.LM("stub", base_url=server.base_url, api_key="none"), cache=False))
        yield program


@pytest.fixture
def pipeline(models, predict):
    from langchain_core.prompts import PromptTemplate
    from langchain_core.runnables import RunnableLambda

    prompt = tg.Variable("Answer.", role_description="system prompt to the language model")
    chain = PromptTemplate.from_template("{answer}") | RunnableLambda(lambda value: value.to_string())
    return Pipeline(predict, tg.BlackboxLLM(tat.as_engine(models.lm), prompt), chain)


def test_feedback_reaches_the_parameters_of_every_stage(pipeline):
    """Each once; a step of any optimizer sets them where the stages read them."""
    output = pipeline("plums")
    assert output.data == "what? that."
    graph = ta.propagate(output, "wrong")
    assert [parameter.key for parameter in graph.parameters] == list(BETTER)
    assert set(graph.parameters) == set(pipeline.parameters())


@pytest.mark.parametrize(("kind", "asked"), [(ta.OptoPrime, 1), (ta.TextGrad, 4)])
def test_an_optimizer_sets_all_of_them(pipeline, models, kind, asked):
    """OptoPrime in one question, textual gradients in one for each, after those about the calls."""
    optimizer = kind(pipeline.parameters(), lm=models.lm)
    optimizer.backward(pipeline("plums"), "It should be better.")
    optimizer.step()
    assert len(models.updates) == asked
    assert pipeline("plums").data == "better! better: better? better."


@pytest.mark.parametrize("optimizer", ["optoprime", "textgrad"])
def test_it_is_optimized_as_one_program(pipeline, models, optimizer):
    """The result is a copy with better values in every stage, the input stays as it was."""
    result = ta.optimize(
        pipeline,
        [{"topic": topic} for topic in ("plums", "pears")],
        lambda example, output: output.count("better") / 4,
        optimizer=optimizer,
        lm=models.lm,
        budget=ta.Budget(metric_calls=12),
        workers=2,
    )
    assert result.best.score == 1.0
    assert result.program("figs").data == "better! better: better? better."
    assert pipeline("figs").data == "what? that."


def test_a_copy_has_stages_of_its_own(pipeline):
    """Setting the values of the copy changes no stage of the original, in whatever order they are copied."""
    twin = copy.deepcopy(pipeline)
    twin.set_values(BETTER)
    assert twin("plums").data == "better! better: better? better."
    assert pipeline("plums").data == "what? that."


def test_textgrads_optimizer_trains_it_from_its_side(models, predict):
    """Every stage a function of Variables: one call sets all their values."""
    from langchain_core.prompts import PromptTemplate

    model = tat.as_engine(models.lm)

    def ask(instructions, topic):
        return tad.apply(predict, {"instructions": instructions.value})(topic=topic.value).question

    def word(prompt, answer):
        return PromptTemplate.from_template(prompt.value).format(answer=answer.value)

    def read(self, text):
        return text

    instructions = tg.Variable("Ask.", role_description="instructions of the question")
    system = tg.Variable("Answer.", role_description="system prompt to the language model")
    prompt = tat.Template("{answer}", role_description="prompt of the wording")
    reads = tat.trainable(read, trust="in-process")
    asking = StringBasedFunction(ask, "asks a question about the topic")
    wording = StringBasedFunction(word, "words the answer")

    def forward():
        topic = tg.Variable("plums", requires_grad=False, role_description="topic")
        question = asking({"instructions": instructions, "topic": topic})
        answer = tg.BlackboxLLM(model, system)(question)
        return reads("", wording({"prompt": prompt, "answer": answer}))

    optimizer = tat.TGD([instructions, system, prompt, reads.code], engine=model, names=list(BETTER))
    tg.TextLoss("Is it better?", model)(forward()).backward()
    optimizer.step()
    assert len(models.updates) == 1
    assert forward().value == "better! better: better? better."
