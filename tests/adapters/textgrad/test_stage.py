"""A TextGrad stage in a larger graph: parameters read and write through, nodes flow in and out."""

from __future__ import annotations

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
import textgrad as tg

import trace_adapters as ta
import trace_adapters_textgrad as tat


@pytest.fixture
def prompt():
    return tg.Variable("Be brief.", role_description="system prompt to the language model")


def echo(question, system):
    return f"{system} {question}"


def test_nodes_flow_through_a_stage(engine, prompt):
    """What a bundle made goes in; what comes out leads back to it, and to the Variables of the stage."""
    stage = tat.wrap(tg.BlackboxLLM(engine(echo), prompt))
    template = ta.node("Q: {q}", name="template", trainable=True)
    output = stage(template.format(q="2 + 2?"))
    assert output.data == "Be brief. Q: 2 + 2?"
    graph = ta.propagate(output, "wrong")
    assert [parameter.key for parameter in graph.parameters] == ["template", "system_prompt"]
    assert [node.name for node in graph.nodes][-1] == "response"

    @ta.bundle
    def shout(answer):
        return answer.upper()

    assert shout(output).data == "BE BRIEF. Q: 2 + 2?"
    assert len(ta.propagate(shout(output), "wrong").parameters) == 2


def test_a_stage_of_dspy_goes_before_one_of_textgrad(engine, prompt):
    """One graph over both: feedback on TextGrad's answer reaches DSPy's instructions."""
    dspy = pytest.importorskip("dspy")
    tad = pytest.importorskip("trace_adapters_dspy")
    from dspy.utils import DummyLM

    program = dspy.Predict("topic -> question")
    with dspy.context(lm=DummyLM([{"question": "What is a plum?"}])), tad.record(program) as tape:
        program(topic="plums")
    stage = tat.wrap(tg.BlackboxLLM(engine(echo), prompt))
    answer = stage(tape.node()["question"])
    assert answer.data == "Be brief. What is a plum?"
    graph = ta.propagate(answer, "wrong")
    assert [p.key.split(".")[-1] for p in graph.parameters if p.kind == "text"] == ["instructions", "system_prompt"]


def test_a_stage_of_langchain_goes_before_one_of_textgrad(engine, prompt):
    """The output of a traced chain is a node, too."""
    pytest.importorskip("langchain_core")
    tal = pytest.importorskip("trace_adapters_langchain")
    from langchain_core.prompts import PromptTemplate
    from langchain_core.runnables import RunnableLambda

    chain = tal.trace(
        PromptTemplate.from_template("Ask about {topic}.") | RunnableLambda(lambda value: value.to_string())
    )
    stage = tat.wrap(tg.BlackboxLLM(engine(echo), prompt))
    answer = stage(chain.node({"topic": "plums"}))
    assert answer.data == "Be brief. Ask about plums."
    keys = [parameter.key for parameter in ta.propagate(answer, "wrong").parameters]
    assert "system_prompt" in keys
    assert "prompt" in keys


def test_a_step_of_any_optimizer_sets_the_variable(engine, prompt):
    """Both worlds see the update."""
    stage = tat.wrap(tg.BlackboxLLM(engine(echo), prompt))
    lm = ta.ScriptedLM(['<value name="system_prompt">\nThink first.\n</value>'])
    optimizer = ta.OptoPrime(stage.parameters(), lm=lm)
    optimizer.backward(stage("2 + 2?"), "wrong")
    assert optimizer.step() == {"system_prompt": "Think first."}
    assert prompt.value == "Think first."
    assert stage("2 + 2?").data == "Think first. 2 + 2?"
    prompt.set_value("Be kind.")
    assert stage.parameters()[0].data == "Be kind."
    assert ta.propagate(stage("x"), "wrong").candidate == {"system_prompt": "Be kind."}


def test_candidates_run_side_by_side(engine, prompt):
    """Under `using` the stage runs with the candidate's values, in its thread only."""
    stage = tat.wrap(tg.BlackboxLLM(engine(echo), prompt))

    def run(number):
        with ta.using({"system_prompt": f"Version {number}."}):
            output = stage("q")
            return output.data, ta.propagate(output, "x").candidate["system_prompt"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(32))) == [(f"Version {n}. q", f"Version {n}.") for n in range(32)]
    assert prompt.value == "Be brief."


