"""A tape finds out which value came from which call, and says where it cannot know."""

from __future__ import annotations

import threading
from typing import Any

from trace_adapters.lineage import OWN_CODE, UNSEEN
from trace_adapters.nodes import FailedCall, Node, Operation, Parameter, Value
from trace_adapters.tape import Tape
from trace_adapters.traces import propagate

PLAN, FACTS, ANSWER = Operation("plan"), Operation("facts"), Operation("answer")
QUESTION = {"question": "How tall is the tower of Pisa?"}


def fresh(text: str) -> str:
    """An equal text that is another object."""
    return "".join(list(text))


def parameter(key: str, value: Any = "value") -> Value:
    return Parameter(value, key).read()


def sources(node: Node) -> dict[str, Node]:
    return node.recorded_inputs


def test_a_value_is_recognized_by_identity() -> None:
    tape = Tape()
    plan = fresh("measure it")
    tape.add(PLAN, QUESTION, plan)
    tape.add(ANSWER, {"plan": plan}, "56 m")
    answer = tape.node("56 m", inputs=QUESTION)
    assert answer.name == "answer"
    assert sources(answer)["plan"].operation is PLAN
    assert sources(sources(answer)["plan"])["question"].data == QUESTION["question"]


def test_identity_beats_a_later_equal_value() -> None:
    tape = Tape()
    first, second = fresh("measure it"), fresh("measure it")
    one = tape.add(PLAN, {}, first, [("p", parameter("one"))])
    tape.add(PLAN, {}, second, [("p", parameter("two"))])
    tape.add(ANSWER, {"plan": first}, {"answer": "tall"})
    node = tape.node({"answer": "tall"}, inputs={})
    used = sources(sources(node)["answer"].recorded_inputs["x"])["plan"]
    assert used.recorded_inputs["p"].data == one.parameters[0][1].data
    assert used.recorded_inputs["p"] is one.parameters[0][1]


def test_equal_text_is_recognized_and_the_latest_call_wins() -> None:
    tape = Tape()
    tape.add(PLAN, {}, fresh("measure it"), [("p", parameter("old"))])
    tape.add(PLAN, {}, fresh("measure it"), [("p", parameter("new"))])
    tape.add(ANSWER, {"plan": fresh("measure it")}, "56 m")
    graph = propagate(tape.node("56 m", inputs={}), "wrong")
    plan = sources(next(node for node in graph.nodes if node.operation is ANSWER))["plan"]
    assert [value.parameter.key for value in plan.sources if isinstance(value, Value)] == ["new"]


def test_a_field_of_an_output_is_a_node_with_exactly_that_value() -> None:
    tape = Tape()
    output = {"reasoning": "long thoughts", "facts": ["a fact", "another"]}
    tape.add(FACTS, QUESTION, output)
    tape.add(ANSWER, {"facts": output["facts"], "best": output["facts"][1]}, "56 m")
    found = sources(tape.node("56 m", inputs=QUESTION))
    assert found["facts"].data == ["a fact", "another"]
    assert found["facts"].name == "facts_facts"
    assert found["best"].data == "another"
    assert found["best"].recorded_inputs["x"] is found["facts"]


def test_text_around_earlier_text_is_own_code() -> None:
    tape = Tape()
    tape.add(PLAN, QUESTION, "measure it")
    tape.add(ANSWER, {"prompt": f"Plan: measure it\n{QUESTION['question']}"}, "56 m")
    prompt = sources(tape.node("56 m", inputs=QUESTION))["prompt"]
    assert prompt.operation is OWN_CODE
    assert {name: node.data for name, node in sources(prompt).items()} == {"plan": "measure it", **QUESTION}


def test_text_cut_out_of_earlier_text_is_own_code() -> None:
    tape = Tape()
    tape.add(PLAN, QUESTION, "Thoughts. Answer: measure it")
    tape.add(ANSWER, {"plan": "measure it"}, "56 m")
    plan = sources(tape.node("56 m", inputs=QUESTION))["plan"]
    assert plan.operation is OWN_CODE
    assert list(sources(plan)) == ["plan"]


def test_a_text_that_stands_only_inside_another_one_is_no_source() -> None:
    tape = Tape()
    tape.add(PLAN, {}, "measure")
    tape.add(FACTS, {}, "measure the tower")
    tape.add(ANSWER, {"prompt": "Do: measure the tower!"}, "56 m")
    answer = sources(tape.node("56 m", inputs={}))["value"]
    assert list(sources(sources(answer)["prompt"])) == ["facts"]


def test_an_error_raised_while_another_was_handled_leads_to_the_call_that_raised_the_first() -> None:
    tape = Tape()
    first = KeyError("gone")
    tape.add(PLAN, {}, error=first)
    tape.add(FACTS, {}, "fine")
    try:
        try:
            raise first
        except KeyError:
            raise ValueError("no plan")  # noqa: B904  # as programs do
    except ValueError as error:
        node = tape.node(inputs={}, error=error)
    assert (node.operation, node.data) == (PLAN, first)


