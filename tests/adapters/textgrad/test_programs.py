"""What programs of TextGrad's users do beyond its tutorials runs as it is."""

from __future__ import annotations

import copy
import threading
import warnings

import pytest
import textgrad as tg
from textgrad.autograd import LLMCall
from textgrad.autograd.function import BackwardContext, Function
from textgrad.optimizer.optimizer import TextualGradientDescentwithMomentum, get_gradient_and_context_text

import trace_adapters as ta
import trace_adapters_textgrad as tat


@pytest.fixture
def prompt():
    return tg.Variable("Count.", role_description="system prompt to the language model")


@pytest.fixture
def asked(engine, is_update):
    """Answers what our optimizers ask and what TextGrad's ask; says "too short" to everything else."""

    def answer(content, system):
        if is_update(system):
            name = content.split("\n## ")[1].split(" ")[0]
            return f'<reasoning>\nWhy.\n</reasoning>\n<value name="{name}">\nours\n</value>'
        return "<IMPROVED_VARIABLE>theirs</IMPROVED_VARIABLE>" if "<IMPROVED_VARIABLE>" in str(system) else "too short"

    return engine(answer)


def judged(engine, variable):
    return tg.TextLoss("Judge this.", engine=engine)(variable)


def with_own_step(base):
    class Own(base):
        def step(self, **options):
            for parameter in self.parameters:
                told = self.engine(self._update_prompt(parameter), self.optimizer_system_prompt, **options)
                parameter.set_value(told.split(">")[1].split("<")[0])

    return Own


def with_own_prompt(base):
    class Own(base):
        def _update_prompt(self, variable):
            return f"Rewrite {variable.value}\n{get_gradient_and_context_text(variable)}"

    return Own


def with_a_method_beside(base):
    class Own(base):
        def step_and_tell(self):
            questions = [self._update_prompt(parameter) for parameter in self.parameters]
            self.step()
            return questions

    return Own


def with_a_step_around(base):
    class Own(base):
        def step(self):
            self.again(lambda: super(Own, self).step())

        def again(self, call):
            call()

    return Own


@pytest.mark.parametrize("make", [with_own_step, with_own_prompt, with_a_method_beside])
def test_an_optimizer_that_makes_its_updates_itself_is_textgrads(asked, prompt, make):
    """It is made of gradients: its backward pass is TextGrad's, also beside one of ours, and a warning says so."""
    other = tg.Variable("Be kind.", role_description="tone of the reply")
    ours = tat.TGD([other], engine=asked)
    with tat.patched() as session:
        own = make(tg.TGD)
        with pytest.warns(UserWarning, match="Own makes its updates itself"):
            optimizer = own(parameters=[prompt], engine=asked)
        judged(asked, prompt).backward(asked)
        assert prompt.get_gradient_text() == "too short"
        optimizer.step()
        optimizer.zero_grad()
    assert (prompt.value, prompt.gradients, session.steps, optimizer.last) == ("theirs", set(), [], None)
    with pytest.raises(ta.SettingError, match=r"Own is alive"):
        judged(asked, prompt + other).backward(asked)
    judged(asked, other).backward()
    ours.step()
    assert other.value == "ours"


def test_a_step_around_ours_is_ours(asked, prompt):
    """A subclass that calls the step of its base, from wherever, extends ours."""
    with tat.patched() as session:
        optimizer = with_a_step_around(tg.TGD)(parameters=[prompt], engine=asked)
        judged(asked, prompt).backward()
        optimizer.step()
    assert (prompt.value, session.calls) == ("ours", 1)


def test_the_parameters_may_be_others_later(asked):
    """A Variable for each turn of a conversation, under one optimizer: set, or put into its list."""
    optimizer = tat.TGD([tg.Variable("", role_description="dummy")], engine=asked, names=["dummy"])
    for turn in range(2):
        attack = tg.Variable(f"turn {turn}", role_description=f"message of turn {turn}")
        optimizer.parameters = [attack]
        judged(asked, attack).backward()
        optimizer.step()
        assert attack.value == "ours"
        assert "Past attempts" not in asked.asked[-1][0]  # they were of another Variable
    tone = tg.Variable("Be kind.", role_description="tone of the reply")
    optimizer.parameters.insert(0, tone)
    judged(asked, attack + tone).backward()
    optimizer.step()
    assert optimizer.last.changed == {"tone": "ours"}
    assert len(asked.asked) == 6  # three judgements, three updates


def test_a_loss_that_nothing_led_to_ends_no_program(asked, prompt):
    """TextGrad asks for a new value without a reason; here nobody is asked, and the program goes on."""
    with tat.patched() as session:
        optimizer = tg.TGD(parameters=[prompt], engine=asked)
        for _ in range(2):
            tg.Variable("Loss: 0.4", role_description="loss to minimize").backward(asked)
            with pytest.warns(UserWarning, match="no loss to learn from") as told:
                optimizer.step()
            assert told[0].filename == __file__
    assert (prompt.value, len(asked.asked)) == ("Count.", 0)
    assert (len(session.steps), session.calls, session.textgrad_calls) == (2, 0, 2)
    with tat.patched(on_error="raise"), pytest.raises(ta.SettingError, match="no loss to learn from"):
        tg.TGD(parameters=[prompt], engine=asked).step()


