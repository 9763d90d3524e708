# Code with unit tests in a pool of processes, the way the published code optimization works.
import multiprocessing
import sys

from textgrad import Variable, get_engine, set_backward_engine
from textgrad.autograd import FormattedLLMCall
from textgrad.optimizer import TextualGradientDescent

FORMAT = "The problem: {problem}\n**The program**{program}**\nThe test results: {tests}"


def optimize(problem):
    program = Variable(
        "def f(x):\n    return {x: f'{x}'}",
        requires_grad=True,
        role_description="Code generated that must be evaluated for correctness",
    )
    optimizer = TextualGradientDescent(
        engine=ENGINE, parameters=[program], constraints=["Do not add asserts to the code"]
    )
    judge = FormattedLLMCall(
        engine=ENGINE, format_string=FORMAT, fields={"problem": None, "program": None, "tests": None}
    )
    gradients = []
    for _ in range(2):
        optimizer.zero_grad()
        inputs = {
            "program": program,
            "problem": Variable(problem, requires_grad=False, role_description="the coding problem"),
            "tests": Variable("failed", requires_grad=False, role_description="the results of the unit tests"),
        }
        judge(inputs=inputs, response_role_description="evaluation of the code").backward()
        optimizer.step()
        gradients.append(str(program.gradients))
    return program.value, gradients[-1]


if __name__ == "__main__":
    ENGINE = get_engine("gpt-4o", seed=int(sys.argv[1]))
    set_backward_engine(ENGINE, override=True)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for value, gradient in pool.map(optimize, ["one", "two", "three"]):
            print(value, "Say it better." in gradient)