def test_short_texts_match_whole_words_only() -> None:
    tape = Tape()
    tape.add(PLAN, {}, "it")
    tape.add(ANSWER, {"text": "little"}, "x1")
    assert sources(tape.node("x1", inputs={}))["text"].operation is UNSEEN


def test_what_cannot_be_recognized_follows_the_latest_calls() -> None:
    tape = Tape()
    tape.add(PLAN, QUESTION, "measure it")
    tape.add(ANSWER, {"plan": "MEASURE IT"}, "56 m")
    plan = sources(tape.node("56 m", inputs=QUESTION))["plan"]
    assert plan.operation is UNSEEN
    assert plan.data == "MEASURE IT"
    assert [node.operation for node in plan.sources] == [PLAN]


def test_a_constant_before_any_call_has_no_history() -> None:
    tape = Tape()
    tape.add(ANSWER, {"template": "Say it briefly.", "n": 3}, "56 m")
    found = sources(tape.node("56 m", inputs=QUESTION))
    assert {name: node.sources for name, node in found.items()} == {"template": (), "n": ()}


def test_a_constant_beside_a_recognized_value_is_not_guessed_at() -> None:
    tape = Tape()
    plan = fresh("measure it")
    tape.add(PLAN, QUESTION, plan)
    tape.add(ANSWER, {"template": "Say it briefly.", "plan": plan}, "56 m")
    assert sources(tape.node("56 m", inputs=QUESTION))["template"].operation is None


def test_true_and_none_are_never_recognized() -> None:
    tape = Tape()
    tape.add(PLAN, {}, True)
    tape.add(FACTS, {}, None)
    tape.add(ANSWER, {"flag": True, "nothing": None}, "56 m")
    found = sources(sources(tape.node("56 m", inputs={}))["value"])
    assert found["flag"].sources == ()
    assert found["nothing"].sources == ()


def test_numbers_are_recognized_by_value() -> None:
    tape = Tape()
    tape.add(PLAN, {}, 7)
    tape.add(FACTS, {}, 7)
    tape.add(ANSWER, {"n": 7}, "56 m")
    answer = sources(tape.node("56 m", inputs={}))["value"]
    assert sources(answer)["n"].operation is FACTS


def test_a_call_that_decided_what_ran_is_not_lost() -> None:
    """A router whose output is only compared still gets feedback."""
    tape = Tape()
    tape.add(PLAN, QUESTION, {"route": "maths"}, [("__instructions__", parameter("router"))])
    tape.add(ANSWER, QUESTION, {"answer": "56 m"})
    node = tape.node({"answer": "56 m"}, inputs=QUESTION)
    assert [p.key for p in propagate(node, "wrong").parameters] == ["router"]


def test_calls_that_ran_side_by_side_do_not_feed_each_other() -> None:
    tape = Tape()
    first = tape.start(PLAN, QUESTION)
    second = tape.start(FACTS, {"hint": "some hint"})
    tape.end(first, "some hint")
    tape.end(second, "facts!")
    node = tape.node({"a": "some hint", "b": "facts!"}, inputs=QUESTION)
    assert sources(sources(node)["b"])["hint"].operation is None


def test_a_call_inside_another_is_among_its_sources() -> None:
    tape = Tape()
    outer = tape.start(ANSWER, QUESTION)
    tape.add(PLAN, QUESTION, "measure it", [("__instructions__", parameter("plan"))], parent=outer)
    tape.end(outer, "MEASURED")
    node = tape.node("MEASURED", inputs=QUESTION)
    assert [p.key for p in propagate(node, "wrong").parameters] == ["plan"]


def test_a_group_is_no_node_when_its_result_is_that_of_a_call_inside() -> None:
    tape = Tape()
    output = {"answer": fresh("56 m")}
    group = tape.start(Operation("cot"), QUESTION, group=True)
    tape.add(ANSWER, QUESTION, output, parent=group)
    tape.end(group, output)
    assert tape.node(output, inputs=QUESTION).operation is ANSWER


def test_a_group_with_a_result_of_its_own_is_a_node() -> None:
    tape = Tape()
    group = tape.start(Operation("solver"), QUESTION, group=True)
    tape.add(ANSWER, QUESTION, "56 m", parent=group)
    tape.end(group, {"height": 56.0})
    node = sources(tape.node({"height": 56.0}, inputs=QUESTION))["height"].recorded_inputs["x"]
    assert node.name == "solver"
    assert sources(node)["height"].operation is UNSEEN


def test_the_innermost_failed_call_is_the_output() -> None:
    tape = Tape()
    error = IndexError("list index out of range")
    group = tape.start(Operation("solver"), QUESTION, group=True)
    call = tape.start(ANSWER, QUESTION, [("__code__", parameter("answer"))], parent=group)
    tape.end(call, error=error, place=(3, "    return parts[1]"))
    tape.end(group, error=error)
    node = tape.node(inputs=QUESTION, error=error)
    assert isinstance(node, FailedCall)
    assert (node.name, node.place) == ("answer", (3, "    return parts[1]"))
    assert [p.key for p in propagate(node, "it crashed").parameters] == ["answer"]


