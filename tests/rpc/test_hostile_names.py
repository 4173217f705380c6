"""What stands in the place of a name, or becomes a key, is text before anything is keyed by it.

The hash of a number is known, so a peer could choose thousands that collide in a dict.
"""

from __future__ import annotations

import pytest

from rpcasync.arguments.conversions import conversion
from rpcasync.arguments.signatures import Signature
from rpcasync.calls import Reply
from rpcasync.errors import ArgumentError

STEP = 2**61 - 1  # numbers so far apart have one hash


class Number(int):
    """A number of a peer's that must not be hashed."""

    def __hash__(self):
        raise AssertionError("hashed")


class Fraction(float):
    """Another."""

    def __hash__(self):
        raise AssertionError("hashed")


def one(n1):
    return n1


def three(n1=0, n2=0, n3=0):
    return n1, n2, n3


def named_and_more(n1=0, **more):
    return more


def any_names(**more):
    return more


def converted(**more: int):
    return more


def after_one(first, /, **more):
    return more


def with_error(value, error):
    return value


SHAPES = [one, three, named_and_more, any_names, converted, after_one, with_error]


@pytest.mark.parametrize("function", SHAPES)
@pytest.mark.parametrize("bind", ["bind", "bind_result"])
@pytest.mark.parametrize("kind", [Number, Fraction])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_numbers_as_names(function, bind, kind, count):
    """They become text where numbers may, and all else is refused."""
    values = [part for number in range(count) for part in (kind(number * STEP), 1)]
    if function is after_one:
        values.insert(0, "first")
    for signature in (Signature(function), Signature(function).with_short_cuts()):
        try:
            _, pairs = getattr(signature, bind)(values)
        except ArgumentError:
            assert kind is Fraction or not signature.takes_any_name
        else:
            assert list(pairs) == [str(number * STEP) for number in range(count)]


@pytest.mark.parametrize("count", [1, 40])
def test_names_of_an_answer_are_text(count):
    for number in (Number(3), Fraction(3)):
        reply = Reply([number, 1] * count)
        with pytest.raises(ValueError, match="stands for a name"):
            reply.pairs()
        with pytest.raises(ValueError, match="stands for a name"):
            reply["3"]


def test_keys_that_are_converted_to_numbers():
    convert = conversion(dict[int, str])
    assert convert({"7": "a", str(2**64 - 1): "b", str(-(2**63)): "c"}) == {
        7: "a",
        2**64 - 1: "b",
        -(2**63): "c",
    }
    for name in (str(2**64), "1e300", str(STEP * 2**10)):
        with pytest.raises(ValueError, match=r"key is an int of \d+ bits, limit is 64"):
            convert({name: "x"})
    with pytest.raises(ValueError, match="key is an int of 65 bits"):
        conversion(dict[int | None, str])({str(2**64): "x"})


@pytest.mark.slow
def test_packets_of_names_that_collide(serve, codec):
    """300 KB, which took seconds: now as long as any other."""
    bench = serve()
    peer = bench.peer("json")
    names = [part for number in range(1, 12_001) for part in (number * STEP, 0)]
    (answer,) = bench.ask(peer, 1, "add", *names)
    assert answer[2] == "add takes n1=, n2=; got values without names"
    assert bench.ask(peer, 2, "add", "n1", 1, "n2", 2) == [[2, "sum", 3]]
