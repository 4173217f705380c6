import collections.abc
import contextlib
import typing
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync import Coderef
from rpcasync.arguments.conversions import conversion

NAN = float("nan")


@pytest.mark.parametrize(
    ("annotation", "value", "converted"),
    [
        (int, 3, 3),
        (int, "3", 3),
        (int, " -3\n", -3),
        (int, "18446744073709551616", 2**64),
        (int, "1e3", 1000),
        (int, "9.00719925474099e+15", 9007199254740990),
        (int, 3.0, 3),
        (int, True, 1),
        (int, b"7", 7),
        (float, 3, 3.0),
        (float, "0.5", 0.5),
        (float, ".5e-1", 0.05),
        (float, "Inf", float("inf")),
        (float, "-Infinity", float("-inf")),
        (bool, 1, True),
        (bool, 0, False),
        (bool, "", False),
        (bool, "0", False),
        (bool, "0.0", True),
        (bool, None, False),
        (str, "x", "x"),
        (str, 42, "42"),
        (str, 0.5, "0.5"),
        (str, 3.0, "3"),
        (str, True, "1"),
        (str, False, ""),
        (str, b"caf\xe9", "caf\xe9"),
        (bytes, "caf\xe9", b"caf\xe9"),
        (bytes, b"x", b"x"),
        (list, [1, "2"], [1, "2"]),
        (list[int], [1, "2"], [1, 2]),
        (list[list[float]], [["1"], []], [[1.0], []]),
        (typing.List, [1, "2"], [1, "2"]),  # noqa: UP006  # the old spelling is what is tested
        (typing.Dict, {"a": "1"}, {"a": "1"}),  # noqa: UP006
        (dict, {"a": "1"}, {"a": "1"}),
        (dict[str, float], {"a": "1"}, {"a": 1.0}),
        (dict[int, Any], {"1": "x"}, {1: "x"}),
        (int | None, None, None),
        (int | None, "5", 5),
        (Optional[int], "5", 5),  # noqa: UP045  # the old spelling is what is tested
        (int | str, "5", "5"),
        (int | str, 5, 5),
        (int | float, "0.5", 0.5),
        (list[int | None], ["1", None], [1, None]),
        (None, None, None),
    ],
)
def test_what_converts(annotation, value, converted):
    result = conversion(annotation)(value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        (int, "three", "cannot convert str 'three' to int"),
        (int, "", "cannot convert str '' to int"),
        (int, "1_000", "to int$"),
        (int, "0x10", "to int$"),
        (int, "\u0663", "to int$"),
        (int, "1.5", "to int$"),
        (int, 1.5, "cannot convert float 1.5 to int"),
        (int, "inf", "to int$"),
        (int, "nan", "to int$"),
        (int, "9" * 100_000, "to int$"),
        (int, "1e999", "to int$"),
        (int, None, "cannot convert NoneType to int"),
        (int, [1], "cannot convert list to int"),
        (float, "x", "to float$"),
        (float, 10**400, "to float$"),
        (float, None, "cannot convert NoneType to float"),
        (bool, [], "cannot convert list to bool"),
        (str, None, "cannot convert NoneType to str"),
        (str, ["x"], "cannot convert list to str"),
        (bytes, "\u263a", "beyond"),
        (bytes, 5, "cannot convert int 5 to bytes"),
        (list, "x", "to list$"),
        (list[int], {"a": 1}, "cannot convert dict to list"),
        (list[int], ["x"], "to int$"),
        (dict, [], "cannot convert list to dict"),
        (dict[str, int], {"a": "x"}, "to int$"),
        (int | None, "x", "str 'x' to int, cannot convert str 'x' to None"),
    ],
)
def test_what_does_not(annotation, value, why):
    with pytest.raises(ValueError, match=why) as caught:
        conversion(annotation)(value)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("annotation", [Any, object, Exception, "int", tuple[int]])
def test_other_annotations_convert_nothing(annotation):
    assert conversion(annotation) is None


CALLBACKS = [
    *(Coderef, typing.Callable, collections.abc.Callable),
    *(typing.Callable[[int], None], collections.abc.Callable[..., None]),
]


class FromPeer:
    """What stands for a Coderef here: conversions only ask whether it can be called."""

    def __call__(self):
        pass


@pytest.mark.parametrize("annotation", CALLBACKS)
def test_callbacks(annotation):
    callback = FromPeer()
    assert conversion(annotation)(callback) is callback
    assert conversion(annotation | None)(None) is None
    assert conversion(Optional[annotation])(callback) is callback  # noqa: UP045
    assert conversion(list[annotation])([callback, callback]) == [callback, callback]
    assert conversion(dict[str, annotation])({"k": callback}) == {"k": callback}


@pytest.mark.parametrize("annotation", CALLBACKS)
@pytest.mark.parametrize("value", [None, 3, "callback", b"x", [], {"id": 3}, [FromPeer()]])
def test_what_is_no_callback(annotation, value):
    kind = type(value).__name__
    with pytest.raises(ValueError, match=f"cannot convert {kind}.* to a callback$"):
        conversion(annotation)(value)
    if value is not None:
        with pytest.raises(ValueError, match="to a callback, cannot convert"):
            conversion(Optional[annotation])(value)  # noqa: UP045


def test_a_long_number_takes_no_longer_than_its_length():
    with pytest.raises(ValueError, match="to float"):
        conversion(float)("1" * 1_000_000 + "x")  # hours, if there were two ways to read it


def test_nan():
    assert str(conversion(float)("NaN")) == "nan"


@given(st.integers())
def test_integers_survive_as_text(number):
    assert conversion(int)(str(number)) == number


@given(st.floats(allow_nan=False))
def test_floats_survive_as_text(number):
    assert conversion(float)(repr(number)) == number


@given(
    st.sampled_from([int, float, bool, str, bytes, list[int], dict[str, int], int | None]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
)
def test_anything_converts_or_is_a_value_error(annotation, value):
    with contextlib.suppress(ValueError):
        conversion(annotation)(value)
