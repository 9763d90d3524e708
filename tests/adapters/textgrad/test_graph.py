"""Every operation of TextGrad is recovered from what it leaves on its Variables, without a model call."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import textgrad as tg
from textgrad.autograd import (
    FormattedLLMCall,
    LLMCall,
    MultimodalLLMCall,
    OrderedFieldsMultimodalLLMCall,
    StringBasedFunction,
)
from textgrad.autograd.function import BackwardContext
from textgrad.autograd.llm_ops import LLMCall_with_in_context_examples
from textgrad.loss import ImageQALoss, MultiChoiceTestTime, MultiFieldEvaluation, MultiFieldTokenParsedEvaluation

import trace_adapters as ta
import trace_adapters_textgrad as tat

PICTURE = b"\x89PNG" + bytes(2996)


def text(value, role="a text", trainable=False):
    return tg.Variable(value, requires_grad=trainable, role_description=role)


def inputs_of(node):
    return {name: source.data for name, source in node.inputs.items()}


@pytest.fixture
def prompt():
    return text("Be brief.", "system prompt to the language model", True)


def test_an_llm_call_has_its_prompt_and_system_prompt(engine, prompt):
    """The system prompt is told from the prompt even where both hold the same text."""
    question = text("Be brief.", "query to the language model")
    answer = LLMCall(engine("Yes."), prompt)(question)
    node = tat.to_node(answer, [prompt])
    assert list(node.inputs) == ["prompt", "system_prompt"]
    assert node.inputs["system_prompt"] is tat.parameter(prompt)
    assert node.inputs["prompt"].name == "query"
    assert (node.data, node.name, node.operation.name, node.operation.language_model) == (
        "Yes.",
        "response",
        "llm",
        True,
    )


def test_a_call_with_one_variable_for_both_has_it_twice(engine, prompt):
    """A set has it once; the call had it twice."""
    node = tat.to_node(LLMCall(engine(), prompt)(prompt), [prompt])
    assert inputs_of(node) == {"prompt": "Be brief.", "system_prompt": "Be brief."}


def test_a_formatted_call_has_the_names_of_its_fields(engine, prompt):
    """Which Variable filled which field is found by fitting the text that was sent."""
    fields = {"question": None, "the prediction": None, "truth": None}
    call = FormattedLLMCall(engine(), "Q: {question}\nA: {the prediction}\nT: {truth} {{json}}", fields, prompt)
    made = call(
        inputs={"question": text("4"), "the prediction": text("4\nA: 4", trainable=True), "truth": text("5")},
        response_role_description="evaluation of the prediction",
    )
    node = tat.to_node(made)
    assert inputs_of(node) == {
        "question": "4", "the_prediction": "4\nA: 4", "truth": "5", "system_prompt": "Be brief."
    }  # fmt: skip
    assert node.operation.name == "llm_evaluation"
    assert "{the prediction}" in node.operation.description


def test_an_in_context_call_is_an_llm_call(engine, prompt):
    """Its answer stands between tags; its arguments are those of any call."""
    call = LLMCall_with_in_context_examples(engine("thinking <FINAL>Rome</FINAL>"), prompt)
    node = tat.to_node(call(text("Capital?"), in_context_examples=["x"]), [prompt])
    assert (node.data, inputs_of(node)) == ("Rome", {"prompt": "Capital?", "system_prompt": "Be brief."})


def test_pictures_are_placeholders(engine, prompt):
    """Bytes never stand in a prompt; the order of the content is kept."""
    call = MultimodalLLMCall(engine(model_string="gpt-4o"), prompt)
    node = tat.to_node(call([text(PICTURE, "a picture"), text("What is it?")]), [prompt])
    assert inputs_of(node) == {
        "input_1": "<image, 3,000 bytes>", "input_2": "What is it?", "system_prompt": "Be brief."
    }  # fmt: skip


def test_ordered_multimodal_calls_have_the_names_of_their_fields(engine, prompt):
    """Fields come before the values in what is sent."""
    call = OrderedFieldsMultimodalLLMCall(engine(model_string="gpt-4o"), ["Question", "Image"], prompt)
    node = tat.to_node(call({"Question": text("What is it?"), "Image": text(PICTURE)}), [prompt])
    assert inputs_of(node) == {
        "Question": "What is it?", "Image": "<image, 3,000 bytes>", "system_prompt": "Be brief."
    }  # fmt: skip


def test_the_picture_loss_is_recovered(engine):
    """Its instruction is a Variable of its own."""
    answer = text("a cat", "answer", True)
    loss = ImageQALoss("Is it right?", engine(model_string="gpt-4o"))
    node = tat.to_node(loss(text(PICTURE), text("What is it?"), answer), [answer])
    assert list(node.inputs) == ["Evaluation_Instruction", "Question", "Image", "Answer", "system_prompt"]


def test_a_function_has_its_name_purpose_and_argument_names():
    """They are exact: TextGrad keeps them."""

    def is_equal(prediction, ground_truth_answer):
        return int(prediction.value == ground_truth_answer.value)

    prediction = text("4", "prediction", True)
    function = StringBasedFunction(is_equal, "whether the answer is right")
    node = tat.to_node(function(inputs={"prediction": prediction, "ground_truth_answer": text("4")}))
    named = "is_equal" if not hasattr(StringBasedFunction, "backward_static") else "whether_answer"  # a later TextGrad
    assert (node.name, node.operation.description) == (named, "whether the answer is right")
    assert inputs_of(node) == {"prediction": "4", "ground_truth_answer": "4"}


@pytest.mark.parametrize("function", [lambda x: "1", partial(lambda x, y: "1", y=2)])
def test_a_nameless_function_is_named_by_its_purpose(function):
    """A lambda has no name to show."""
    made = StringBasedFunction(function, "counts the objects in a list")(inputs={"x": text("a", trainable=True)})
    assert tat.to_node(made).operation.name == "counts_objects"


def test_a_function_whose_context_was_made_by_hand():
    """Inputs that are no predecessors, names in prose, no function object: as programs of users have it."""
    image, query, hint = text("a", "caption", True), text("b", "query", True), text("c", "hint", True)
    made = tg.Variable("x", predecessors=[hint], role_description="solution")
    inputs = {"Image caption": image, "the query": query, "number of tries": 3}
    made.set_grad_fn(BackwardContext(print, response=made, function_purpose="solve the question", inputs=inputs))
    node = tat.to_node(made)
    assert (node.name, node.operation.name) == ("solution", "solve_question")
    assert inputs_of(node) == {"Image_caption": "a", "the_query": "b", "input_1": "c"}


def test_a_sum_keeps_its_order():
    """Predecessors are a set; the text tells the order."""
    parts = [text(value, "part", True) for value in ("b", "a\nb", "c", "d")]
    random.Random(1).shuffle(parts)
    total = tg.sum(parts)
    assert list(inputs_of(tat.to_node(total)).values()) == [part.value for part in parts]


def test_what_is_added_twice_is_there_twice():
    """`a + a` and `sum([a, a])` have one predecessor."""
    a = text("x", "a", True)
    assert inputs_of(tat.to_node(a + a)) == {"input_1": "x", "input_2": "x"}
    assert inputs_of(tat.to_node(tg.sum([a, a]))) == {"input_1": "x", "input_2": "x"}


def test_an_addition_keeps_its_order():
    """`x + y` is not `y + x`."""
    x, y = text("yes", "x", True), text("no", "y", True)
    assert list(inputs_of(tat.to_node(x + y)).values()) == ["yes", "no"]
    assert list(inputs_of(tat.to_node(y + x)).values()) == ["no", "yes"]


def test_an_aggregate_is_recovered():
    """It is a sum whose gradients would be reduced."""
    parts = [text(str(number), "part", True) for number in range(12)]
    node = tat.to_node(tg.aggregate(parts))
    assert node.operation.name == "aggregate"
    assert list(inputs_of(node).values()) == [str(number) for number in range(12)]


def test_a_hand_made_variable_has_numbered_inputs():
    """Nothing is known of how it was made."""
    a, b = text("1", "first number", True), text("2", "second number", True)
    made = tg.Variable("3", predecessors=[a, b], role_description="total of the numbers")
    node = tat.to_node(made)
    assert (node.name, node.operation.name, len(node.inputs)) == ("total", "compute", 2)


def test_the_losses_are_recovered(engine):
    """The classes of textgrad.loss, with names for what goes in."""
    answer = text("4", "answer to the question", True)
    roles = ["Question for the task", "Ground truth answer", "Reasoning and prediction"]
    instruction = text("Is it right?", "evaluation instruction")
    three = [text("2+2?"), text("4"), answer]
    fields = ["instruction", "Question_for_the_task", "Ground_truth_answer", "Reasoning_and_prediction"]
    for kind in (MultiFieldEvaluation, MultiFieldTokenParsedEvaluation):
        node = tat.to_node(kind(instruction, roles, engine())(three), [answer])
        assert list(node.inputs) == [*fields, "system_prompt"]
    node = tat.to_node(MultiChoiceTestTime("Be critical.", engine())("2+2?", answer), [answer])
    assert list(node.inputs) == ["question", "prediction", "system_prompt"]
    node = tat.to_node(tg.TextLoss("Is it right?", engine())(answer), [answer])
    assert inputs_of(node) == {"prompt": "4", "system_prompt": "Is it right?"}


def test_only_what_a_parameter_reaches_is_in_the_trace(engine):
    """Of five calls in a row whose last prompt trains, TextGrad goes back through all; the trace has one."""
    prompts = [text(f"step {number}", f"prompt number {number}", number == 4) for number in range(5)]
    value = text("start")
    for system in prompts:
        value = LLMCall(engine(), system)(value)
    graph = ta.propagate(tat.to_node(value), "wrong")
    assert [node.name for node in graph.nodes] == ["prompt_number_4", "response"]
    assert len(graph.blanket) == 1


def test_a_deep_chain_needs_no_recursion(engine, prompt):
    """1,500 calls in a row, where TextGrad's own backward overflows the stack."""
    value = text("start")
    for _ in range(1_500):
        value = LLMCall(engine(), prompt)(value)
    assert len(ta.propagate(tat.to_node(value, [prompt]), "wrong")) == 1_501
    with pytest.raises(RecursionError):
        value.backward(engine())


