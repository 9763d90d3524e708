"""What may be trained, and what the first argument of a learned method is."""

from __future__ import annotations

import functools
import os

import pytest

import trace_adapters as ta
from trace_adapters.errors import CodeError


def loud(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs).upper()

    return wrapper


def register(function):
    function.registered = True
    return function


class Names:
    @loud
    def method(self, x):
        return x

    @staticmethod
    @loud
    def static(x):
        return x

    @classmethod
    @loud
    def of_class(cls, x):
        return x


@loud
def decorated(x):
    return x


@functools.lru_cache
def cached(x):
    return x


@pytest.mark.parametrize(
    "function",
    [decorated, cached, Names.method, Names().method, vars(Names)["static"], vars(Names)["of_class"], ta.bundle(loud)],
)
def test_a_decorator_that_would_be_lost_is_refused(function):
    """A learned source would run without it; the error says what to do."""
    with pytest.raises(CodeError, match=r"is decorated.*Put that work into the function, or decorate outside"):
        ta.bundle(trainable=True)(function)
    assert ta.bundle(function) is not None


@pytest.mark.parametrize("timeout_s", [0, float("inf"), float("nan"), "5"])
def test_a_time_limit_that_cannot_hold_is_refused_at_once(timeout_s):
    """The sandbox would refuse every call, and every candidate would seem to fail."""
    with pytest.raises(ta.SettingError, match="timeout_s is a finite number of seconds above 0"):
        ta.bundle(trainable=True, timeout_s=timeout_s)(register)


@pytest.mark.parametrize("uses", [[functools.partial(max, 1)], "max", [3], max])
def test_what_a_source_may_call_is_named(uses):
    """A callable without a name can be given one in a mapping."""
    with pytest.raises(ta.SettingError, match=r"uses=.*\{'name': function\}"):
        ta.bundle(trainable=True, uses=uses)(register)
    assert ta.bundle(trainable=True, uses={"most": functools.partial(max, 1)})(register).learned.uses["most"](3) == 3


def test_what_loses_nothing_can_be_trained():
    """Decorators outside, those that give the function back, static and class methods, nested functions."""

    @loud
    @ta.bundle(trainable=True, trust="in-process")
    def outside(x):
        return ta.node(x).data

    @ta.bundle(trainable=True)
    @register
    def registered(x):
        return x

    class Holder:
        @ta.bundle(trainable=True)
        @staticmethod
        def static(x):
            return x

        @ta.bundle(trainable=True)
        @classmethod
        def of_class(cls, x):
            return x

        @ta.bundle(trainable=True)
        def method(self, x):
            return x

    assert outside("a").data == "A"
    assert registered.registered
    for made in (registered, Holder.static, Holder.of_class, Holder.method):
        assert made.parameters()[0].data.startswith("def ")


def test_the_object_of_a_method_may_have_any_name():
    """How a method is called says what its first argument is."""

    class Agent(ta.Module):
        def __init__(self):
            self.word = "yes"

        def shout(self, text):
            return text.upper()

        @ta.bundle(trainable=True, uses={"shout": "shout"})
        def reply(this, x):
            return x

        @ta.bundle(trainable=True)
        @classmethod
        def of_class(kind, x):
            return x

    Agent.mark = "!"
    agent = Agent()
    agent.reply.parameter.data = "def reply(this, x):\n    return this.shout(this.word + x)\n"
    agent.of_class.parameter.data = "def of_class(kind, x):\n    return x + kind.mark\n"
    assert (agent.reply("1").data, agent.of_class("1").data) == ("YES1", "1!")


def test_a_method_called_through_its_class_has_its_object():
    """`Agent.reply(agent, x)` is `agent.reply(x)`."""

    class Agent:
        word = "no"

        def __init__(self):
            self.word = "yes"

        @ta.bundle(trainable=True)
        def reply(me, x):
            return x

    Agent.reply.parameter.data = "def reply(me, x):\n    return me.word + x\n"
    assert Agent.reply(Agent(), "1").data == "yes1"


def test_a_plain_function_may_call_its_first_argument_self():
    """It is a value like any other."""

    @ta.bundle(trainable=True)
    def double(self, times=2):
        return self * times

    double.parameter.data = "def double(self, times=2):\n    return [self] * times\n"
    assert double("a").data == ["a", "a"]


def counter():
    count = 0

    def step(x):
        nonlocal count
        count += x
        return count

    return step


def summer(xs):
    total = 0

    def add(x):
        nonlocal total
        total += x

    for x in xs:
        add(x)
    return total


def test_a_function_that_changes_names_around_it_is_refused_with_the_reason():
    """Its source alone is no Python; the complaint is not that the user's own source is wrong."""
    with pytest.raises(CodeError, match=r"'counter.<locals>.step' cannot be trained: it changes `count`"):
        ta.bundle(trainable=True)(counter())
    assert ta.bundle(counter())(2).data == 2


def test_a_nonlocal_inside_a_function_is_its_own():
    assert ta.bundle(trainable=True)(summer)([1, 2]).data == 3


def where(x):
    return os.getpid(), x


def test_the_users_own_source_runs_in_the_users_process():
    """Only a source that differs goes into the sandbox."""
    learned = ta.bundle(trainable=True)(where)
    assert learned(1).data == (os.getpid(), 1)
    learned.parameter.data = "import os\n\ndef where(x):\n    return os.getpid(), x\n"
    assert learned(1).data[0] != os.getpid()
