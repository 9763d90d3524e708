"""The faults of the original Trace, found by running it (0.1.3.8), are not ours."""

from __future__ import annotations

import asyncio
import weakref

import pytest

import trace_adapters as ta


@ta.bundle(trainable=True, trust="in-process")
def trained(x):
    """Adds."""
    return x + 1


def outcome(call):
    """The failed call of what raises."""
    with pytest.raises(ta.ExecutionError) as caught:
        call()
    return caught.value.node


def test_decorating_keeps_nothing_of_the_callers_frame_alive():
    """The original copied the locals of the caller."""

    class Big:
        pass

    def make():
        big = Big()
        return weakref.ref(big), ta.bundle(lambda x: x)

    ref, _ = make()
    assert ref() is None


def test_closures_are_live():
    """The original froze them at decoration."""
    k = 1

    @ta.bundle(trainable=True, trust="in-process")
    def f(x):
        return x + k

    k = 50
    assert f(1).data == 51
    f.parameter.data = "def f(x):\n    return x - k\n"
    k = 60
    assert f(1).data == -59


def test_a_decorator_with_parentheses_in_strings_and_comments_is_removed():
    """The original counted parentheses without knowing strings."""

    @ta.bundle("[odd] :-) ((", trainable=True)  # a comment (
    def odd(x):
        return x

    assert odd.parameters()[0].data.startswith("def odd(x):")


def test_the_article_names_of_options_work():
    """Programs written for the original pass them."""

    @ta.bundle(
        description="[f] F.",
        traceable_code=False,
        _process_inputs=True,
        trainable=True,
        catch_execution_error=True,
        allow_external_dependencies=True,
        overwrite_python_recursion=False,
    )
    def f(x):
        return x

    assert (f(1).data, f(1).description) == (1, "F.")


def test_two_methods_with_one_description_are_two_methods():
    """The original took them for one."""

    class P(ta.Module):
        @ta.bundle("[op] the same", trainable=True, trust="in-process")
        def a(self, x):
            return "a" + x

        @ta.bundle("[op] the same", trainable=True, trust="in-process")
        def b(self, x):
            return "b" + x

    p = P()
    assert (p.a("1").data, p.b("1").data, p.a("1").data) == ("a1", "b1", "a1")
    assert set(p.parameters_dict()) == {"a", "b"}


def test_self_is_not_shown_as_an_input():
    """It was printed as `<__main__.P object at 0x…>`."""

    class P:
        @ta.bundle
        def f(self, x):
            return x

    assert list(P().f(1).inputs) == ["x"]


def test_different_feedback_on_several_outputs_in_one_step():
    """An AssertionError there; the union of the graphs is no matter of text here."""
    x = ta.node(1, name="x", trainable=True)
    outputs = [x * n for n in range(3)]
    for number, y in enumerate(outputs):
        y.backward(ta.Feedback(number / 2, f"feedback {number}"))
    assert [graph.feedback.text for graph in x.feedback] == ["feedback 0", "feedback 1", "feedback 2"]
    x.zero_feedback()
    assert x.feedback == []


def test_backward_twice_from_the_same_and_from_inner_nodes():
    """An AttributeError there."""
    x = ta.node(1, name="x", trainable=True)
    y = x + 1
    z = y + 1
    z.backward("one")
    z.backward("two")
    y.backward("three")
    assert [len(graph) for graph in x.feedback] == [3, 3, 2]
    x.backward("on the parameter itself")
    assert len(x.feedback[-1]) == 1


def test_an_exception_without_arguments():
    """IndexError from the tracer there."""

    @ta.bundle
    def fail():
        raise KeyError

    assert outcome(fail).create_feedback() == "KeyError"


def test_an_exception_as_a_value_is_no_failure():
    """A bundle may return one."""
    error = ValueError("a value")
    y = ta.bundle(lambda: error)()
    assert (y.failed, y.data) == (False, error)


def test_a_changed_signature_is_an_execution_error():
    """A raw TypeError out of the training loop there."""
    with ta.using({"trained": "def trained(x, y):\n    return x\n"}):
        node = outcome(lambda: trained(1))
    assert isinstance(node.data, TypeError)


def test_source_that_does_not_compile_is_an_execution_error():
    """With the parameter as a parent, so that it can be repaired."""
    with ta.using({"trained": "def trained(x):\n    x . 10\n"}):
        node = outcome(lambda: trained(1))
    assert "syntax" in str(node.data).lower()
    assert trained.parameter in node.parents


def test_the_failing_line_has_the_message_beside_it():
    """For learned sources and for ordinary functions."""

    @ta.bundle
    def ordinary(x):
        y = x
        return y / 0

    for node in (outcome(lambda: ordinary(1)), outcome(lambda: trained("a"))):
        full = node.create_feedback("full")
        assert "# <--- " + node.create_feedback("simple") in full
        assert full.startswith("def ")
    assert node.place[0] == 3
    with ta.using({"trained": "def trained(x):\n    return [][5]\n"}):
        full = outcome(lambda: trained(1)).create_feedback("full")
    assert "    return [][5]   # <--- IndexError: list index out of range" in full


def test_a_failure_inside_a_call_is_traced_to_where_it_came_from():
    """The outer call fails with the inner one as a parent."""

    @ta.bundle
    def inner(x):
        return x / 0

    p = ta.node(1, name="p", trainable=True)
    node = outcome(lambda: ta.bundle(lambda: inner(p), name="outer")())
    assert (node.name, type(node.data), node.parents[-1].name) == ("outer", ZeroDivisionError, "inner")
    assert ta.propagate(node, "x").parameters == [p]
    assert str(outcome(lambda: inner(p)).as_error()) == (
        "inner failed: ZeroDivisionError: division by zero, line 2: return x / 0"
    )


def test_the_cause_is_the_users_exception():
    """With its traceback."""
    with pytest.raises(ta.ExecutionError) as caught:
        ta.bundle(lambda: ta.bundle(lambda: {}["k"])())()
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__traceback__ is not None


def test_the_flags_of_python_do_not_switch_checks_off():
    """They were asserts there."""
    with pytest.raises(TypeError, match="function"):
        ta.bundle()(5)
    with pytest.raises(TypeError, match="mapping"), ta.using(5):  # type: ignore[arg-type]
        pass
    with pytest.raises(TypeError, match="node"):
        ta.propagate(5, "x")  # type: ignore[arg-type]


async def test_async_calls_in_a_loop_of_their_own():
    """The original mixed up what concurrent calls read."""
    p, q = ta.node(1, name="p", trainable=True), ta.node(2, name="q", trainable=True)

    @ta.bundle
    async def read(which):
        await asyncio.sleep(0)
        return (p if which else q).data

    results = await asyncio.gather(*(read(n % 2) for n in range(50)))
    assert all(y.parents[1:] == [p if n % 2 else q] for n, y in enumerate(results))
