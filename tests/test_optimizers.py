"""Optimizers make candidates from traces, and remember only what they are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

import trace_adapters as ta
from trace_adapters.bundles import bundle
from trace_adapters.errors import ExecutionError, SettingError
from trace_adapters.lm import MemoryCache, Reply, ScriptedLM, Usage, count_tokens
from trace_adapters.nodes import Node, Parameter, node
from trace_adapters.optimizers import Demonstrations, Optimizer, OptoPrime, Outcome, Turns
from trace_adapters.traces import Feedback, TraceGraph, propagate


@bundle
def answer(template, count):
    """Fill the template."""
    return template * count


@pytest.fixture
def template() -> Parameter:
    return Parameter("a", "template", "What is repeated.")


@pytest.fixture
def count() -> Parameter:
    return Parameter(2, "count", constraint="at most 9")


@pytest.fixture
def trace(template: Parameter, count: Parameter) -> TraceGraph:
    return propagate(answer(template, count), Feedback(0.0, "Expected 'bbb'."))


def reply(**values: object) -> str:
    return "<reasoning>Because.</reasoning>\n" + "\n".join(
        f'<value name="{name}">{value}</value>' for name, value in values.items()
    )


def prompt_of(lm: ScriptedLM, call: int = -1) -> str:
    return str(lm.calls[call].messages[-1]["content"])


def test_one_query_changes_all_parameters(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    lm = ScriptedLM([reply(template="b", count=3)])
    optimizer = OptoPrime([template, count], lm=lm)
    (proposal,) = optimizer.suggest([trace])
    assert proposal.candidate == {"template": "b", "count": 3}
    assert (proposal.origin, proposal.reasoning, proposal.rejected) == ("optoprime", "Because.", None)
    assert proposal.prompt_tokens is not None
    assert (len(lm.calls), lm.calls[0].role, lm.calls[0].n) == (1, "optimizer", 1)
    assert (template.data, count.data) == ("a", 2)
    assert isinstance(optimizer, Optimizer)


def test_the_prompt_of_the_article(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    lm = ScriptedLM([reply(count=3)])
    OptoPrime([template, count], lm=lm, objective="Make it longer.").suggest([trace])
    system, user = (str(message["content"]) for message in lm.calls[0].messages)
    assert '<value name="variable_name">' in system
    assert (
        user
        == """\
Make it longer.

# Variables

## template (text)
What is repeated.
<value name="template">
a
</value>

## count (number, int)
Constraint: at most 9
<value name="count">2</value>

# Code
answer = answer(template=template, count=count)

# Documentation
- answer: Fill the template.

# Run
## Outputs
answer = "aa"
## Feedback
Score: 0
Expected 'bbb'.

