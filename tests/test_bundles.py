"""What bundles promise."""

from __future__ import annotations

import functools
import inspect
import json

import pytest

import trace_adapters as ta
from trace_adapters.errors import CodeError, ExecutionError


@ta.bundle(trainable=True)
def extract(response):
    """Read the answer."""
    # the fragile start
    return response.split("Answer:")[1].strip()


def test_a_call_is_remembered():
    """The output knows the operation, its description and its inputs by name."""

    @ta.bundle
    def greet(name, *, punctuation="!"):
        """Greet somebody."""
        return f"Hello {name}{punctuation}"

    who = ta.node("you", name="who", trainable=True)
    y = greet(who)
    assert y.data == "Hello you!"
    assert (y.name, y.description) == ("greet", "Greet somebody.")
    assert list(y.inputs) == ["name", "punctuation"]
    assert y.inputs["name"] is who


def test_the_source_of_a_trainable_bundle_is_a_parameter():
    """Source and comments are the value; the decorator is not part of it."""
    (parameter,) = extract.parameters()
    assert parameter.key == "extract"
    assert parameter.kind == "code"
    assert parameter.data.startswith("def extract(response):")
    assert "# the fragile start" in parameter.data
    assert "def extract(response)" in parameter.constraint


def test_a_failed_call_is_a_node_with_the_failing_line():
    """Feedback flows through a crash to the code that crashed."""
    with pytest.raises(ExecutionError) as caught:
        extract(ta.node("there are 8 fruits", name="response"))
    y = caught.value.node
    assert y.failed
    assert isinstance(y.data, IndexError)
    assert y.place is not None
    assert y.place[1].strip() == 'return response.split("Answer:")[1].strip()'
    graph = y.backward("expected 8")
    assert graph.parameters == extract.parameters()
    assert extract.parameters()[0].feedback[-1] is graph
    extract.parameters()[0].zero_feedback()


def test_learned_code_runs_in_another_process():
    """A source that is not the user's own cannot see this process."""
    source = "import os\ndef extract(response):\n    return os.getpid()"
    with ta.using({"extract": source}):
        y = extract("x")
    import os

    assert y.data != os.getpid()


def test_learned_code_that_fails_shows_its_own_line():
    """The place of an error is in the source that ran."""
    source = "def extract(response):\n    x = 1\n    return [][x]\n"
    with ta.using({"extract": source}), pytest.raises(ExecutionError) as caught:
        extract("x")
    assert isinstance(caught.value.__cause__, IndexError)
    assert caught.value.node.place == (3, "    return [][x]")


def test_trust_runs_learned_code_here():
    """With trust="in-process" the learned source sees this module."""

    @ta.bundle(trainable=True, trust="in-process")
    def where():
        return None

    with ta.using({"where": "def where():\n    return pytest.__name__"}):
        assert where().data == "pytest"


def test_host_functions_are_reached_where_declared():
    """`uses=` names what learned code may call back."""
    asked = []

    def call_llm(prompt):
        asked.append(prompt)
        return "8"

    @ta.bundle(trainable=True, uses=(call_llm,))
    def answer(question):
        return ""

    with ta.using({"answer": "def answer(question):\n    return call_llm(question + '?')"}):
        assert answer("how many").data == "8"
    assert asked == ["how many?"]


def test_instances_have_sources_of_their_own():
    """Two instances, two methods: four parameters, never confused."""

    class Agent(ta.Module):
        def __init__(self, word):
            self.word = word

        @ta.bundle("[op] first", trainable=True, trust="in-process")
        def first(self, x):
            return self.word + x

        @ta.bundle("[op] second", trainable=True, trust="in-process")
        def second(self, x):
            return x + self.word

    a, b = Agent("a"), Agent("b")
    a.first.parameter.data = "def first(self, x):\n    return 'changed'"
    assert (a.first("1").data, b.first("1").data, a.second("1").data) == ("changed", "b1", "1a")


def test_a_learned_method_sees_plain_attributes_in_the_sandbox():
    """`self` of a learned method has the object's plain values and what uses= declares."""

    class Agent(ta.Module):
        def __init__(self):
            self.word = "yes"

        def shout(self, text):
            return text.upper()

        @ta.bundle(trainable=True, uses={"shout": "shout"})
        def reply(self, x):
            return x

    agent = Agent()
    agent.reply.parameter.data = "def reply(self, x):\n    return self.shout(self.word + x)"
    assert agent.reply("1").data == "YES1"


