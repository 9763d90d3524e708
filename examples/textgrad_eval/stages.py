"""The three stages of TextGrad's published evaluation: a prompt, solutions, code."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from textgrad import BlackboxLLM, Variable, sum as sum_of
from textgrad.autograd import FormattedLLMCall, StringBasedFunction
from textgrad.loss import MultiChoiceTestTime

from examples.accuracy import Accuracy
from examples.textgrad_eval.data import Example, Split, letter_of
from examples.textgrad_eval.engines import Engines, Tally
from examples.textgrad_eval.methods import METHODS, START
from examples.textgrad_eval.problems import Case, Problem
from trace_adapters import SandboxUnavailable
from trace_adapters.extend import default_pool

Facts = dict[str, Any]

SHORT = "Replies must stay below 60 words."
FORMS = {
    "object_counting": "a number in digits",
    "word_sorting": "the words, separated by single spaces",
    "gsm8k": "a number in digits",
}
PROMPT_ROLE = "system prompt of a language model that answers questions: how to think and in which form to answer"
JUDGE = (
    "You are shown a question and an answer to it. Check the reasoning step by step, look for a mistake, and say in at "
    "most three sentences what should be corrected. Do not write a new answer."
)
LETTER_RULE = "The last line must be 'Answer: X' with X one of the letters A, B, C and D."
CODE_FORM = (
    "A program was written for a problem and tested.\nProblem: {problem}\nProgram:\n{program}\nTests:\n{tests}\n"
    "Say in at most three sentences what is wrong with the program, or that nothing is."
)
CODE_RULES = ("Give the whole function as Python code.", "No tests, prints or examples.")


def start_prompt(task: str) -> str:
    """What the system prompt is before any update."""
    return (
        "You answer a question. Think step by step in at most two short sentences. "
        f"The last line of your reply must be 'Answer: VALUE', where VALUE is {FORMS[task]}."
    )


# A prompt: learned on small batches, with a look at the validation set before a new one is kept.


def prompt_stage(
    method: str, split: Split, engines: Engines, tally: Tally, *, steps: int, batch: int, seed: int, start: Facts | None
) -> Facts:
    """Learn a system prompt, or measure the one to start from.

    Args:
        method: One of `METHODS`, or `START`.
        split: The questions.
        engines: The model.
        tally: What is spent is added here.
        steps: How many updates.
        batch: Training questions in each.
        seed: Of the batches.
        start: What `START` measured: the accuracy of the first prompt need not be measured again.

    Returns:
        The prompt with its accuracy on the test questions, and that of every prompt tried on the validation questions.
    """
    prompt = Variable(start_prompt(split.task), requires_grad=True, role_description=PROMPT_ROLE)
    model = BlackboxLLM(engines.student, prompt)
    if method == START or start is None:
        validated, tested = (share(model, split, examples) for examples in (split.val, split.test))
        return {"right": tested.right, "n": tested.n, "validation": [validated.value], "prompt": prompt.value}
    optimizer = METHODS[method]([prompt], engines, [SHORT])
    equals = StringBasedFunction(
        lambda prediction, truth: int(split.same(prediction.value, truth.value)),
        function_purpose="Compares the prediction with the right answer: 1 if they are the same, 0 if not.",
    )
    rng = random.Random(f"{split.task}/{seed}")
    best, trajectory = start["validation"][0], [start["validation"][0]]
    for _ in range(steps):
        before = prompt.value
        optimizer.zero_grad()
        losses = [judged(model, equals, example) for example in rng.sample(split.train, batch)]
        total = sum_of(losses)
        tally.attempt(optimizer, total, engines, prompt)
        if prompt.value != before:
            found = share(model, split, split.val).value
            trajectory.append(found)
            if found < best:
                prompt.set_value(before)
            else:
                best = found
    learned = prompt.value
    if learned == start["prompt"]:
        return {"right": start["right"], "n": start["n"], "validation": trajectory, "prompt": learned}
    tested = share(model, split, split.test)
    return {"right": tested.right, "n": tested.n, "validation": trajectory, "prompt": learned}


def judged(model: Any, equals: Any, example: Example) -> Any:
    """The model's reply to a question, compared with the right answer."""
    question = Variable(example.question, requires_grad=False, role_description="question to the language model")
    truth = Variable(example.answer, requires_grad=False, role_description="right answer")
    return equals(
        inputs={"prediction": model(question), "truth": truth}, response_role_description="whether the answer is right"
    )


def share(model: Any, split: Split, examples: Sequence[Example]) -> Accuracy:
    """How many questions the model answers right."""
    right = 0
    for example in examples:
        question = Variable(example.question, requires_grad=False, role_description="question to the language model")
        right += split.same(model(question).value, example.answer)
    return Accuracy(right, len(examples))


# Solutions: each answer is improved by itself at test time; the vote of all its versions counts.


