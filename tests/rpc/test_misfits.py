"""What is said of values that do not fit a callback."""

from __future__ import annotations

import functools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync import ArgumentError
from rpcasync.arguments.misfits import misfit, show
from rpcasync.arguments.signatures import Signature
from rpcasync.storable import ScalarRef


class Methods:
    def show(self, x):
        pass


def done(x):
    pass


def told(function, *values):
    signature = Signature(function)
    try:
        signature.bind_result(values)
    except ArgumentError as error:
        return str(misfit("call", function, signature, values, error))
    raise AssertionError("it fits")


@pytest.mark.parametrize(
    ("function", "values", "mend"),
    [
        (lambda x: None, (7,), "lambda x, /:"),
        (lambda x, y: None, ([1], 2), "lambda x, y, /:"),
        (lambda x, y: None, ("a", 2), "lambda a: or lambda x, y, /:"),
        (lambda x: None, ("sum", 7), "lambda sum: or lambda *values:"),
        (lambda x: None, ("sum", 7, "n", 8), "lambda sum, n: or lambda *values:"),
        (lambda x: None, (1, 2, 3), "lambda *values:"),
        (lambda **x: None, (7,), "lambda *values:"),
        (lambda x, /: None, ("sum", 7), "lambda sum:"),
        (lambda x, /: None, (), "lambda *values:"),
        (lambda x, /: None, (1, 2), "lambda *values:"),
        (lambda a, /, x: None, (1, 2), "lambda a, x, /:"),
        (lambda x, error=None: None, (7,), "lambda x, /, error=None:"),
        (lambda x, error=None: None, (7, 8), "lambda *values, error=None:"),
        (lambda x, error: None, ("a", 1), "lambda a, error=None: or lambda *values, error=None:"),
        (lambda x, /, error=None: None, (1, 2), "lambda *values, error=None:"),
        (
            lambda x, error: None,
            ("error", "e", "b", 2),
            "lambda error, b: or lambda *values, error=None:",
        ),
        (lambda x: None, ("not a name", 1), "lambda *values:"),
        (lambda x: None, ("a", 1, "a", 2), "lambda *values:"),
        (lambda x: None, ("from", 1, "to", 2), "lambda *values:"),  # no parameter can be `from`
        (lambda x: None, tuple("a1b2c3d4e5"), "lambda *values:"),
        (lambda x: None, ("x" * 33, 2), "lambda *values:"),
        (done, (7,), "def done(x, /):"),
        (Methods().show, (7,), "def show(self, x, /):"),
        (functools.partial(done), (7,), "(x, /)"),
    ],
)
def test_the_mend(function, values, mend):
    assert told(function, *values).endswith(f": write {mend}")
    for way in mend.split(" or "):
        parameters = re.fullmatch(r"(?:lambda |def \w+)?\(?(?:self, )?(.*?)\)?:?", way)[1]
        Signature(eval(f"lambda {parameters}: None")).bind_result(values)  # it takes them


def test_a_value_that_does_not_convert_needs_no_other_signature():
    def take(n: int):
        pass

    def take_in_order(n: int, /, *rest: int):
        pass

    assert told(take, "n", "x") == "call: n: cannot convert str 'x' to int; got ['n', 'x']"
    assert told(take_in_order, 1, "x").endswith("got [1, 'x']")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "[]"),
        ((7,), "7"),
        (("it's",), '"it\'s"'),
        ((1, 2, 3, 4, 5), "[1, 2, 3, 4, ...]"),
        (({"a": [1.5, None]},), "{'a': [1.5, None]}"),
        (([[[[1]]]],), "[[[<list>]]]"),
        ((b"\x80",), r"b'\x80'"),
        ((b"x" * 1000,), "b'1000 bytes'"),
        ((10**5000,), "<int>"),
        ((ScalarRef(1),), "<ScalarRef>"),
        (("\x1b[31m\n",), r"'\x1b[31m\n'"),
    ],
)
def test_how_values_are_shown(values, expected):
    assert show(values) == expected


anything = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.floats(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
    max_leaves=10,
)


@given(st.lists(anything))
def test_any_values_are_shown_on_one_short_line(values):
    assert show(values).isprintable()
    assert len(show(values)) <= 200


def test_long_values_cost_no_more():
    long = ["x" * 1000] * 100_000
    assert len(show(long)) <= 200
    assert len(show([long] * 1000)) <= 200
