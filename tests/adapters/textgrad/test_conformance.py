"""TextGrad behaves beside the adapter as it does without it, as long as no parameter of ours is involved.

Every test runs with the adapter imported, with a live optimizer of ours on a Variable elsewhere (from then on
`backward` looks for owners), and inside `patched()`. The last test runs all of them without the adapter, in another
process: what is asserted here is TextGrad's own behaviour.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

tg = pytest.importorskip("textgrad")

autograd, config, engines, losses = (
    importlib.import_module(f"textgrad.{n}") for n in "autograd config engine loss".split()
)
algebra, function, functional, llm_ops, multimodal_ops, reduce_prompts, string_based_ops = (
    importlib.import_module(f"textgrad.autograd.{name}")
    for name in "algebra function functional llm_ops multimodal_ops reduce_prompts string_based_ops".split()
)
base, engine_utils = (importlib.import_module(f"textgrad.engine.{name}") for name in ("base", "engine_utils"))
optimizers, optimizer_prompts = (
    importlib.import_module(f"textgrad.optimizer.{name}") for name in ("optimizer", "optimizer_prompts")
)
Variable = tg.Variable

PLAIN = os.environ.get("TEXTGRAD_WITHOUT_ADAPTER") == "1"
WORLDS = ["plain"] if PLAIN else ["imported", "owning", "patched"]
OWN_OPTIMIZERS = {name: getattr(optimizers, name) for name in vars(optimizers)}  # before `patched` puts ours there
PNG, JPEG = b"\x89PNG\r\n\x1a\n..", b"\xff\xd8\xff.."

# What needs a network, a key, a dataset or another library, and is not touched by the adapter.
LEFT_OUT = {
    "textgrad.engine.openai",
    "textgrad.engine.local_model_openai_api",
    "textgrad.engine_experimental",
    "textgrad.tasks",
    "textgrad.utils",
}


class Engine(base.EngineLM):  # type: ignore[misc]
    """Answers "reply 1", "reply 2", …; remembers what it was asked."""

    model_string = "gpt-4o"

    def __init__(self, name: str = "reply", form: str = "{}") -> None:
        self.name, self.form = name, form
        self.asked: list[tuple[Any, Any]] = []

    def generate(self, content: Any, system_prompt: Any = None, **options: Any) -> str:
        self.asked.append((content, system_prompt))
        return self.form.format(f"{self.name} {len(self.asked)}")

    def __call__(self, content: Any, system_prompt: Any = None, **options: Any) -> str:
        return self.generate(content, system_prompt, **options)


@pytest.fixture(params=WORLDS, autouse=True)
def world(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        kept: list[Any] = []
        if not PLAIN:
            tat = importlib.import_module("trace_adapters_textgrad")
            if request.param == "owning":
                kept.append(tat.TGD([variable("elsewhere")], engine=Engine()))
            if request.param == "patched":
                stack.enter_context(tat.patched())
        yield request.param
        assert ("trace_adapters_textgrad" not in sys.modules) == PLAIN
        tg.SingletonBackwardEngine().engine = None


@pytest.fixture
def model() -> Engine:
    return Engine()


@pytest.fixture
def critic() -> Engine:
    return Engine("gradient")


def variable(value: Any, role: str = "text", *, fixed: bool = False) -> Any:
    return Variable(value, requires_grad=not fixed, role_description=role)


def said(of: Any) -> list[str]:
    return sorted(gradient.value for gradient in of.gradients)


# Variables


def test_variables_hold_texts_numbers_and_pictures(tmp_path: Path) -> None:
    """Numbers become texts, other types are refused, pictures come from bytes or files and cannot be trained."""
    assert (variable("a").value, variable(3).value, str(variable("a")), variable("a").get_value()) == (
        "a",
        "3",
        "a",
        "a",
    )
    for wrong in (1.5, None, {}, True):
        with pytest.raises(AssertionError, match="string, int, or image"):
            variable(wrong)
    assert variable(PNG, fixed=True).value == PNG
    with pytest.raises(ValueError, match="not yet supported for image"):
        variable(PNG)
    (tmp_path / "a.png").write_bytes(PNG)
    path = str(tmp_path / "a.png")
    assert Variable(image_path=path, requires_grad=False, role_description="picture").value == PNG
    with pytest.raises(ValueError, match="not both"):
        Variable("a", image_path=path, role_description="both")


def test_a_variable_without_gradient_has_no_trainable_predecessor() -> None:
    with pytest.raises(Exception, match="none of its predecessors should require grad"):
        Variable("b", predecessors=[variable("a")], requires_grad=False, role_description="x")


def test_the_small_methods_of_a_variable() -> None:
    v = variable(" ".join(str(n) for n in range(30)), "numbers")
    assert v.get_short_value() == "0 1 2 3 4 5 6 7 8 9 (...) 20 21 22 23 24 25 26 27 28 29"
    assert v.get_short_value(n_words_offset=1) == "0 (...) 29"
    v.set_value("short")
    v.set_role_description("word")
    assert (v.get_short_value(), v.get_role_description(), repr(v)) == (
        "short",
        "word",
        "Variable(value=short, role=word, grads=set())",
    )
    marker = object()
    v.set_grad_fn(marker)
    v.gradients = {variable("g")}
    assert (v.get_grad_fn(), v.get_gradient_text()) == (marker, "g")
    v.reset_gradients()
    assert (v.gradients, v.get_gradient_text(), v.gradients_context) == (set(), "", {})


def test_addition_joins_texts_and_roles(critic: Engine) -> None:
    """Its backward pass asks nobody, and gives each summand the feedback."""
    one, two = variable("a", "first"), variable("b", "second")
    total = one + two
    assert (total.value, total.role_description, total.predecessors) == ("ab", "first and second", {one, two})
    total.backward(critic)
    assert critic.asked == []
    assert set(said(one)) == set(said(two)) == {""}


def test_backward_needs_exactly_one_engine(critic: Engine) -> None:
    with pytest.raises(Exception, match="No backward engine provided"):
        variable("a").backward()
    tg.set_backward_engine(critic)
    with pytest.raises(Exception, match="Both an engine is provided and the global engine is set"):
        variable("a").backward(critic)
    variable("a").backward()


def test_backward_calls_hand_made_functions_in_order(critic: Engine) -> None:
    """From the output to the inputs, with the engine, only where a gradient is required."""
    order: list[tuple[str, Any]] = []
    inputs = variable("a"), variable("b", fixed=True)
    middle = Variable("m", predecessors=list(inputs), role_description="middle")
    output = Variable("o", predecessors=[middle], role_description="output")
    for v in (*inputs, middle, output):
        v.set_grad_fn(lambda backward_engine, v=v: order.append((v.value, backward_engine)))
    output.backward(critic)
    assert order == [("o", critic), ("m", critic), ("a", critic)]


def test_a_graph_is_drawn() -> None:
    graphviz = pytest.importorskip("graphviz")
    total = variable("a") + variable("b")
    assert isinstance(total.generate_graph(print_gradients=True), graphviz.Digraph)


# Calls of a model


@pytest.mark.parametrize("form", ["class", "function", "module"])
def test_a_model_call_is_recorded_and_criticized(form: str, model: Engine, critic: Engine) -> None:
    """One question for each predecessor with a gradient, first without feedback on the output, then with."""
    system, prompt = variable("Be brief.", "system prompt"), variable("2+2?", "question")
    if form == "class":
        reply = llm_ops.LLMCall(model, system)(prompt, response_role_description="answer")
    elif form == "function":
        reply = functional.llm_call(prompt, engine=model, response_role_description="answer", system_prompt=system)
    else:
        module = tg.BlackboxLLM(model, system)
        assert module.parameters() == [system]
        reply = module(prompt)
        assert reply.role_description == "response from the language model"
    assert model.asked == [("2+2?", "Be brief.")]
    assert (reply.value, reply.predecessors, reply.requires_grad) == ("reply 1", {system, prompt}, True)
    reply.backward(critic)
    assert len(critic.asked) == 2
    assert sorted(said(system) + said(prompt)) == ["gradient 1", "gradient 2"]
    question = next(text for text, _ in critic.asked if "<ROLE> question </ROLE>" in text)
    assert "2+2?" in question
    assert "reply 1" in question
    assert {system_prompt[:40] for _, system_prompt in critic.asked} == {"You are part of an optimization system t"}


def test_feedback_is_handed_through_a_chain(model: Engine, critic: Engine) -> None:
    """2L questions for a chain of L prompts and a judge; what was said of a reply is in the next question."""
    prompts = [variable(f"Prompt {n}.", f"prompt {n}") for n in range(3)]
    text = variable("question", fixed=True)
    for prompt in prompts:
        text = tg.BlackboxLLM(model, prompt)(text)
    verdict = losses.TextLoss("Judge it.", engine=model)(text)
    verdict.backward(critic)
    assert len(critic.asked) == 2 * 3
    assert sum("gradient" in content for content, _ in critic.asked) == 5
    assert all(len(prompt.gradients) == 1 for prompt in prompts)
    (gradient,) = prompts[0].gradients
    assert gradient.role_description == "feedback to prompt 0"
    assert set(prompts[0].gradients_context[gradient]) == {"context", "response_desc", "variable_desc"}


def test_a_system_prompt_may_be_a_text_or_missing(model: Engine) -> None:
    assert tg.BlackboxLLM(model).parameters() == []
    module = tg.BlackboxLLM(model, "Be brief.")
    (prompt,) = module.parameters()
    assert (prompt.requires_grad, prompt.role_description) == (False, "system prompt for the language model")
    assert isinstance(module, function.Module)
    assert list(module.named_parameters()) == [("system prompt for the language model", prompt)]
    prompt.gradients = {variable("g")}
    module.zero_grad()
    assert prompt.gradients == set()


@pytest.mark.parametrize("form", ["class", "function"])
def test_fields_are_filled_and_must_be_known(form: str, model: Engine, critic: Engine) -> None:
    fields = {"country": None, "what": None}
    inputs = {"country": variable("Malta"), "what": variable("capital", fixed=True)}
    template = "The {what} of {country}?"
    if form == "class":
        call = llm_ops.FormattedLLMCall(model, template, fields)
        with pytest.raises(AssertionError, match="Expected fields"):
            call({"country": inputs["country"]})
        reply = call(inputs, response_role_description="answer")
    else:
        reply = functional.formatted_llm_call(inputs, "answer", engine=model, format_string=template, fields=fields)
    assert model.asked == [("The capital of Malta?", None)]
    reply.backward(critic)
    assert (said(inputs["country"]), said(inputs["what"])) == (["gradient 1"], [])
    with pytest.raises(KeyError):
        llm_ops.FormattedLLMCall(model, '{"json": 1}', {})({})


def test_a_reply_between_tags_is_cut_out() -> None:
    reply = llm_ops.LLMCall_with_in_context_examples(Engine(form="<FINAL> {} </FINAL>"))(
        variable("q"), in_context_examples=["e"]
    )
    assert reply.value == "reply 1"


@pytest.mark.parametrize("kind", ["list", "fields", "loss"])
def test_pictures_go_to_models_that_take_them(kind: str, model: Engine, critic: Engine) -> None:
    """Texts among the inputs are criticized, with the picture shown; other engines are refused by name."""
    picture, question, answer = variable(PNG, fixed=True), variable("What?", fixed=True), variable("A cat.")
    if kind == "list":
        reply = multimodal_ops.MultimodalLLMCall(model)([picture, answer])
        assert model.asked[0][0] == [PNG, "A cat."]
    elif kind == "fields":
        call = multimodal_ops.OrderedFieldsMultimodalLLMCall(model, fields=["Picture", "Answer"])
        reply = call({"Picture": picture, "Answer": answer})
        assert PNG in model.asked[0][0]
    else:
        reply = losses.ImageQALoss("Judge it.", engine=model)(picture, question, answer)
        assert model.asked[0][1] == "You are an evaluation system that evaluates image-related questions."
    reply.backward(critic)
    assert said(answer) == ["gradient 1"]
    assert PNG in critic.asked[0][0]
    other = Engine()
    other.model_string = "small"
    with pytest.raises(ValueError, match="not multimodal"):
        engines.validate_multimodal_engine(other)
    with pytest.raises(ValueError, match="not multimodal"):
        multimodal_ops.MultimodalLLMCall(other)


# Functions, sums


def test_a_string_function_gets_variables_and_its_inputs_are_criticized(critic: Engine) -> None:
    """Numbers become texts; what it raises is not caught."""
    same = string_based_ops.StringBasedFunction(lambda a, b: int(a.value == b.value), function_purpose="Compares.")
    a, b = variable("x", "prediction"), variable("x", "truth", fixed=True)
    result = same(inputs={"a": a, "b": b})
    assert (result.value, result.predecessors) == ("1", {a, b})
    assert result.role_description == "Output of the string-based function with purpose: Compares."
    result.backward(critic)
    assert (said(a), len(critic.asked)) == (["gradient 1"], 1)
    assert "Compares." in critic.asked[0][0]
    with pytest.raises(ZeroDivisionError):
        string_based_ops.StringBasedFunction(lambda a: 1 / 0, function_purpose="Fails.")(inputs={"a": a})


@pytest.mark.parametrize("make", [tg.sum, functional.sum, lambda parts: algebra.Sum()(parts)])
def test_a_sum_joins_lines_and_asks_nobody(make: Any, critic: Engine) -> None:
    parts = [variable("a", "loss"), variable("b", "loss", fixed=True)]
    total = make(parts)
    assert (total.value, total.role_description) == ("a\nb", "a combination of the following: loss")
    assert total.requires_grad
    total.backward(critic)
    assert critic.asked == []
    assert len(parts[0].gradients) == 2  # each summand gets its feedback twice: TextGrad's issue 202


@pytest.mark.parametrize("make", [tg.aggregate, functional.aggregate, lambda parts: algebra.Aggregate()(parts)])
def test_an_aggregate_joins_lines_and_reduces_gradients(make: Any, critic: Engine) -> None:
    parts = [variable("a", "loss"), variable("b", "loss")]
    total = make(parts)
    assert total.value == "a\nb"
    total.backward(critic)
    assert sum(bool(part.gradients) for part in parts) == 1  # only one child is reached in this version
    assert critic.asked == []  # so there is nothing to summarize


def test_gradients_are_listed_for_a_summary() -> None:
    assert reduce_prompts.construct_reduce_prompt([variable("a"), variable("b")]) == (
        "<FEEDBACK>a</FEEDBACK>\n<FEEDBACK>b</FEEDBACK>"
    )


def test_own_functions_and_contexts(critic: Engine) -> None:
    """What a subclass of `Function` notes in its context is handed to its backward."""

    class Upper(function.Function):  # type: ignore[misc]
        def forward(self, given: Any) -> Any:
            made = Variable(given.value.upper(), predecessors=[given], role_description="upper")
            made.set_grad_fn(function.BackwardContext(self.backward, given, made=made))
            return made

        def backward(self, given: Any, made: Any, backward_engine: Any) -> None:
            given.gradients.add(variable(f"{made.value} {backward_engine(made.value)}"))

    given = variable("a")
    made = Upper()(given)
    assert repr(made.get_grad_fn()).endswith("Upper.backward")
    made.backward(critic)
    assert said(given) == ["A gradient 1"]


# Losses


def test_losses_of_several_fields_rename_and_parse() -> None:
    """The roles of what is compared become those of the loss; tags are cut out of the verdict."""
    model = Engine(form="<SCORE>{}</SCORE>")
    instruction = variable("Compare.", fixed=True)
    roles = ["prediction", "truth"]
    one, two = variable("a", "answer"), variable("b", "right answer", fixed=True)
    verdict = losses.MultiFieldEvaluation(instruction, roles, engine=model)([one, two])
    assert (verdict.value, one.role_description, two.role_description) == ("<SCORE>reply 1</SCORE>", *roles)
    assert model.asked[0] == (
        "Compare.\n**prediction**: a\n**truth**: b",
        "You are an evaluation system that compares two variables.",
    )
    tags = ["<SCORE>", "</SCORE>"]
    parsed = losses.MultiFieldTokenParsedEvaluation(instruction, roles, engine=model, parse_tags=tags)
    assert parsed.parse_output(parsed([one, two])) == "reply 2"


def test_the_loss_for_multiple_choice(model: Engine, critic: Engine) -> None:
    answer = variable("B", "answer")
    verdict = losses.MultiChoiceTestTime("Criticize.", engine=model)("A or B?", answer)
    assert model.asked[0][0] == "Criticize.\nQuestion: A or B?\nAnswer by the language model: B"
    assert verdict.role_description == "evaluation of the answer"
    verdict.backward(critic)
    assert said(answer) == ["gradient 1"]


# Engines, settings


def test_the_global_engine_is_set_once(model: Engine, critic: Engine) -> None:
    assert config.SingletonBackwardEngine() is tg.SingletonBackwardEngine()
    for make in (
        tg.BlackboxLLM,
        lambda: losses.TextLoss("Judge."),
        lambda: config.validate_engine_or_get_default(None),
    ):
        with pytest.raises(Exception, match="No engine provided"):
            make()
    config.set_backward_engine(critic)
    with pytest.raises(Exception, match="Engine already set"):
        tg.set_backward_engine(model)
    assert config.validate_engine_or_get_default(None) is critic
    assert config.validate_engine_or_get_default(model) is model
    tg.set_backward_engine(model, override=True)
    assert tg.BlackboxLLM().engine is model


def test_unknown_engines_are_refused_by_name() -> None:
    for name in ("gpt-5", "mistral-large"):
        with pytest.raises(ValueError, match="not supported"):
            engines.get_engine(name)
    with pytest.raises(ValueError, match="Seed is currently supported"):
        engines.get_engine("claude-3", seed=1)
    assert engines.get_engine("experimental:any", cache=False).model_string == "any"


def test_an_engine_keeps_replies_on_disk(tmp_path: Path) -> None:
    cache = base.CachedEngine(str(tmp_path / "cache"))
    cache._save_cache("q", "a")
    assert (cache._check_cache("q"), cache._check_cache("other")) == ("a", None)
    assert pickle.loads(pickle.dumps(cache))._check_cache("q") == "a"


def test_kinds_of_pictures_are_told_apart() -> None:
    assert (engine_utils.is_png(PNG), engine_utils.is_jpeg(PNG), engine_utils.is_jpeg(JPEG)) == (True, False, True)
    assert engine_utils.get_image_type_from_bytes(PNG) == "png"
    with pytest.raises(ValueError, match="not supported"):
        engine_utils.get_image_type_from_bytes(b"GIF8")


# Optimizers: TextGrad's own classes, also where `patched` has put ours under their names


def test_a_step_asks_once_for_each_parameter(critic: Engine) -> None:
    """Between the tags stands the new value; gradients, their contexts and constraints are in the question."""
    model = Engine("better", form="<IMPROVED_VARIABLE> {} </IMPROVED_VARIABLE>")
    prompts = [variable("One.", "first prompt"), variable("Two.", "second prompt")]
    kind = OWN_OPTIMIZERS["TextualGradientDescent"]
    optimizer = kind(prompts, engine=model, constraints=["No digits."], in_context_examples=["Like this."])
    assert isinstance(optimizer, OWN_OPTIMIZERS["Optimizer"])
    assert optimizer.constraint_text == "Constraint 1: No digits."
    reply = tg.BlackboxLLM(Engine(), prompts[0])(variable("q", fixed=True))
    reply.backward(critic)
    assert "gradient 1" in optimizers.get_gradient_and_context_text(prompts[0])
    optimizer.step()
    assert [prompt.value for prompt in prompts] == ["better 1", "better 2"]
    assert "gradient 1" in model.asked[0][0]
    assert "No digits." in model.asked[1][0]
    assert "<IMPROVED_VARIABLE>" in model.asked[0][1]
    optimizer.zero_grad()
    assert prompts[0].gradients == set()


def test_a_reply_without_tags_stops_a_step_half_way() -> None:
    kind = OWN_OPTIMIZERS["TextualGradientDescent"]
    with pytest.raises(IndexError, match="could not be indexed"):
        kind([variable("a")], engine=Engine()).step()
    with pytest.raises(NotImplementedError, match="cannot yet update multimodal"):
        kind([variable(PNG, fixed=True)], engine=Engine())


def test_the_variant_with_momentum_asks_with_nothing() -> None:
    """It forgets to return its prompt: TextGrad's issue 96."""
    model = Engine(form="<IMPROVED_VARIABLE>{}</IMPROVED_VARIABLE>")
    kind = OWN_OPTIMIZERS["TextualGradientDescentwithMomentum"]
    optimizer = kind(model, [variable("a")], momentum_window=2)
    optimizer.step()
    assert model.asked[0][0] is None