def solution_stage(
    method: str, split: Split, engines: Engines, tally: Tally, *, rounds: int, start: Facts | None
) -> Facts:
    """Improve the answers to the test questions one by one, or measure the first ones.

    Returns:
        How many votes are right, how many last answers are, and all replies.
    """
    replies: list[list[str]] = []
    for number, example in enumerate(split.test):
        if method == START or start is None:
            ask = f"{example.question}\n\nReply with one short sentence of reasoning and a last line. {LETTER_RULE}"
            replies.append([engines.student(ask)])
        else:
            first = start["replies"][number][0]
            replies.append(improve_answer(method, example, first, engines, tally, rounds))
    votes = [vote(versions) for versions in replies]
    last = [letter_of(versions[-1]) for versions in replies]
    answers = [example.answer for example in split.test]
    return {
        "right": sum(given == answer for given, answer in zip(votes, answers, strict=True)),
        "right_last": sum(given == answer for given, answer in zip(last, answers, strict=True)),
        "n": len(answers),
        "replies": replies,
    }


def improve_answer(method: str, example: Example, first: str, engines: Engines, tally: Tally, rounds: int) -> list[str]:
    """The first answer and the versions that the updates made of it; the right one is not looked at."""
    answer = Variable(first, requires_grad=True, role_description="reasoning and answer to a multiple choice question")
    loss_of = MultiChoiceTestTime(
        JUDGE,
        engines.judge,
        Variable("You check answers.", requires_grad=False, role_description="system prompt of the judge"),
    )
    optimizer = METHODS[method]([answer], engines, [LETTER_RULE, SHORT])
    versions = [first]
    for _ in range(rounds):
        optimizer.zero_grad()
        loss = loss_of(example.question, answer)
        tally.attempt(optimizer, loss, engines, answer)
        versions.append(answer.value)
    return versions


def vote(versions: Sequence[str]) -> str | None:
    """The letter that most versions give, of equals the earliest."""
    letters = [letter for letter in map(letter_of, versions) if letter is not None]
    return Counter(letters).most_common(1)[0][0] if letters else None


# Code: improved until the tests that are shown pass; measured with others.


def code_stage(
    method: str, problems: Sequence[Problem], engines: Engines, tally: Tally, *, rounds: int, start: Facts | None
) -> Facts:
    """Write a function for each problem, or improve those written.

    Returns:
        How many pass all tests, and the sources.
    """
    sources = []
    for number, problem in enumerate(problems):
        if method == START or start is None:
            ask = f"Write a Python function. {problem.task} Reply with the code alone."
            sources.append(code_in(engines.student(ask)))
        else:
            sources.append(improve_code(method, problem, start["sources"][number], engines, tally, rounds))
    passed = [all_pass(source, problem) for source, problem in zip(sources, problems, strict=True)]
    return {"right": sum(passed), "n": len(passed), "sources": sources}


def improve_code(method: str, problem: Problem, source: str, engines: Engines, tally: Tally, rounds: int) -> str:
    """The source after the updates; none is made once the tests that are shown pass."""
    code = Variable(source, requires_grad=True, role_description=f"Python source of the function {problem.name}")
    criticize = FormattedLLMCall(
        engine=engines.judge,
        format_string=CODE_FORM,
        fields={"problem": None, "program": None, "tests": None},
        system_prompt=Variable("You review code.", requires_grad=False, role_description="system prompt of the judge"),
    )
    optimizer = METHODS[method]([code], engines, CODE_RULES)
    for _ in range(rounds):
        outcome = run_tests(code.value, problem.name, problem.shown)
        if all(line.startswith("passed") for line in outcome):
            break
        optimizer.zero_grad()
        inputs = {
            "problem": Variable(problem.task, requires_grad=False, role_description="what the function must do"),
            "program": code,
            "tests": Variable("\n".join(outcome), requires_grad=False, role_description="outcome of the tests"),
        }
        loss = criticize(inputs=inputs, response_role_description="what is wrong with the program")
        tally.attempt(optimizer, loss, engines, code)
        code.set_value(code_in(code.value))
    return str(code.value)


def all_pass(source: str, problem: Problem) -> bool:
    """Whether a function passes the tests that were shown and the others."""
    outcome = run_tests(source, problem.name, [*problem.shown, *problem.hidden])
    return all(line.startswith("passed") for line in outcome)


def run_tests(source: str, name: str, cases: Sequence[Case]) -> list[str]:
    """The outcome of each test as a line; the code runs in the sandbox."""
    lines = []
    for arguments, expected in cases:
        call = f"{name}({', '.join(map(repr, arguments))})"
        lines.append(f"{_outcome(source, name, arguments, expected)}: {call} must give {expected!r}")
    return lines


def _outcome(source: str, name: str, arguments: Sequence[Any], expected: Any) -> str:
    run: Callable[..., Any] = default_pool().run
    try:
        given = run(source, name, list(arguments), {}, timeout_s=5.0)
    except SandboxUnavailable:
        raise
    except Exception as error:  # what the code raised, or why it was ended
        return f"failed ({type(error).__name__}: {error})"
    return "passed" if given == expected and type(given) is type(expected) else f"failed (gave {given!r})"


def code_in(reply: str) -> str:
    """The code in a reply: its first fenced block, else all of it."""
    block = re.search(r"```(?:python)?[ \t]*\n(.*?)(?:\n```|\Z)", reply, re.DOTALL)
    return (block.group(1) if block else reply).strip() + "\n"