def test_an_error_of_the_program_itself_follows_the_latest_calls() -> None:
    tape = Tape()
    tape.add(PLAN, QUESTION, "measure it", [("__instructions__", parameter("plan"))])
    node = tape.node(inputs=QUESTION, error=KeyError("x"), operation=Operation("forward"))
    assert isinstance(node, FailedCall)
    assert node.name == "forward"
    assert [p.key for p in propagate(node, "it crashed").parameters] == ["plan"]


def test_an_error_that_wraps_another_belongs_to_the_call_that_failed() -> None:
    tape = Tape()
    cause = IndexError("no")
    tape.end(tape.start(ANSWER, QUESTION), error=cause)
    error = ValueError("wrapped")
    error.__cause__ = cause
    assert tape.node(inputs=QUESTION, error=error).name == "answer"


def test_a_template_that_the_program_read_is_a_source() -> None:
    tape = Tape()
    template = parameter("template", "Answer with one word.")
    tape.add(ANSWER, {"prompt": "Answer with one word.\nNow!"}, "56 m")
    tape.add(PLAN, {"template": "Answer with one word."}, "x2")
    node = tape.node({"a": "56 m", "b": "x2"}, inputs=QUESTION, values=[template])
    assert [p.key for p in propagate(node, "wrong").parameters] == ["template"]
    assert sources(sources(node)["b"])["template"] is template


def test_foreign_objects_are_seen_as_what_they_are_made_of() -> None:
    class Record:
        def __init__(self, **fields: Any) -> None:
            self.fields = fields

    tape = Tape(lambda value: value.fields if isinstance(value, Record) else value)
    record = Record(answer=fresh("56 m"))
    tape.add(PLAN, QUESTION, record)
    tape.add(ANSWER, {"all": record, "one": record.fields["answer"]}, "done!")
    found = sources(tape.node("done!", inputs=QUESTION))
    assert found["all"].data == {"answer": "56 m"}
    assert found["one"].recorded_inputs["x"] is found["all"]


def test_later_changes_of_a_value_do_not_change_the_record() -> None:
    tape = Tape()
    output = ["a"]
    tape.add(PLAN, {}, output)
    output.append("b")
    assert tape.calls[0].data == ["a"]


def test_a_list_that_the_program_extends_is_shown_as_each_call_was_given_it() -> None:
    """Programs that gather notes pass one list to call after call."""
    tape = Tape()
    notes: list[str] = []
    for note in (fresh("the first note"), fresh("the second note")):
        tape.add(FACTS, {"notes": notes}, [note])
        notes.append(note)
    tape.add(ANSWER, {"notes": notes}, "56 m")
    answer = tape.node("56 m", inputs=QUESTION)
    second = sources(sources(sources(answer)["notes"])["item_1"])["x"]
    first = sources(second)["notes"]
    assert sources(answer)["notes"].data == ["the first note", "the second note"]
    assert (second.operation, first.operation, first.data) == (FACTS, FACTS, ["the first note"])
    assert sources(first)["notes"].data == []


def test_an_output_that_the_program_changed_is_no_longer_the_output() -> None:
    tape = Tape()
    facts = [fresh("it leans")]
    tape.add(FACTS, QUESTION, facts)
    tape.add(PLAN, {"facts": facts}, "ask around")
    facts.append("it is tall")
    tape.add(ANSWER, {"facts": facts, "added": "it is tall"}, "56 m")
    answer = tape.node({"plan": "ask around", "answer": "56 m"}, inputs=QUESTION)
    plan, used = sources(sources(answer)["plan"])["facts"], sources(sources(answer)["answer"])["facts"]
    assert (plan.operation, plan.data) == (FACTS, ["it leans"])
    assert used.data == ["it leans", "it is tall"]
    assert sources(sources(used)["item_0"])["x"] is plan
    assert sources(used)["item_1"].operation is None


def test_inputs_that_the_program_changes_are_shown_as_they_came() -> None:
    tape = Tape()
    inputs = {"words": ["tall", "tower"]}
    given = tape.snapshots(inputs)
    inputs["words"].sort(reverse=True)
    tape.add(ANSWER, {"words": inputs["words"]}, "56 m")
    answer = tape.node("56 m", inputs=given)
    assert sources(answer)["words"].data == ["tower", "tall"]
    assert {node.data for node in sources(sources(answer)["words"]).values()} == {"tower", "tall"}
    assert sources(sources(sources(answer)["words"])["item_0"])["x"].data == ["tall", "tower"]


def test_a_value_that_holds_itself_is_no_trap() -> None:
    tape = Tape()
    loop: list[Any] = ["it leans"]
    loop.append(loop)
    tape.add(FACTS, QUESTION, loop, [("p", parameter("one"))])
    tape.add(ANSWER, {"facts": loop}, "56 m")
    assert [p.key for p in propagate(tape.node("56 m", inputs={}), "wrong").parameters] == ["one"]


def test_many_threads_write_one_tape() -> None:
    tape = Tape()

    def work(number: int) -> None:
        for step in range(50):
            tape.add(PLAN, {"step": step}, f"result {number}.{step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = [call.ended for call in tape.calls]
    assert len(set(ended)) == 400
