"""What is said of the values of a call that do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.arguments.signatures import Signature
from rpcasync.arguments.wanted import refusal, wanted
from rpcasync.errors import ArgumentError


def add(caller, n1: int, n2: int, scale=1): ...
def move(caller, x, y, /): ...
def ping(caller): ...
def one(caller, x, /): ...
def maybe(caller, x=None, /): ...
def scale(caller, x, factor=1, /): ...
def join(caller, *parts): ...
def wrap(caller, device, *args): ...
def options(caller, **options): ...
def log(caller, level, /, **fields): ...
def say(caller, level, /, text, who=None): ...
def create(caller, name, *, size=0, **more): ...


def name_of(value):
    """Return a name of a test that is the same in each process, which that of a function is not."""
    return getattr(value, "__name__", None) or (value if isinstance(value, str) else repr(value))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (add, "n1=, n2=, [scale=]"),
        (move, "2 values: x, y"),
        (ping, "no values"),
        (one, "1 value: x"),
        (maybe, "0 to 1 value: [x]"),
        (scale, "1 to 2 values: x, [factor]"),
        (join, "any number of values: *parts"),
        (wrap, "1 value or more: device, *args"),
        (options, "any names"),
        (log, "level, then any names"),
        (say, "level, then text=, [who=]"),
        (create, "name=, [size=], [more=...]"),
    ],
    ids=name_of,
)
def test_what_is_wanted(function, text):
    assert wanted(Signature(function, leading=1)) == text


def test_of_many_names_some_are_told():
    parameters = ", ".join(f"n{number}" for number in range(1000))
    signature = Signature(eval(f"lambda caller, {parameters}: None"), leading=1)
    assert wanted(signature).endswith("n18=, n19=, ...")


def refused(function, *values):
    signature = Signature(function, leading=1).with_short_cuts()
    with pytest.raises(ArgumentError) as caught:
        signature.bind(values)
    return refusal(function.__name__, signature, values, caught.value)


@pytest.mark.parametrize(
    ("function", "values", "text"),
    [
        (add, [1, 2], "add takes n1=, n2=, [scale=]; got values without names"),
        (add, [1], "add takes n1=, n2=, [scale=]; got values without names"),
        (add, [{"n1": 1}], "add takes n1=, n2=, [scale=]; got values without names"),
        (add, [None, 1], "add takes n1=, n2=, [scale=]; got values without names"),
        (
            add,
            ["n1", 1, "n2"],
            "add takes n1=, n2=, [scale=]; got an odd number of names and values: 3",
        ),
        (add, [], "add: n1, n2 are missing"),
        (add, ["n1", 1], "add: n2 is missing"),
        (add, ["n1", 1, "n3", 2], "add: unknown name n3; it takes n1=, n2=, [scale=]"),
        (add, ["n1", "x", "n2", 1], "add: n1: cannot convert str 'x' to int"),
        (add, [b"n1", 1, b"n4", 1], "add: unknown name n4; it takes n1=, n2=, [scale=]"),
        (move, ["x", 1, "y", 2], "move takes 2 values: x, y; got x=, y="),
        (move, [1], "move takes 2 values: x, y; got 1"),
        (ping, [1, 2], "ping takes no values; got 2"),
        (wrap, [], "wrap takes 1 value or more: device, *args; got 0"),
        (options, ["a"], "options takes any names; got an odd number of names and values: 1"),
        (log, [], "log: level is missing"),
        (
            log,
            [1, "a"],
            "log takes level, then any names; got an odd number of names and values: 1",
        ),
        (say, ["x", 5, 6], "say takes level, then text=, [who=]; got values without names"),
        (options, ["caller", 1], "options: caller cannot be given by name"),
    ],
    ids=name_of,
)
def test_what_is_said_of_values_that_do_not_fit(function, values, text):
    assert refused(function, *values) == text


VALUES = st.one_of(
    st.none(), st.integers(), st.text(max_size=3), st.binary(max_size=3), st.just([])
)
NAMED = st.sampled_from(["n1", "n2", "scale", "level", "caller"])


@given(
    st.sampled_from([add, move, ping, maybe, join, wrap, options, log, say, create]),
    st.lists(st.one_of(NAMED, VALUES), max_size=8),
)
def test_each_refusal_is_short_and_names_the_procedure(function, values):
    signature = Signature(function, leading=1)
    try:
        signature.bind(values)
    except ArgumentError as error:
        text = refusal(function.__name__, signature, values, error)
        assert text.startswith(function.__name__)
        assert len(text) < 200
