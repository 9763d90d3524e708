"""Code that uses TextGrad's optimizers uses ours inside `patched`, and TextGrad's again afterwards."""

from __future__ import annotations

import multiprocessing
import os
import sys
import types
import warnings

import numpy as np
import pytest
import textgrad as tg
from textgrad.optimizer import TextualGradientDescent

import trace_adapters as ta
import trace_adapters_textgrad as tat


@pytest.fixture
def prompt():
    return tg.Variable("Be brief.", role_description="system prompt to the language model")


def learn(kind, engine, prompt, **options):
    optimizer = kind(parameters=[prompt], engine=engine, **options)
    answer = tg.BlackboxLLM(engine, prompt)(tg.Variable("q", requires_grad=False, role_description="query"))
    tg.TextLoss("Is it right?", engine)(answer).backward()
    optimizer.step()
    return optimizer


def test_every_name_is_ours_inside(engine, prompt, proposing):
    """Also where a module of the user imported the class before; everything is as before afterwards."""
    from textgrad import optimizer as package
    from textgrad.optimizer import optimizer as home

    user = types.ModuleType("module_of_a_user")
    user.Descent, user.Momentum = TextualGradientDescent, package.TextualGradientDescentwithMomentum
    sys.modules[user.__name__] = user
    places = [(tg, "TGD"), (tg, "TextualGradientDescent"), (package, "TGD"), (package, "TextualGradientDescent"),
              (package, "TextualGradientDescentwithMomentum"), (home, "TextualGradientDescent"),
              (home, "TextualGradientDescentwithMomentum"), (user, "Descent"), (user, "Momentum")]  # fmt: skip
    before = [getattr(*place) for place in places]
    made = tg.Variable.__init__
    try:
        with tat.patched() as session:
            for place in places:
                assert hasattr(getattr(*place), "defaults")
            optimizer = learn(user.Descent, engine(proposing(system_prompt="Think first.")), prompt)
            assert isinstance(optimizer, tg.TGD)
        assert [getattr(*place) for place in places] == before
        assert tg.Variable.__init__ is made
    finally:
        del sys.modules[user.__name__]
    assert prompt.value == "Think first."
    assert isinstance(optimizer, TextualGradientDescent)
    assert (len(session.steps), session.calls, session.textgrad_calls) == (1, 1, 3)
    assert str(session).startswith("1 step, 1 with new values: 1 model call of the optimizer, about ")


def test_the_first_program_of_textgrads_users(engine, proposing):
    """A model's own answer is improved: it was computed, so the graph ends there; one call, none in backward."""
    asked = engine(proposing(concise_and_accurate_answer="It takes 2 hours for 30 shirts, too."))
    tg.set_backward_engine(asked, override=True)
    with tat.patched() as session:
        model = tg.BlackboxLLM(asked)
        question = tg.Variable("How long?", role_description="question to the LLM", requires_grad=False)
        answer = model(question)
        answer.set_role_description("concise and accurate answer to the question")
        optimizer = tg.TGD(parameters=[answer])
        loss = tg.TextLoss("Evaluate the answer, be critical.")(answer)
        before = len(asked.asked)
        loss.backward()
        optimizer.step()
    assert answer.value == "It takes 2 hours for 30 shirts, too."
    assert len(asked.asked) == before + 1
    assert session.textgrad_calls == 2
    assert "How long?" not in session.steps[0].prompt


def test_a_module_imported_inside_has_textgrads_names_afterwards():
    """With one `patched` inside the other, too: each takes back what is its own."""
    late = types.ModuleType("module_imported_late")
    sys.modules[late.__name__] = late
    try:
        with tat.patched():
            outer = tg.TGD
            with tat.patched():
                late.Descent = tg.TGD
                assert late.Descent is not outer
            assert late.Descent is tg.TGD is outer
        assert late.Descent is tg.TGD is TextualGradientDescent
    finally:
        del sys.modules[late.__name__]


def test_an_error_inside_ends_it_too():
    """Nothing stays replaced."""
    with pytest.raises(ZeroDivisionError), tat.patched():
        1 / 0
    assert tg.TGD is TextualGradientDescent