def test_parameters_that_nobody_declared_are_found(engine, prompt):
    """In a closure, in attributes, in what a program returns; inputs without `requires_grad` are none."""
    made = []

    def answer(question):
        made.append(tg.Variable("Check it.", role_description="second prompt"))
        first = tg.BlackboxLLM(asked, prompt)(question)
        return tg.BlackboxLLM(asked, made[0])(first)

    asked = engine(echo)
    stage = tat.wrap(answer)
    assert [parameter.key for parameter in stage.parameters()] == ["system_prompt"]
    output = stage(question="2 + 2?")
    assert [parameter.key for parameter in stage.parameters()] == ["system_prompt", "second_prompt"]
    assert sorted(p.key for p in ta.propagate(output, "x").parameters) == ["second_prompt", "system_prompt"]
    fixed = tat.wrap(answer, parameters=[prompt], names=["style"])
    fixed("2 + 2?")
    assert [parameter.key for parameter in fixed.parameters()] == ["style"]


def test_a_frozen_variable_is_no_parameter(engine):
    """`requires_grad=False` says so, as does a system prompt that was given as a text."""
    assert tat.wrap(tg.BlackboxLLM(engine(echo), "Be brief.")).parameters() == []


def test_a_failure_of_the_stage_is_a_failed_call(engine, prompt):
    """Feedback flows through it to the parameters that may have caused it."""

    def broken(question, system):
        raise ValueError("too long")

    stage = tat.wrap(tg.BlackboxLLM(engine(broken), prompt))
    with pytest.raises(ta.ExecutionError, match="too long") as caught:
        stage("2 + 2?")
    assert [p.key for p in ta.propagate(caught.value.node, "x").parameters] == ["system_prompt"]


def test_a_server_that_fails_is_not_the_programs_fault(prompt, engine):
    """Engines of TextGrad raise what their retry library makes of it; a prompt that is too long is the program's."""
    import openai
    import tenacity

    request = httpx.Request("POST", "http://127.0.0.1:9")

    @tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
    def failing(question, system):
        raise openai.APIConnectionError(request=request)

    stage = tat.wrap(tg.BlackboxLLM(engine(failing), prompt))
    with pytest.raises(ta.ModelError, match="The language model of BlackboxLLM failed: APIConnectionError"):
        stage("2 + 2?")

    def too_long(question, system):
        raise openai.BadRequestError("too long", response=httpx.Response(400, request=request), body=None)

    with pytest.raises(ta.ExecutionError, match="too long"):
        tat.wrap(tg.BlackboxLLM(engine(too_long), prompt))("2 + 2?")


def test_parameters_are_found_by_many_threads_at_once(engine, prompt):
    """Each once, the same for all."""
    asked = engine(echo)
    hidden = [tg.Variable(f"hint {number}", role_description="hint") for number in range(4)]
    out_of_sight = SimpleNamespace(programs=[tg.BlackboxLLM(asked, variable) for variable in hidden])
    stage = tat.wrap(lambda question: out_of_sight.programs[len(question.value) - 1](question))
    assert stage.parameters() == []
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda number: stage("x" * (1 + number % 4)), range(64)))
    assert [parameter.key for parameter in stage.parameters()] == sorted(
        {p.key for output in outputs for p in ta.propagate(output, "x").parameters}, key=list(stage.found).index
    )
    assert len(stage.parameters()) == 4


def test_a_stage_is_part_of_a_module(engine, prompt):
    """Its parameters are found, its copies have Variables of their own and share the engine."""
    asked = engine(echo)

    class Agent(ta.Module):
        def __init__(self):
            self.answer = tat.wrap(tg.BlackboxLLM(asked, prompt))

        def forward(self, question):
            return self.answer(question)

    agent = Agent()
    assert agent.values() == {"system_prompt": "Be brief."}
    twin = agent.copy()
    twin.set_values({"system_prompt": "Think first."})
    assert (twin("q").data, agent("q").data) == ("Think first. q", "Be brief. q")
    assert twin.answer.program.engine is asked


def upper(answer):
    """Writes it large."""
    return answer.upper()