def test_containers_of_nodes_keep_their_history():
    """Nodes inside lists and dicts are inputs; the function sees plain values."""

    @ta.bundle
    def join(parts, options):
        assert all(type(part) is str for part in parts)
        return options["sep"].join(parts)

    a, sep = ta.node("a", name="a", trainable=True), ta.node("-", name="sep", trainable=True)
    y = join([a, "b"], {"sep": sep})
    assert y.data == "a-b"
    assert set(ta.propagate(y, "x").parameters) == {a, sep}


def test_closed_over_parameters_get_their_credit():
    """A parameter that the body reads is an input of the call."""
    hidden = ta.node(3, name="hidden", trainable=True)

    @ta.bundle
    def add(x):
        return x + hidden.data

    y = add(1)
    assert y.data == 4
    assert ta.propagate(y, "x").parameters == [hidden]


@pytest.mark.parametrize("function", [len, functools.partial(int, base=2), lambda x: x, str.upper])
def test_any_callable_can_be_a_bundle_but_not_trainable(function):
    """Builtins, partials and lambdas record; without source they cannot be trained, and say so."""
    assert ta.bundle()(function)("11").operation is not None
    with pytest.raises(CodeError):
        ta.bundle(trainable=True)(function)


def test_a_failed_call_raises_with_its_node():
    """The original exception is the cause; the node is at hand under both names."""

    @ta.bundle
    def crash():
        raise KeyError

    with pytest.raises(ExecutionError, match="crash failed: KeyError") as caught:
        crash()
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.node.failed
    assert caught.value.exception_node is caught.value.node


def test_catch_execution_error_off_lets_the_functions_own_error_through():
    """Then nothing is recorded of the call."""

    @ta.bundle(catch_execution_error=False)
    def crash():
        raise KeyError

    with pytest.raises(KeyError):
        crash()


async def test_coroutines_are_recorded():
    """Awaiting an async bundle gives its node."""

    @ta.bundle(trainable=True)
    async def double(x):
        return x * 2

    y = await double(ta.node(4, name="x"))
    assert y.data == 8
    with ta.using({"double": "async def double(x):\n    return x * 3"}):
        assert (await double(4)).data == 12


def test_a_wrong_call_is_a_recorded_failure():
    """A TypeError of the call itself reaches the feedback like any other."""
    with pytest.raises(ExecutionError) as caught:
        extract("a", "b")
    assert isinstance(caught.value.node.data, TypeError)


def test_a_node_of_around_that_a_library_cannot_take_is_told_of():
    """Inside a bundle, closed-over nodes are nodes."""
    word = ta.node("a", name="word", trainable=True)

    @ta.bundle
    def as_json():
        return json.dumps([word])

    with pytest.raises(ExecutionError, match=r"not JSON serializable.*or pass node\.data"):
        as_json()


def test_a_bundled_method_has_the_signature_of_a_method():
    """`inspect.signature` of a bound method leaves the object out, as Python's own does."""

    class Agent:
        @ta.bundle(trainable=True)
        def act(self, state, n=3):
            """Act."""
            return state

        @ta.bundle
        def look(self, state):
            """Look."""
            return state

    assert str(inspect.signature(Agent().act)) == "(state, n=3)"
    assert str(inspect.signature(Agent().look)) == "(state)"
    assert str(inspect.signature(Agent.look)) == "(self, state)"


@ta.bundle
def take_first(items):
    """Take the first item away."""
    return items.pop(0)


def test_what_a_function_does_to_its_arguments_never_falsifies_the_record():
    """A plain list is changed as in Python; a node's value is passed as a copy. Both are recorded as they were."""
    plain, noted = ["a", "b"], ta.node(["c", "d"])
    first, second = take_first(plain), take_first(noted)
    assert (first.inputs["items"].data, plain) == (["a", "b"], ["b"])
    assert (second.inputs["items"].data, noted.data) == (["c", "d"], ["c", "d"])
