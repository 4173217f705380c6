"""How long a client waits before it connects again."""

import random

import pytest

from rpcasync import Backoff


def test_the_limit_doubles_up_to_the_most():
    backoff = Backoff(0.1, 1)
    assert [backoff.limit(attempt) for attempt in range(6)] == [0.1, 0.2, 0.4, 0.8, 1, 1]
    assert Backoff(5, 5).limit(0) == 5


def test_a_very_late_attempt_takes_no_time_to_count():
    assert Backoff(0.1, 30).limit(10**12) == 30


def test_each_wait_is_anything_up_to_the_limit():
    backoff = Backoff(0.1, 30)
    backoff.uniform = random.Random(1).uniform
    waits = [backoff.seconds(3) for _ in range(1000)]
    assert 0 <= min(waits) < 0.05
    assert 0.75 < max(waits) <= 0.8
    assert 0.35 < sum(waits) / len(waits) < 0.45


def test_it_can_be_seeded():
    one, other = Backoff(), Backoff()
    one.uniform, other.uniform = random.Random(7).uniform, random.Random(7).uniform
    assert [one.seconds(n) for n in range(9)] == [other.seconds(n) for n in range(9)]
    assert repr(one) == "Backoff(least=0.1, most=30.0)"


@pytest.mark.parametrize(
    ("least", "most", "why"),
    [
        (0, 30, "^least is 0, must be above 0 seconds$"),
        (-1, 30, "^least is -1, "),
        (float("nan"), 30, "^least is nan, "),
        (0.1, float("inf"), "^most is inf, "),
        (2, 1, "^most is 1, must be at least 2, which is `least`$"),
    ],
)
def test_wrong_numbers(least, most, why):
    with pytest.raises(ValueError, match=why):
        Backoff(least, most)


@pytest.mark.parametrize("wrong", ["1", None, True])
def test_no_numbers(wrong):
    with pytest.raises(TypeError, match="must be a number of seconds"):
        Backoff(wrong)
    with pytest.raises(TypeError, match="must be a number of seconds"):
        Backoff(0.1, wrong)


def test_there_is_no_attempt_before_the_first():
    with pytest.raises(ValueError, match="^attempt is -1, must be 0 or more$"):
        Backoff().seconds(-1)
