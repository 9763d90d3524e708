"""The examples' data are what they say: solvable, repeatable, apart; and bad files are refused with the reason."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

pytest.importorskip("dspy")

import dspy

from examples import tasks
from examples.bbh_dspy.data import N_GENERATED, describe_answers, load, split
from examples.bbh_dspy.metric import exact_match, is_exact
from trace_adapters import DataError, SettingError
from trace_adapters.testing.openai_server import ChatRequest, OpenAIServer

Example = dict[str, str]


@functools.cache
def drawn(task: str, seed: int = 0) -> list[Example]:
    return tasks.generate(task, N_GENERATED, seed)


def solve_boolean_expressions(question: str) -> str:
    return str(eval(question.split("? ")[1], {"__builtins__": {}}))


def solve_word_sorting(question: str) -> str:
    return " ".join(sorted(question.split(": ")[1].split()))


def solve_navigation(question: str) -> str:
    total = Counter[str]()
    for paces, way in re.findall(r"Walk (\d+) paces? (\w+)\.", question):
        total[way] += int(paces)
    return "Yes" if total["north"] == total["south"] and total["east"] == total["west"] else "No"


def solve_shuffled_objects(question: str) -> str:
    holds = dict(re.findall(r"(\w+) holds the (\w+) card", question))
    for one, two in re.findall(r"(\w+) and (\w+) swap cards", question):
        holds[one], holds[two] = holds[two], holds[one]
    asked = re.search(r"Which card does (\w+) hold now", question)
    assert asked
    return next(letter for letter, card in re.findall(r"(\([A-C]\)) (\w+)", question) if card == holds[asked[1]])


def solve_date_arithmetic(question: str) -> str:
    day, month, year = re.search(r"on (\d+) (\w+) (\d{4})", question).groups()  # type: ignore[union-attr]
    months = "January February March April May June July August September October November December".split()
    days = re.search(r"(\d+) days", question)[1]  # type: ignore[index]
    return str(date(int(year), months.index(month) + 1, int(day)) + timedelta(days=int(days)))


def solve_object_counting(question: str) -> str:
    shelf, kind = re.match(r"On the shelf there are (.*)\. How many (.*) are", question).groups()  # type: ignore[union-attr]
    total = 0
    for amount, thing in (part.split(" ") for part in re.split(r", | and ", shelf)):
        if any(thing in {one, tasks.plural(one)} for one in tasks.KINDS[kind]):
            total += 1 if amount in {"a", "an"} else tasks.NUMBERS.index(amount) + 2
    return str(total)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_answers_are_right(task: str) -> None:
    solve = globals()[f"solve_{task}"]
    assert [solve(example["input"]) for example in drawn(task)] == [example["target"] for example in drawn(task)]


@pytest.mark.parametrize("task", tasks.TASKS)
def test_same_seed_gives_the_same_examples(task: str) -> None:
    assert tasks.generate(task, 20, seed=3) == drawn(task, 3)[:20]
    assert tasks.generate(task, 20, seed=4) != drawn(task, 3)[:20]


def test_examples_are_the_same_on_every_machine() -> None:
    assert drawn("word_sorting")[0]["input"] == FIRST_WORD_SORTING


FIRST_WORD_SORTING = "Put these words in alphabetical order: walnut oyster velvet nickel canyon saddle"


@pytest.mark.parametrize("task", tasks.TASKS)
def test_no_question_stands_in_two_splits(task: str) -> None:
    parts = load(task)
    questions = [example.question for example in [*parts.train, *parts.val, *parts.test]]
    assert (len(parts.train), len(parts.val), len(parts.test)) == (15, 5, N_GENERATED - 20)
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_always_giving_one_answer_does_not_pay(task: str) -> None:
    assert load(task).majority < 0.6


def test_examples_have_the_question_as_only_input() -> None:
    example = load("navigation").train[0]
    assert set(example.inputs().toDict()) == {"question"}
    assert example.answer in {"Yes", "No"}


@pytest.mark.parametrize(
    ("task", "description"),
    [
        ("boolean_expressions", "one of: False, True"),
        ("date_arithmetic", "a date as YYYY-MM-DD"),
        ("navigation", "one of: No, Yes"),
        ("object_counting", "a whole number in digits, such as 7"),
        ("shuffled_objects", "the letter of an option in parentheses, such as (A)"),
        ("word_sorting", "words separated by single spaces"),
    ],
)
def test_answers_are_described(task: str, description: str) -> None:
    assert load(task).answer_type == description


def test_other_answers_are_a_short_text() -> None:
    assert describe_answers(["plausible", "a b", "?"]) == "a short text"


def file_of(folder: Path, content: object, name: str = "riddles.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def riddles(count: int) -> list[Example]:
    return [{"input": f"riddle {number}", "target": str(number)} for number in range(count)]


def test_a_file_is_split_in_its_own_order(tmp_path: Path) -> None:
    parts = load(file_of(tmp_path, {"canary": "x", "examples": riddles(30)}))
    assert parts.task == "riddles"
    assert [example.answer for example in parts.train] == [str(number) for number in range(15)]
    assert [example.answer for example in parts.test] == [str(number) for number in range(20, 30)]


def test_a_seed_changes_the_order(tmp_path: Path) -> None:
    source = file_of(tmp_path, riddles(30))
    one, same, other = (load(source, seed=seed).train for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_repeated_question_is_left_out() -> None:
    parts = split([*riddles(25), *riddles(3)], "riddles")
    assert len(parts.test) == 5


def test_a_url_is_read(tmp_path: Path) -> None:
    file_of(tmp_path, {"examples": riddles(30)})
    assert len(load((tmp_path / "riddles.json").as_uri()).test) == 10


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "holds no JSON"),
        ([], "has no examples"),
        ({"rows": []}, "has no examples"),
        ([{"input": "a"}], "Example 1 of"),
        ([{"input": "a", "target": 7}], "both texts"),
        ([{"input": "a", "target": "b"}], "leave some for the test"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: object, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        load(file_of(tmp_path, content))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("object_countin", "^There is no task 'object_countin'. Known tasks: boolean_expressions, date_arithmetic"),
        ("no/such/file.json", "^The data file 'no/such/file.json' cannot be read: No such file"),
        ("http://127.0.0.1:9/x.json", "^http://127.0.0.1:9/x.json cannot be fetched"),
    ],
)
def test_missing_data_is_named(source: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        load(source)


def test_a_negative_number_of_test_examples_is_refused() -> None:
    with pytest.raises(DataError, match="0 \\(all\\) or more"):
        load("navigation").limited(-1)


def gold(answer: str) -> dspy.Example:
    return dspy.Example(question="?", answer=answer, answer_type="a whole number").with_inputs("question")


def test_metric_scores_to_the_letter() -> None:
    assert exact_match(gold("7"), dspy.Prediction(answer="7")).score == 1.0
    assert exact_match(gold("7"), dspy.Prediction(answer=" 7")).score == 0.0


def test_metric_says_what_was_expected() -> None:
    feedback = exact_match(gold("7"), dspy.Prediction(answer="{seven}")).feedback
    assert 'output of your answer to be "7" (a whole number), but it was "{seven}"' in feedback


def test_wrong_answers_are_no_to_dspy() -> None:
    assert is_exact(gold("7"), dspy.Prediction(answer="8"), trace=[]) is False


def test_copro_gets_the_largest_shape_that_fits() -> None:
    from examples.bbh_dspy import baselines

    assert baselines.copro_shape(150, 20) == (7, 1)
    assert baselines.copro_shape(600, 20) == (10, 3)
    with pytest.raises(SettingError, match="at least 40 runs"):
        baselines.copro_shape(39, 20)


def answering(request: ChatRequest) -> str:
    """A model that knows the answers, gives them in the fragile form on every other question only, and can propose."""
    prompt = request.messages[-1]["content"]
    if "proposed_instruction" in prompt:
        fields = {"proposed_instruction": "Think first.", "proposed_prefix_for_output_field": "Response:"}
        return "\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in fields.items()) + "\n[[ ## completed ## ]]"
    question = next(example for example in drawn("navigation") if example["input"] in prompt)
    form = "Answer: " if drawn("navigation").index(question) % 2 == 0 else ""
    texts = f"[[ ## reasoning ## ]]\nSo.\n\n[[ ## response ## ]]\n{form}{question['target']}"
    return f"{texts}\n\n[[ ## completed ## ]]"


@pytest.mark.parametrize(
    ("method", "runs", "demonstrations"), [("bootstrap", 20, 4), ("copro", 40, 0)], ids=["bootstrap", "copro"]
)
def test_baselines_measure_and_count(tmp_path: Path, method: str, runs: int, demonstrations: int) -> None:
    """DSPy's optimizers bear the program's crashes, keep to the runs allowed, and the result is written."""
    from examples.bbh_dspy import baselines

    out = tmp_path / "deep" / "result.json"
    with OpenAIServer(answering) as server:
        words = f"--data navigation --method {method} --model stub --base-url {server.base_url} --limit-test 6"
        code = baselines.main([*words.split(), "--runs", str(runs), "--threads", "2", "--out", str(out)])
    result = json.loads(out.read_text(encoding="utf-8"))
    assert code == 0
    assert result["error"] is None
    assert result["last_crash"] == "IndexError: list index out of range"
    assert (result["before"], result["after"], result["n_test"], result["crashes_before"]) == (0.5, 0.5, 6, 3)
    assert result["demonstrations"] == demonstrations
    assert 0 < result["runs"] <= runs


def test_baselines_refuse_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    from examples.bbh_dspy import baselines

    assert baselines.main(["--data", "nothing", "--method", "copro"]) == 2
    assert "error: There is no task 'nothing'" in capsys.readouterr().err