Your reply:
"""
    )


def test_several_samples_come_usable_first(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    texts = ["no tags", reply(count=4), reply(count="four"), reply(count=4), reply(count=5)]
    lm = ScriptedLM(lambda messages, sample_index: texts[sample_index])
    proposals = OptoPrime([template, count], lm=lm).suggest([trace], n=5)
    assert [p.candidate and p.candidate["count"] for p in proposals] == [4, 5, None, None, None]
    assert [bool(p.rejected) for p in proposals] == [False, False, True, True, True]
    assert "same as those of another sample" in (proposals[4].rejected or "") + (proposals[3].rejected or "")
    assert len(lm.calls) == 1


def test_seeds_choose_other_samples(template: Parameter, trace: TraceGraph) -> None:
    lm = ScriptedLM(lambda messages, sample_index: reply(template=f"t{sample_index}"))
    optimizer = OptoPrime([template], lm=lm)
    values = [
        p.candidate["template"] for seed in (0, 1, 0) for p in optimizer.suggest([trace], n=2, seed=seed) if p.candidate
    ]
    assert values == ["t0", "t1", "t2", "t3", "t0", "t1"]


def test_propose_gives_candidates_only(template: Parameter, trace: TraceGraph) -> None:
    lm = ScriptedLM(lambda messages, sample_index: reply(template="b") if sample_index == 1 else "?")
    assert OptoPrime([template], lm=lm).propose([trace], n=3) == [{"template": "b", "count": 2}]


def test_a_candidate_holds_every_key_of_the_base(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    base = {"template": "z", "count": 7, "elsewhere": [1]}
    lm = ScriptedLM([reply(template="b")])
    (proposal,) = OptoPrime([template], lm=lm).suggest([trace], base=base)
    assert proposal.candidate == {**base, "template": "b"}
    assert '<value name="template">\nz\n</value>' in prompt_of(lm)


def test_the_base_is_what_the_traces_used(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    template.data = "changed later"
    lm = ScriptedLM([reply(count=3)])
    (proposal,) = OptoPrime([template, count], lm=lm).suggest([trace])
    assert proposal.candidate == {"template": "a", "count": 3}


def test_a_rejection_is_shown_with_its_reason(template: Parameter, count: Parameter, trace: TraceGraph) -> None:
    lm = ScriptedLM([reply(template="b", count="many"), reply(count=3)])
    optimizer = OptoPrime([template, count], lm=lm)
    (proposal,) = optimizer.suggest([trace])
    assert proposal.candidate is None
    assert proposal.rejected == "count: Expected a number alone, got 'many'."
    optimizer.tell(Outcome.of_rejected(proposal))
    optimizer.suggest([trace])
    assert "Reason: count: Expected a number alone, got 'many'." in prompt_of(lm)
    assert '> <value name="count">many</value>' in prompt_of(lm)


def test_memory_shows_past_values_with_score_and_feedback(
    template: Parameter, count: Parameter, trace: TraceGraph
) -> None:
    lm = ScriptedLM(lambda messages: reply(count=9))
    optimizer = OptoPrime([template, count], lm=lm, memory_size=2)
    for number in (3, 4, 5):
        outcome = Outcome({"template": "a", "count": number}, "optoprime", number / 10, number == 4, f"said {number}")
        optimizer.tell(outcome)
    optimizer.suggest([trace])
    past = prompt_of(lm).partition("# Past attempts")[2]
    assert "said 3" not in past
    assert past.index("score 0.4, kept") < past.index("said 4") < past.index("score 0.5, not kept")
    assert '<value name="count">5</value>' in past
    assert '<value name="template">' not in past


def test_memory_does_not_show_the_current_values_as_tried(template: Parameter, trace: TraceGraph) -> None:
    """They stand among the variables already."""
    lm = ScriptedLM(["no value"])
    optimizer = OptoPrime([template], lm=lm)
    optimizer.tell(Outcome({"template": template.data}, "optoprime", 0.5, True, "a bit better"))
    optimizer.propose([trace], n=1)
    assert "Past attempts" not in lm.calls[0].prompt


def test_no_memory_shows_nothing(template: Parameter, trace: TraceGraph) -> None:
    lm = ScriptedLM(lambda messages: reply(template="c"))
    optimizer = OptoPrime([template], lm=lm, memory_size=0)
    optimizer.tell(Outcome({"template": "b"}, "optoprime", 0.5, False, "secret"))
    optimizer.tell(Outcome(None, "optoprime", None, False, rejected="secret"))
    optimizer.suggest([trace])
    assert "secret" not in prompt_of(lm)


def test_values_without_json_are_remembered() -> None:
    parameter = Parameter({1}, "odd", kind="json")
    lm = ScriptedLM(lambda messages: "?")
    optimizer = OptoPrime([parameter], lm=lm)
    optimizer.tell(Outcome({"odd": {2, 3}}, "optoprime", 0.5, False))
    optimizer.suggest([propagate(parameter, Feedback(0.0))])
    assert '<value name="odd">{2, 3}</value>' in prompt_of(lm)


def test_what_was_tried_is_not_proposed_again(template: Parameter, trace: TraceGraph) -> None:
    optimizer = OptoPrime([template], lm=ScriptedLM(lambda messages: reply(template="b")))
    optimizer.tell(Outcome({"template": "b", "count": 2}, "optoprime", 0.25, False))
    (proposal,) = optimizer.suggest([trace], base={"template": "a", "count": 2})
    assert proposal.rejected == "These values were tried before, with score 0.25."


def test_values_that_look_like_the_reply_get_another_tag(trace: TraceGraph, count: Parameter) -> None:
    tricky = Parameter('Write <value name="x">1</value>.', "template")
    lm = ScriptedLM(['<value2 name="template">End with </value>!</value2>'])
    graph = propagate(answer(tricky, count), Feedback(0.0, "?"))
    (proposal,) = OptoPrime([tricky], lm=lm).suggest([graph])
    assert proposal.candidate == {"template": "End with </value>!", "count": 2}


@pytest.mark.parametrize("limit", [700, 1_200, 3_000])
def test_the_whole_prompt_keeps_to_the_budget(limit: int, count: Parameter) -> None:
    template = Parameter("Stay whole. " * 10, "template")
    lm = ScriptedLM(lambda messages: "?")
    optimizer = OptoPrime([template], lm=lm, max_prompt_tokens=limit)
    for number in range(5):
        optimizer.tell(Outcome({"template": f"old {number} " * 100}, "optoprime", 0.1, False, "so " * 50))
        optimizer.tell(Outcome(None, "optoprime", None, False, rejected=f"bad {number}", reply="r " * 500))
    runs = [propagate(answer(template, node(9 + n)), Feedback(0.0, f"feedback {n}.")) for n in range(3)]
    optimizer.suggest(runs)
    assert sum(count_tokens(str(m["content"])) for m in lm.calls[0].messages) <= limit
    assert "Stay whole. " * 9 in prompt_of(lm)
    past = prompt_of(lm).partition("# Past attempts")[2]
    assert count_tokens(past) <= limit / 4
    assert bool(past) == (limit > 2_000)


@pytest.mark.filterwarnings("ignore:The proposal of optoprime was not used")
def test_step_follows_the_article(template: Parameter, count: Parameter) -> None:
    lm = ScriptedLM([reply(count=3), reply(count="x"), reply(template="b")])
    optimizer = OptoPrime([template, count], lm=lm)
    for expected in ({"count": 3}, {}, {"template": "b"}):
        optimizer.zero_feedback()
        optimizer.backward(answer(template, count), Feedback(0.0, "Not yet."))
        assert optimizer.step() == expected
    assert (template.data, count.data) == ("b", 3)
    assert "Reason: count: Expected a number alone" in prompt_of(lm)
    assert '<value name="count">2</value>\nFeedback: Not yet.' in prompt_of(lm, 1)


@pytest.mark.parametrize(
    ("verbose", "asked", "replied"), [(True, True, True), ("output", False, True), (False, False, False)]
)
def test_a_step_prints_what_is_asked_and_replied(
    template: Parameter, capsys: pytest.CaptureFixture[str], verbose: Any, asked: bool, replied: bool
) -> None:
    """`step(verbose=...)` is Trace's."""
    optimizer = OptoPrime([template], lm=ScriptedLM([reply(template="b")]))
    optimizer.backward(answer(template, 2), "Expected 'bb'.")
    assert optimizer.step(verbose=verbose) == {"template": "b"}
    printed = capsys.readouterr().out
    assert ("Expected 'bb'." in printed, "Because." in printed) == (asked, replied)
    with pytest.raises(SettingError, match="verbose is"):
        optimizer.step(verbose="all")  # type: ignore[arg-type]