def test_the_prompt_of_an_update_is_built_of_parts() -> None:
    facts = ("variable_desc", "variable_value", "variable_grad", "variable_short", "constraint_text", "past_values")
    tags = {"new_variable_start_tag": "<A>", "new_variable_end_tag": "</A>", "in_context_examples": "examples"}
    prompt = optimizer_prompts.construct_tgd_prompt(do_constrained=True, **{name: name for name in facts}, **tags)
    assert "constraint_text" in prompt
    assert "examples" not in prompt


# All of it


def public_names() -> set[str]:
    """The classes and functions that TextGrad defines, by name, of all modules that can be imported here."""
    found = set()
    for module in pkgutil.walk_packages(tg.__path__, "textgrad."):
        if any(module.name == name or module.name.startswith(f"{name}.") for name in LEFT_OUT):
            continue
        try:
            loaded = importlib.import_module(module.name)
        except ImportError:  # of a model's provider that is not installed
            continue
        for name, value in vars(loaded).items():
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.name:
                found.add(name)
    return {name for name in found if not name.startswith("_")}


def test_everything_public_is_used_here() -> None:
    """A name that a new version brings shows here."""
    tree = ast.parse(Path(__file__).read_text("utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert public_names() - used == set()
    assert {name for name in vars(autograd) if not name.startswith("_")} - used - set(vars(sys.modules[__name__])) <= {
        "llm_backward_prompts",
        "multimodal_backward_prompts",
    }


@pytest.mark.skipif(PLAIN, reason="this is that process")
def test_all_this_holds_without_the_adapter(world: str, tmp_path: Path) -> None:
    if world != "imported":
        return
    settings = {
        "TEXTGRAD_WITHOUT_ADAPTER": "1",
        "TEXTGRAD_LOG_DIR": str(tmp_path),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stdout[-3000:]