def test_a_subclass_made_inside_is_ours(engine, prompt, proposing):
    """Users who extend TextGrad's class extend ours."""
    seen = []
    with tat.patched():

        class Mine(tg.TextualGradientDescent):
            def step(self):
                seen.append(self.constraint_text)
                super().step()

        learn(Mine, engine(proposing(system_prompt="Think first.")), prompt, constraints=["Be polite."])
    assert seen == ["Constraint 1: Be polite."]
    assert prompt.value == "Think first."


def test_options_reach_the_optimizers_made_inside(engine, prompt, proposing):
    """Feedback, memory and what happens to bad replies; an optimizer's own options win."""
    asked = engine("no values here")
    with tat.patched(on_error="raise", feedback="Make it rhyme."), pytest.raises(ta.ModelError):
        learn(tg.TGD, asked, prompt)
    assert "Make it rhyme." in asked.asked[-1][0]
    with pytest.raises(ta.SettingError, match="optimizer is"), tat.patched("adam"):
        pass


def test_sessions_nest(engine, prompt, proposing):
    """The inner one counts what is made inside it."""
    with tat.patched() as outer:
        with tat.patched() as inner:
            learn(tg.TGD, engine(proposing(system_prompt="one")), prompt)
        learn(tg.TGD, engine(proposing(system_prompt="two")), prompt)
    assert (len(inner.steps), len(outer.steps)) == (1, 1)
    assert prompt.value == "two"


def test_numpy_integers_make_variables_inside():
    """TextGrad 0.1.8 refuses them, with one warning they are taken inside; what is refused for good stays refused."""
    try:
        tg.Variable(np.int64(3), role_description="a number")
    except AssertionError:
        pass
    else:
        pytest.skip("this TextGrad takes them itself")
    with tat.patched(), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.warns(UserWarning, match=r"no Variable of a numpy\.int64"):
            assert tg.Variable(np.int64(3), role_description="a number").value == "3"
        assert tg.Variable(value=np.int32(5), role_description="a number").value == "5"
        assert tg.Variable(value=4, role_description="a number").value == "4"
        for value in (1.5, None, True):
            with pytest.raises(AssertionError):
                tg.Variable(value, role_description="a number")


def test_the_report_is_a_file(engine, prompt, proposing, tmp_path):
    """Everything that a step did, as JSON."""
    import json

    with tat.patched() as session:
        assert str(session) == "No step was made with our optimizers."
        heard = []
        optimizer = learn(tg.TGD, engine(proposing(system_prompt="Think first.")), prompt, on_step=heard.append)
    assert heard == session.steps == [optimizer.last]
    session.write(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == session.as_dict() | {"each": report["each"]}
    assert report["each"][0]["reasoning"] == "Say it better."
    assert report["tokens_estimated"] is True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_steps_of_forked_processes_are_counted(engine, proposing):
    """As with the pool of the published code optimization: the steps are made in children."""
    asked = engine(proposing(system_prompt="Think first."))

    def work(number):
        prompt = tg.Variable(f"Be brief {number}.", role_description="system prompt to the language model")
        learn(tg.TGD, asked, prompt)
        return prompt.value

    with tat.patched() as session:
        children = []
        for number in range(2):
            child = os.fork()
            if child == 0:
                os._exit(0 if work(number) == "Think first." else 1)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
        work(2)
    assert (len(session.steps), session.calls, session.textgrad_calls) == (3, 3, 9)
    assert all(step == session.steps[0] for step in session.steps if "Be brief 2" in step.prompt)
    assert {step.reasoning for step in session.steps} == {"Say it better."}
    assert not session._forks.exists()


def test_a_spawned_process_is_told():
    """It imports TextGrad anew; a warning says what that means, once."""

    def run(number):
        processes = [multiprocessing.get_context("spawn").Process(target=abs, args=(1,)) for _ in range(number)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()

    with tat.patched(), pytest.warns(UserWarning, match="A process is spawned") as told:
        run(2)
    assert len(told) == 1


def test_the_face_is_a_list_of_names():
    """Every name leads to something; others are no attributes."""
    assert all(getattr(tat, name) is not None for name in tat.__all__)
    assert set(tat.__all__) <= set(dir(tat))
    with pytest.raises(AttributeError, match="has no attribute 'TDG'"):
        tat.TDG