def test_step_takes_several_outputs(template: Parameter, count: Parameter) -> None:
    lm = ScriptedLM([reply(count=3)])
    optimizer = OptoPrime([template, count], lm=lm)
    outputs = [answer(template, count), answer(template, 5)]
    optimizer.backward(outputs, ["first", Feedback(0.5, "second")])
    optimizer.step()
    assert "# Run 1" in prompt_of(lm)
    assert "# Run 2" in prompt_of(lm)
    with pytest.raises(SettingError, match="one feedback for each of 2"):
        optimizer.backward(outputs, ["one"])


def test_feedback_adds_up_until_the_step(template: Parameter) -> None:
    """Every `backward` since `zero_feedback` is a run in the prompt."""
    lm = ScriptedLM([reply(template="b")])
    optimizer = OptoPrime([template], lm=lm)
    optimizer.backward(answer(template, 2), "too short")
    optimizer.backward(answer(template, 5), "too long")
    optimizer.step()
    assert prompt_of(lm).index("too short") < prompt_of(lm).index("too long")


def test_what_looks_like_a_field_of_a_prompt_stays_as_it_is(template: Parameter) -> None:
    """Values are put in once, and never searched."""
    lm = ScriptedLM(["no value"])
    optimizer = OptoPrime([template], lm=lm, objective="Keep {{report}} and {{memory}}.")
    optimizer.tell(Outcome({"template": "b"}, "optoprime", 0.5, False, "past"))
    optimizer.suggest([propagate(answer(template, 2), "It says {{objective}} and {{memory}}.")])
    assert "Keep {{report}} and {{memory}}." in prompt_of(lm)
    assert "It says {{objective}} and {{memory}}." in prompt_of(lm)