def test_a_parameter_that_was_computed_ends_the_graph(engine, prompt):
    """As in TextGrad's quick start, where the model's answer itself is improved."""
    answer = LLMCall(engine("about 3"), prompt)(text("2 + 2?"))
    answer.set_role_description("concise and accurate answer to the question")
    graph = ta.propagate(tat.to_node(tg.TextLoss("Is it right?", engine())(answer), [answer]), "wrong")
    assert [parameter.key for parameter in graph.parameters] == ["concise_and_accurate_answer"]
    assert graph.candidate == {"concise_and_accurate_answer": "about 3"}


def test_values_of_the_forward_pass_are_kept(engine, prompt):
    """What was changed between forward and backward is shown as it was used, with a warning."""
    question = text("2 + 2?", "query")
    answer = LLMCall(engine(), prompt)(question)
    prompt.set_value("Be long.")
    question.set_value("3 + 3?")
    with pytest.warns(UserWarning, match="'query', 'system prompt to the language model'"):
        node = tat.to_node(answer, [prompt])
    assert {name: source.data for name, source in node.recorded_inputs.items()} == {
        "prompt": "2 + 2?", "system_prompt": "Be brief."
    }  # fmt: skip
    assert ta.propagate(node, "x").candidate == {"system_prompt": "Be brief."}
    assert tat.parameter(prompt).data == "Be long."