def test_a_trainable_function_is_a_stage(tmp_path):
    """Its source is the parameter; a copy has a source of its own."""
    shout = tat.trainable(upper)
    stage = tat.wrap(shout)
    assert [(p.key, p.kind) for p in stage.parameters()] == [("upper", "code")]
    assert stage("yes").data == "YES"
    twin = stage.copy()
    twin.set_values({"upper": "def upper(answer):\n    return answer.lower()"})
    assert (twin("Yes").data, stage("Yes").data) == ("yes", "YES")
    with ta.using({"upper": "def upper(answer):\n    return answer[::-1]"}):
        assert stage("Yes").data == "seY"
    with pytest.raises(ta.ParameterError, match="There is no parameter"):
        ta.wrap(stage).with_values({"lower": "x"})


def test_variables_and_traces_travel_in_pickles(engine, prompt):
    """A Variable stays TextGrad's own; in a trace its parameter becomes one of its own."""
    stage = tat.wrap(tg.BlackboxLLM(engine(echo), prompt))
    graph = ta.propagate(stage("2 + 2?"), "wrong")
    again = pickle.loads(pickle.dumps(graph))
    assert [p.key for p in again.parameters] == ["system_prompt"]
    assert again.candidate == {"system_prompt": "Be brief."}
    assert [node.name for node in again.nodes] == [node.name for node in graph.nodes]
    plain = tg.Variable("Be brief.", role_description="a prompt")
    plain.gradients_context = {}  # TextGrad's own default holds a lambda, which no pickle takes
    view = tat.parameter(plain)
    assert "trace_adapters" not in str(vars(plain))
    copied = pickle.loads(pickle.dumps(plain))
    copied.set_value("Be long.")
    assert (copied.value, view.data) == ("Be long.", "Be brief.")


def test_a_view_lives_as_long_as_somebody_holds_it(prompt):
    """The Variable holds nothing of ours, so nothing is kept alive."""
    view = tat.parameter(prompt, "style")
    assert tat.parameter(prompt) is view
    alive = weakref.ref(view)
    del view
    gc.collect()
    assert alive() is None
    assert prompt.value == "Be brief."
    assert tat.parameter(prompt).key == "system_prompt"


def test_a_module_of_textgrad_can_be_optimized(engine, prompt, tmp_path):
    """`ta.optimize` finds the adapter; what comes back is a module of the same kind, the input is untouched."""
    module = tg.BlackboxLLM(engine(lambda q, s: "4" if s == "Think first." else "5"), prompt)
    lm = ta.ScriptedLM(lambda messages: '<value name="system_prompt">\nThink first.\n</value>')
    result = ta.optimize(
        module,
        [("2 + 2?", "4"), ("1 + 3?", "4")],
        lambda example, output: float(example[1] == output),
        lm=lm,
        store=f"sqlite:///{tmp_path / 'study.db'}",
        budget=20,
        progress=False,
    )
    assert (result.base_score, result.best.score) == (0.0, 1.0)
    assert type(result.program) is type(module)
    assert result.program(tg.Variable("2 + 2?", role_description="query")).value == "4"
    assert prompt.value == "Be brief."


def test_a_module_stays_as_it_is(engine, prompt):
    """A Variable of the caller is taken as it is, with its history; nothing is recorded under no_trace."""
    stage = tat.wrap(tg.BlackboxLLM(engine(echo), prompt))
    with ta.no_trace():
        assert stage("q").is_root
    question = tg.BlackboxLLM(engine(echo), tg.Variable("Ask.", role_description="asking prompt"))(
        tg.Variable("q", requires_grad=False, role_description="query")
    )
    assert sorted(p.key for p in ta.propagate(stage(question), "x").parameters) == ["asking_prompt", "system_prompt"]


def test_what_cannot_be_wrapped_or_copied_is_refused(engine, prompt):
    """With what to do instead."""
    with pytest.raises(ta.AdapterError, match=r"wrap\(\) takes a textgrad Module"):
        tat.wrap(prompt)
    asked = engine(echo)
    stage = tat.wrap(lambda question: tg.BlackboxLLM(asked, prompt)(question))
    with pytest.raises(ta.AdapterError, match="Make it a textgrad Module"):
        stage.copy()