def test_past_attempts_give_way_where_there_is_no_room_beside_them() -> None:
    """The variables are never cut, so a long one may need all of the prompt."""
    text = Parameter("word " * 400, "text")
    trace = propagate(answer(text, 2), "wrong")

    def prompt(limit: int, *past: Outcome) -> str:
        lm = ScriptedLM(["no value"])
        optimizer = OptoPrime([text], lm=lm, max_prompt_tokens=limit)
        for outcome in past:
            optimizer.tell(outcome)
        try:
            optimizer.suggest([trace])
        except SettingError:
            return ""
        return prompt_of(lm)

    least = next(limit for limit in range(500, 2_000, 10) if prompt(limit))
    tried = Outcome({"text": "other " * 30}, "optoprime", 0.5, False, "past")
    assert prompt(least, tried) == prompt(least)
    assert "Past attempts" in prompt(least + 200, tried)


def test_step_without_feedback_asks_no_model(template: Parameter) -> None:
    lm = ScriptedLM([])
    optimizer = OptoPrime([template], lm=lm)
    with pytest.raises(SettingError, match="call backward"):
        optimizer.step()
    optimizer.backward(answer("x", 2), "not on the way")
    with pytest.raises(SettingError, match="call backward"):
        optimizer.step()
    assert lm.calls == []