def test_an_earlier_field_of_a_formatted_call_is_kept(engine):
    """The text that was sent still has it."""
    question, answer = text("2 + 2?", "query"), text("4", "answer", True)
    made = FormattedLLMCall(engine(), "{q} is {a}", {"q": None, "a": None})(inputs={"q": question, "a": answer})
    answer.set_value("5")
    with pytest.warns(UserWarning, match="'answer'"):
        node = tat.to_node(made)
    assert {name: source.data for name, source in node.recorded_inputs.items()} == {"q": "2 + 2?", "a": "4"}


def test_nothing_is_warned_of_when_nothing_changed(engine, prompt):
    """A warning that always comes is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tat.to_node(LLMCall(engine(), prompt)(text("2 + 2?")), [prompt])


ORDER = """
import warnings; warnings.simplefilter("ignore")
import trace_adapters_textgrad as tat, trace_adapters as ta
from trace_adapters_textgrad.shims import tg
class Engine(tg.EngineLM):
    def generate(self, prompt, system_prompt=None): return "0"
    def __call__(self, prompt, system_prompt=None): return "0"
prompt = tg.Variable("Be brief.", role_description="system prompt")
losses = [tg.BlackboxLLM(Engine(), prompt)(tg.Variable(f"q{n}", role_description="query")) for n in range(8)]
made = tg.Variable("3", predecessors=losses, role_description="hand-made")
graph = ta.propagate(tat.to_node(made + tg.sum(losses)), "x")
print([(name, node.data) for node, name in graph.names.items()], [p.key for p in graph.parameters])
"""


@pytest.mark.slow
def test_names_and_order_do_not_depend_on_sets():
    """Two processes with other hashes, the same graph: equal values are ordered by what made them."""
    root = Path(__file__).resolve().parents[3]
    path = f"{root}:{root / 'adapters/textgrad'}"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", f"padding = [object() for _ in range({seed} * 1000)]\n{ORDER}"],
            env={"PYTHONPATH": path, "PYTHONHASHSEED": str(seed), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(outputs) == 1
    assert "system_prompt" in outputs.pop()


def test_names_come_from_roles():
    """The beginning of the prose, as an identifier; the whole is the description."""
    role = "structured system prompt to a somewhat capable language model that specifies the behavior"
    found = tat.parameter(text("x", role, True))
    assert (found.key, found.description) == ("structured_system_prompt", role)
    assert tat.parameter(text("x", "2nd attempt at it", True)).key == "_2nd_attempt"
    assert tat.parameter(text("x", role, True), "mine").key == "mine"


def test_a_name_is_fixed_when_the_parameter_is_made(engine):
    """MultiFieldEvaluation renames the roles of what it is given."""
    answer = text("4", "answer to the question", True)
    found = tat.parameter(answer)
    MultiFieldEvaluation(text("Right?"), ["Prediction"], engine())([answer])
    assert answer.get_role_description() == "Prediction"
    assert tat.parameter(answer) is found
    assert found.key == "answer"


def test_what_is_no_variable_is_refused():
    """The message says what was expected."""
    with pytest.raises(ta.AdapterError, match=r"to_node\(\) takes a textgrad\.Variable, got 'x'"):
        tat.to_node("x")
    with pytest.raises(ta.AdapterError, match="Only texts can be trained; 'a picture' holds bytes"):
        tat.parameter(text(PICTURE, "a picture"))
