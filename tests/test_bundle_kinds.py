"""Everything that can be called can be a bundle."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools

import pytest

import trace_adapters as ta
from trace_adapters.errors import CodeError, SettingError


class Kinds:
    base = 10

    def __init__(self, base):
        self.base = base

    @ta.bundle
    def method(self, x):
        return self.base + x

    @ta.bundle
    @staticmethod
    def static_inside(x):
        return x + 1

    @staticmethod
    @ta.bundle
    def static_outside(x):
        return x + 1

    @ta.bundle
    @classmethod
    def class_inside(cls, x):
        return cls.base + x

    @classmethod
    @ta.bundle
    def class_outside(cls, x):
        return cls.base + x

    length = ta.bundle(len)


def test_methods_of_every_kind():
    """self and cls are bound as in plain Python and are no inputs; builtins in a class do not bind."""
    kinds, x = Kinds(1), ta.node(5, name="x")
    assert [getattr(kinds, n)(x).data for n in ("method", "static_inside", "static_outside")] == [6, 6, 6]
    assert [kinds.class_inside(x).data, Kinds.class_outside(x).data, Kinds.class_inside(x).data] == [15, 15, 15]
    assert list(kinds.method(x).inputs) == ["x"]
    assert Kinds.method(kinds, x).data == 6
    assert kinds.length("abc").data == 3
    assert kinds.method == kinds.method != Kinds(1).method


def test_callable_objects_partials_and_builtins():
    """They record under their own names."""

    class Scale:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, x):
            return x * self.factor

    assert (ta.bundle(Scale(3))(ta.node(2)).data, ta.bundle(Scale(3))(2).name) == (6, "Scale")
    assert ta.bundle(functools.partial(int, base=2))("11").data == 3
    assert ta.bundle("[size] How long.")(len)([1, 2]).name == "size"
    assert list(ta.bundle(max)(1, 2).inputs) == ["argument_0", "argument_1"]


def test_a_function_made_by_exec_records_and_says_why_it_cannot_be_trained():
    """There is no source to be changed."""
    names: dict = {}
    exec("def made(x):\n    return x + 1", names)
    assert ta.bundle(names["made"])(ta.node(1)).data == 2
    with pytest.raises(CodeError, match="exec"):
        ta.bundle(trainable=True)(names["made"])


def test_arguments_of_every_kind_have_names():
    """Positional, keyword-only, variable ones and defaults, each once."""

    @ta.bundle
    def call(a, /, b, *rest, c=3, **more):
        return [a, b, rest, c, more]

    y = call(ta.node(1), 2, 4, ta.node(5), d=6, rest_0=7)
    assert y.data == [1, 2, (4, 5), 3, {"d": 6, "rest_0": 7}]
    assert list(y.inputs) == ["a", "b", "rest_0", "rest_1", "c", "d", "rest_0_2"]

    @ta.bundle
    def simple(a, b=2, *, c=3):
        return a + b + c

    y = simple(1, c=ta.node(5, name="c"))
    assert (y.data, {name: node.data for name, node in y.inputs.items()}) == (8, {"a": 1, "b": 2, "c": 5})


@dataclasses.dataclass
class Message:
    role: str
    parts: list


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda n: [n, [1]],
        lambda n: (n,),
        lambda n: {"a": {"b": n}},
        lambda n: {"a": (1, [n])},
        lambda n: Message("user", [n]),
        lambda n: Point(n, 2),
        lambda n: collections.OrderedDict(a=n),
        lambda n: [Message("user", [n])],
    ],
)
def test_containers_of_nodes(wrapped):
    """The function sees plain values in a container of the same kind; the nodes inside are inputs."""
    x = ta.node(5, name="x", trainable=True)

    @ta.bundle
    def show(value):
        return repr(value)

    y = show(wrapped(x))
    assert y.data == repr(wrapped(5))
    assert ta.propagate(y, "x").parameters == [x]


def test_a_container_of_nodes_as_the_result():
    """The value is plain, the nodes inside are inputs."""
    x = ta.node(5, name="x", trainable=True)

    @ta.bundle
    def both():
        return {"more": x + 1, "less": [x - 1]}

    y = both()
    assert y.data == {"more": 6, "less": [4]}
    assert ta.propagate(y["more"], "x").parameters == [x]


def test_several_outputs_unpack():
    """A tuple is one node; its parts lead back to the call."""

    @ta.bundle
    def divide(a, b):
        return a // b, a % b

    quotient, rest = divide(ta.node(7, name="a", trainable=True), 2)
    assert (quotient.data, rest.data) == (3, 1)
    assert [p.key for p in ta.propagate(rest, "x").parameters] == ["a"]


def test_recursion_is_recorded_call_by_call_or_as_one():
    """overwrite_python_recursion=True runs the inner calls plainly."""
    x = ta.node(4, name="n", trainable=True)

    @ta.bundle
    def deep(n):
        return n if n == 0 else n + deep(n - 1)

    y = deep(x)
    assert y.data == 10

    @ta.bundle(overwrite_python_recursion=True)
    def flat(n):
        if n == 0:
            return 0
        inner = flat(n - 1)
        assert not isinstance(inner, ta.Node)
        return n + inner

    y = flat(x)
    assert (y.data, y.parents) == (10, [x])
    with ta.no_trace():
        assert flat(x).data == 10


def test_what_happens_inside_a_call_counts_if_a_parameter_is_in_it():
    """A bundle that calls bundles has their parameters as ancestors; inner work without any is left out."""
    hidden = ta.node(3, name="hidden", trainable=True)

    @ta.bundle
    def plain(a):
        return a + 1

    @ta.bundle
    def trained(a):
        return a + hidden

    assert len(ta.bundle(lambda b: plain(b) + 1)(3).parents) == 1
    y = ta.bundle(lambda b: trained(b).data + 1)(3)
    assert (y.data, ta.propagate(y, "x").parameters) == (7, [hidden])
    assert ta.propagate(ta.bundle(lambda b: trained(b) + 1)(3), "x").parameters == [hidden]


def test_the_inside_of_traceable_code_can_be_expanded():
    """Outside it is one call; inside there is the whole graph, to any depth, also after JSON."""
    x, hidden = ta.node(1, name="x", trainable=True), ta.node(-15, name="hidden", trainable=True)

    @ta.bundle(traceable_code=True)
    def inner(x):
        return x**2

    @ta.bundle(traceable_code=True)
    def outer(x):
        return inner(x) + 1 + hidden

    y = outer(x)
    assert (y.data, y.inputs["x"]) == (-13, x)
    first = y.backward("feedback")
    assert set(first.parameters) == {x, hidden}
    for graph in (first, ta.TraceGraph.from_json(first.to_json(), [x, hidden])):
        inside = graph.expand(graph.output)
        assert [inside.names[n] for n in inside.nodes if n.operation] == ["inner", "add", "add_2"]
        (call,) = [n for n in inside.nodes if n.name == "inner"]
        assert [n.name for n in inside.expand(call).nodes] == ["x", "int", "pow"]
    with pytest.raises(ValueError, match="traceable_code"):
        ta.propagate(x + 1, "x").expand(x)


def test_nodes_can_be_passed_as_they_are():
    """With _process_inputs=False the function gets the nodes."""
    x = ta.node(1, name="x", trainable=True)
    y = ta.bundle(_process_inputs=False)(lambda n: n + 1)(x)
    assert (y.data, ta.propagate(y, "x").parameters) == (2, [x])


def test_closed_over_nodes_can_be_forbidden():
    """allow_external_dependencies=False tells what was read."""
    hidden = ta.node(3, name="hidden")
    add = ta.bundle(allow_external_dependencies=False)(lambda x: x + hidden.data)
    with pytest.raises(SettingError, match="'hidden'"):
        add(1)


def test_a_tag_names_the_operation():
    """As in the article: "[name] description"."""
    y = ta.bundle("[fancy.cond] Chooses.")(lambda c: c)(1)
    assert (y.name, y.description) == ("fancy.cond", "Chooses.")


def test_a_trainable_method_needs_a_place_for_its_source():
    """Objects without __dict__ say so."""

    class Slotted:
        __slots__ = ()

        @ta.bundle(trainable=True)
        def f(self):
            return 1

    with pytest.raises(CodeError, match="__slots__"):
        Slotted().f()


async def test_coroutines_run_under_the_values_of_their_call():
    """Also if they are awaited later, together, or are no `async def`."""
    x = ta.node(0, name="x", trainable=True)

    @ta.bundle
    async def read():
        await asyncio.sleep(0)
        return x.data

    coroutines = []
    for number in range(20):
        with ta.using({"x": number}):
            coroutines.append(read())
    results = await asyncio.gather(*coroutines)
    assert [y.data for y in results] == list(range(20))
    assert all(y.parents == [x] for y in results)
    assert (await ta.bundle(lambda: read())()).data == 0


async def test_a_failing_coroutine_raises_with_its_node():
    """As any call."""

    @ta.bundle
    async def fail(a):
        raise ValueError("error")

    a = ta.node("a", name="a", trainable=True)
    with pytest.raises(ta.ExecutionError) as caught:
        await asyncio.gather(fail(a), fail(a))
    assert caught.value.exception_node.parents == [a]
    with ta.no_trace(), pytest.raises(ta.ExecutionError):
        await fail(a)