@pytest.mark.parametrize(
    "options",
    [{"lm": None}, {"memory_size": -1}, {"max_prompt_tokens": 0}, {"mask": ("#Nothing",)}, {"profile": "huge"}],
)
def test_options_that_cannot_work_are_refused(template: Parameter, options: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        OptoPrime([template], **{"lm": ScriptedLM([]), **options})


def test_there_must_be_something_to_train(template: Parameter) -> None:
    fixed = Parameter("x", "fixed", trainable=False)
    demos = Parameter([], "demos", kind="demos")
    with pytest.raises(SettingError, match="at least one trainable"):
        OptoPrime([fixed, demos], lm=ScriptedLM([]))
    with pytest.raises(SettingError, match="at least one judged trace"):
        OptoPrime([template, demos], lm=ScriptedLM([])).suggest([])


def test_a_cut_reply_is_rejected(template: Parameter, trace: TraceGraph) -> None:
    cut = Reply('<value name="template">half of', Usage(1, 1), "m", "length", 0.0)
    (proposal,) = OptoPrime([template], lm=ScriptedLM([cut])).suggest([trace])
    assert "length limit" in (proposal.rejected or "")
    assert not proposal.repeats


def test_a_model_that_does_not_say_why_it_ended_may_have_been_cut(template: Parameter, trace: TraceGraph) -> None:
    """A value that is not closed is whole only if the model says that it came to its end."""
    for reason, usable in ((None, False), ("stop", True)):
        reply = Reply('<value name="template">half of', Usage(1, 1), "m", reason, 0.0)
        (proposal,) = OptoPrime([template], lm=ScriptedLM([reply])).suggest([trace])
        assert (proposal.candidate is not None) == usable


def test_a_proposal_says_whether_it_only_repeats(template: Parameter, trace: TraceGraph) -> None:
    """So that nobody asks the same model the same question again."""
    replies = ['<value name="template">\na\n</value>', "nothing"]
    optimizer = OptoPrime([template], lm=ScriptedLM(replies))
    assert [optimizer.suggest([trace])[0].repeats for _ in replies] == [True, False]


# Demonstrations


@bundle
def predict(demos, instructions, question):
    if question == "broken":
        raise ValueError(question)
    return {"reasoning": f"think {question}", "answer": f"a{question}"}


@pytest.fixture
def demos() -> Parameter:
    return Parameter([], "predict.demos", kind="demos")


def judged(demos: Parameter, question: object, score: float | None, **info: object) -> TraceGraph:
    instructions = Parameter("Do it.", "instructions")
    return propagate(predict(demos, instructions, node(question)), Feedback(score), info=info)


def test_demonstrations_are_successful_calls_without_instructions(demos: Parameter) -> None:
    optimizer = Demonstrations([demos])
    optimizer.observe([judged(demos, "q1", 1.0, example_id="7"), judged(demos, "q2", 0.9), judged(demos, "q3", None)])
    (proposal,) = optimizer.suggest([], n=5)
    assert proposal.candidate == {"predict.demos": [{"question": "q1", "reasoning": "think q1", "answer": "aq1"}]}
    assert (proposal.origin, proposal.reply, proposal.examples) == ("demos", "", ("7",))


def test_lists_differ_and_repeat_nothing(demos: Parameter) -> None:
    optimizer = Demonstrations([demos], max_demos=3)
    runs = [judged(demos, f"q{n}", 1.0, example_id=str(n)) for n in range(6)]
    optimizer.observe(runs + runs)
    lists = [p.candidate["predict.demos"] for p in optimizer.suggest([], n=8, seed=3) if p.candidate]
    assert len({json.dumps(found) for found in lists}) == 8
    for found in lists:
        questions = [demo["question"] for demo in found]
        assert 1 <= len(questions) == len(set(questions)) <= 3


def test_draws_depend_on_the_seed_and_not_on_the_order(demos: Parameter) -> None:
    runs = [judged(demos, f"q{n}", 1.0) for n in range(6)]
    one, two = Demonstrations([demos]), Demonstrations([demos])
    one.observe(runs)
    two.observe(runs[::-1])
    assert one.suggest([], n=3, seed=1) == two.suggest([], n=3, seed=1) == one.suggest([], n=3, seed=1)
    assert one.suggest([], n=3, seed=1) != one.suggest([], n=3, seed=2)


def test_failed_calls_and_values_without_json_are_no_demonstrations(demos: Parameter) -> None:
    optimizer = Demonstrations([demos])
    with pytest.raises(ExecutionError) as failed:
        predict(demos, "Do it.", "broken")
    optimizer.observe([propagate(failed.value.node, Feedback(1.0)), judged(demos, object(), 1.0)])
    assert optimizer.suggest([], n=2) == []


def test_a_call_without_arguments_shows_nothing(demos: Parameter) -> None:
    output = bundle(lambda demos: "always", name="say")(demos)
    assert Demonstrations([demos]).suggest([propagate(output, Feedback(1.0))]) == []


def test_lists_that_were_tried_are_not_proposed_again(demos: Parameter) -> None:
    optimizer = Demonstrations([demos])
    optimizer.observe([judged(demos, "q", 1.0)])
    (proposal,) = optimizer.suggest([], base={"predict.demos": [], "other": 1})
    assert proposal.candidate is not None
    optimizer.tell(Outcome(proposal.candidate, "demos", 0.5, False))
    assert optimizer.suggest([], base={"predict.demos": [], "other": 2}) == []


def test_an_output_that_is_no_mapping_is_called_output(demos: Parameter) -> None:
    output = bundle(lambda demos, question: question.upper(), name="shout")(demos, node("hi"))
    (proposal,) = Demonstrations([demos]).suggest([propagate(output, Feedback(1.0))])
    assert proposal.candidate == {"predict.demos": [{"question": "hi", "output": "HI"}]}


def test_a_list_that_the_check_refuses_is_a_rejection() -> None:
    def check(value: list[Any]) -> None:
        if value:
            raise SettingError("no")

    demos = Parameter([], "predict.demos", kind="demos", check=check)
    (proposal,) = Demonstrations([demos]).suggest([judged(demos, "q", 1.0)])
    assert proposal.candidate is None
    assert "predict.demos: " in (proposal.rejected or "")


def test_demonstrations_need_a_parameter_of_their_kind(template: Parameter, demos: Parameter) -> None:
    with pytest.raises(SettingError, match="demos"):
        Demonstrations([template])
    with pytest.raises(SettingError, match="max_demos"):
        Demonstrations([demos], max_demos=0)


# Turns


def optimizers(*names: str) -> list[Any]:
    made = []
    for name in names:
        optimizer = Demonstrations([Parameter([], "d", kind="demos")])
        optimizer.name = name
        made.append(optimizer)
    return made


def play(turns: Turns, gains: dict[str, list[float]], steps: int, seed: int = 0) -> list[str]:
    chosen = []
    for step in range(steps):
        optimizer = turns.next(step, seed)
        mine = gains[optimizer.name]
        turns.reward(optimizer, mine.pop(0) if mine else 0.0)
        chosen.append(optimizer.name)
    return chosen


def test_every_optimizer_has_a_turn_then_what_pays_has_more() -> None:
    chosen = play(Turns(optimizers("a", "b")), {"a": [0.0] * 40, "b": [0.2] * 40}, 40)
    assert chosen[:2] == ["a", "b"]
    assert chosen.count("b") > 2 * chosen.count("a") > 0


def test_what_no_longer_pays_gives_way() -> None:
    chosen = play(Turns(optimizers("a", "b")), {"a": [0.5, 0.5], "b": [0.0] + [0.1] * 60}, 60)
    assert chosen[30:].count("b") > chosen[30:].count("a")


def test_turns_are_a_function_of_rewards_and_seed() -> None:
    plays = [play(Turns(optimizers("a", "b", "c")), {"a": [], "b": [], "c": []}, 30, seed) for seed in (1, 1, 2)]
    assert plays[0] == plays[1] != plays[2]
    assert set(plays[0]) == {"a", "b", "c"}


def test_a_loss_counts_as_no_gain() -> None:
    plays = [play(Turns(optimizers("a", "b")), {"a": [lost] * 30, "b": [0.1] * 30}, 30) for lost in (0.0, -5.0)]
    assert plays[0] == plays[1]


def test_turns_know_their_optimizers() -> None:
    with pytest.raises(SettingError, match="at least one"):
        Turns([])
    with pytest.raises(SettingError, match="none of the optimizers"):
        Turns(optimizers("a")).reward(optimizers("b")[0], 1.0)


def test_a_cache_answers_the_same_question_again(template: Parameter, trace: TraceGraph) -> None:
    from trace_adapters.lm.ledger import Question
    from trace_adapters.lm.sampling import look_up

    lm = ScriptedLM(lambda messages: reply(template="b"))
    optimizer = OptoPrime([template], lm=lm)
    optimizer.suggest([trace], seed=4)
    optimizer.suggest([trace], seed=4)
    first, second = lm.calls
    assert (first.messages, first.options, first.sample_index) == (second.messages, second.options, second.sample_index)
    question = Question("optimizer", "m", first.messages, first.options, first.sample_index)
    assert look_up(question, 1, MemoryCache(), "e").missing == (4,)


def test_nodes_with_equal_values_are_told_apart(template: Parameter) -> None:
    joined: Node = bundle(lambda a, b, c: a + b + c, name="join")(
        template, node("a", name="left"), node("a", name="right")
    )
    lm = ScriptedLM(lambda messages: "?")
    OptoPrime([template], lm=lm).suggest([propagate(joined, Feedback(0.0))])
    assert "join = join(a=template, b=left, c=right)" in prompt_of(lm)
    assert 'left = "a"\nright = "a"' in prompt_of(lm)


@pytest.mark.parametrize("profile", ["strong", "small"])
def test_long_feedback_ends_nothing(template: Parameter, count: Parameter, profile: str) -> None:
    """It is cut in the middle, in past attempts too."""
    long = "begin " + "word " * 40_000 + "end"
    lm = ScriptedLM(lambda messages: reply(template="b", count=3))
    optimizer = OptoPrime([template, count], lm=lm, profile=profile)  # type: ignore[arg-type]
    optimizer.tell(Outcome({"template": "tried", "count": 2}, "optoprime", 0.0, False, long))
    traces = [propagate(answer(template, count), Feedback(0.0, f"{number} {long}")) for number in range(3)]
    assert len(optimizer.suggest(traces)) == 1
    shown = prompt_of(lm)
    assert count_tokens(shown) < 16_000
    assert [f"{number} begin word" in shown for number in range(3)] == [True] * 3
    assert "characters left out] …" in shown
    assert ("Feedback: begin word" in shown) == (profile == "strong")


@pytest.mark.parametrize("profile", ["strong", "small"])
def test_lone_surrogates_end_nothing(profile: str) -> None:
    """They stand as U+FFFD in what is sent and in new values; feedback and outputs keep them."""
    template = Parameter("a \ud800", "template", "What is \ud801 repeated.")
    lm = ScriptedLM(lambda messages: "<reasoning>\udfff</reasoning>" + reply(template="b \udc00"), profile=profile)  # type: ignore[arg-type]
    optimizer = OptoPrime([template], lm=lm)
    trace = propagate(answer(template, 2), Feedback(0.0, "x \ud803"))
    (proposal,) = optimizer.suggest([trace])
    assert proposal.candidate is not None
    assert "\udc00" in proposal.reply
    assert "b \ufffd" in proposal.candidate["template"]
    optimizer.tell(Outcome(proposal.candidate, "optoprime", 0.0, False, "worse \ud804"))
    optimizer.tell(Outcome(None, "optoprime", None, False, "", "odd \ud805", 'name="template" \ud806'))
    optimizer.suggest([trace], seed=1)
    sent = json.dumps(lm.calls[-1].messages, ensure_ascii=False)
    assert "x \ufffd" in sent
    sent.encode()
    assert trace.feedback.text == "x \ud803"


def test_code_with_a_surrogate_is_read_or_rejected() -> None:
    bare = Parameter("def f(x):\n    return x\n", "f", kind="code")
    lm = ScriptedLM(['<value name="f">\ndef f(x):\n    return "\ud800"\n</value>'])
    (proposal,) = OptoPrime([bare], lm=lm).suggest([propagate(answer(bare, 2), Feedback(0.0))])
    assert proposal.candidate == {"f": 'def f(x):\n    return "\ufffd"\n'}


def test_a_step_says_why_it_changed_nothing(template: Parameter) -> None:
    optimizer = OptoPrime([template], lm=ScriptedLM(["I cannot.", reply(template="b")]))
    assert optimizer.last_rejection is None
    optimizer.backward(answer(template, 2), "Too short.")
    with pytest.warns(UserWarning, match=r"optoprime.*no <value name=") as caught:
        assert optimizer.step() == {}
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "no <value name=" in (optimizer.last_rejection or "")
    assert optimizer.step() == {"template": "b"}
    assert optimizer.last_rejection is None


@pytest.mark.parametrize("kind", [OptoPrime, Demonstrations])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Parameter("a", "template"), r"list of parameters.*write \[parameter\]"),
        (Parameter([1], "items"), r"write \[parameter\]"),
        (node("a"), "list of parameters"),
        (None, "list of parameters.*got None"),
        (3, "list of parameters.*got 3"),
        ("template", "list of parameters.*got 'template'"),
        ({"template": Parameter("a", "template")}, r"\.values\(\)"),
        (ta.Module(), r"\.parameters\(\)"),
    ],
)
def test_what_is_no_list_of_parameters_is_refused(kind: Any, given: Any, message: str) -> None:
    options = {"lm": ScriptedLM([])} if kind is OptoPrime else {}
    with pytest.raises(SettingError, match=message):
        kind(given, **options)


def test_what_is_no_feedback_is_refused_and_leaves_nothing(template: Parameter) -> None:
    optimizer = OptoPrime([template], lm=ScriptedLM([]))
    output = answer(template, 2)
    for given in (None, [None], object(), ["fine", None]):
        outputs = [output, output] if given == ["fine", None] else output
        with pytest.raises(TypeError, match=r"^Feedback is a score, a text"):
            optimizer.backward(outputs, given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes the node to judge, got None"):
        optimizer.backward(None, "fine")  # type: ignore[arg-type]
    assert template.feedback == []


def test_feedback_may_be_anything_that_is_read_as_one(template: Parameter) -> None:
    optimizer = OptoPrime([template], lm=ScriptedLM([]))
    output = answer(template, 2)
    for given in ((0.5, "half"), {"score": 0.5, "feedback": "half"}, [(0.5, "half")], Feedback(0.5, "half")):
        optimizer.zero_feedback()
        optimizer.backward(output, given)  # type: ignore[arg-type]
        assert [graph.feedback for graph in template.feedback] == [Feedback(0.5, "half")]
    optimizer.zero_feedback()
    optimizer.backward([output, output], ("good", "bad"))
    assert [graph.feedback.text for graph in template.feedback] == ["good", "bad"]