class Scored(Function):
    """A judge whose backward pass says more than its value."""

    def forward(self, prompt):
        out = tg.Variable("0.3", predecessors=[prompt], role_description="score")
        out.set_grad_fn(BackwardContext(backward_fn=self.backward, judged=prompt))
        return out

    def backward(self, judged, backward_engine):
        judged.gradients.add(tg.Variable("Say please.", role_description="gradient"))


def test_a_backward_function_of_the_programs_own_is_called(asked, prompt):
    """What it leaves on the parameters is learned from."""
    optimizer = tat.TGD([prompt], engine=asked)
    with pytest.warns(UserWarning, match=r"of the program's own, Scored\.backward"):
        Scored()(prompt).backward(asked)
    optimizer.step()
    assert "Say please." in asked.asked[-1][0]
    assert (prompt.value, optimizer.last.calls) == ("ours", 1)


def test_a_variant_of_textgrads_operations_is_recovered(asked, prompt):
    """A model call with a backward pass of its own still says what it was asked: no call in backward."""

    class Remembering(LLMCall):
        def backward(self, **context):
            raise AssertionError("not called")

    optimizer = tat.TGD([prompt], engine=asked)
    question = tg.Variable("2 + 2?", requires_grad=False, role_description="query")
    judged(asked, Remembering(asked, system_prompt=prompt)(question)).backward()
    optimizer.step()
    assert "llm(prompt=query, system_prompt=system_prompt)" in asked.asked[-1][0]
    assert (prompt.value, len(asked.asked)) == ("ours", 3)


def test_between_backward_and_step_the_evaluation_is_the_gradient(asked, prompt):
    """Programs print it, or look whether there is one; it is not learned from twice."""
    optimizer = tat.TGD([prompt], engine=asked)
    judged(asked, prompt).backward()
    assert prompt.get_gradient_text() == "too short"
    assert get_gradient_and_context_text(prompt)
    optimizer.step()
    assert prompt.get_gradient_text() == "Why."
    assert asked.asked[-1][0].count("too short") == 1


def test_a_copy_trains_its_own_parameters(asked, prompt):
    """The parameters of a deep copy are copies; both go on."""
    with tat.patched() as session:
        optimizer = tg.TGD(parameters=[prompt], engine=asked, constraints=["short"])
        judged(asked, prompt).backward()
        twin = copy.deepcopy(optimizer, {id(asked): asked})
        (other,) = twin.parameters
        judged(asked, other).backward()
        twin.step()
        assert (prompt.value, other.value) == ("Count.", "ours")
        assert "short" in asked.asked[-1][0]
        optimizer.step()
    assert (prompt.value, len(session.steps)) == ("ours", 2)


def test_the_momentum_variant_keeps_the_past_values(engine, numbered, prompt):
    """As TextGrad's does, as many as the window has."""
    asked = engine(numbered("system_prompt"))
    with tat.patched():
        optimizer = TextualGradientDescentwithMomentum(engine=asked, parameters=[prompt], momentum_window=2)
        for value in ("one", "two", "three"):
            prompt.set_value(value)
            judged(asked, prompt).backward()
            optimizer.step()
    assert [past["value"] for past in optimizer.momentum_storage[0]] == ["two", "three"]


class Duck:
    """Answers like an engine, of no class of TextGrad's."""

    model = "duck"

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.lock = threading.Lock()

    def __call__(self, prompt, system_prompt=None, **kwargs):
        with self.lock:
            self.asked.append((prompt, system_prompt))
        return self.answer(prompt, system_prompt)


def test_an_engine_of_no_class_of_textgrads_answers(asked, prompt):
    """TextGrad takes what can be called with a prompt and a system prompt; it stays what it is."""
    duck = Duck(asked.answer)
    tg.set_backward_engine(duck, override=True)
    for optimizer in (tat.TGD([prompt]), tat.TGD([prompt], engine=duck)):
        assert optimizer.engine is duck
        judged(duck, prompt).backward()
        optimizer.step()
        prompt.set_value("Count.")
    system, user = duck.asked[-1][1], duck.asked[-1][0]
    assert system.startswith("You improve a program")
    assert "You improve" not in user
    assert tat.as_lm(duck).model == "duck"


def test_two_optimizers_on_one_loss_would_have_shared_a_backward_pass(asked):
    """What the session says of TextGrad's calls counts it once."""
    first, second = (tg.Variable(role, role_description=role) for role in ("question", "tone"))
    with tat.patched() as session, warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizers = [tg.TGD(parameters=[variable], engine=asked) for variable in (first, first, second)]
        judged(asked, first + second).backward()
        for optimizer in optimizers[1:]:  # the first makes no step
            optimizer.step()
    assert session.textgrad_calls == 1 + 2
