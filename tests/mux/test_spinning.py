"""Looking before going to sleep, with a selector and a clock that do what a script says."""

import itertools
import math

import pytest

from eventmux import EventMux
from eventmux._waiting import spinning
from eventmux._waiting.spinning import Spinner

LOOKS = 10  # in one wait: each takes a tenth of SPIN
SPIN = 1.0
READY = [("key", 1)]


class Selector:
    """Notes what it is asked; something is ready at the look of that number, from 1 on."""

    def __init__(self):
        self.now = 0.0
        self.asked = []
        self.ready_at = None

    def select(self, timeout):
        self.now += SPIN / LOOKS
        self.asked.append(timeout)
        return READY if len(self.asked) == self.ready_at or timeout != 0 else []


@pytest.fixture
def selector(monkeypatch):
    selector = Selector()
    monkeypatch.setattr(spinning, "perf_counter", lambda: selector.now)
    return selector


def wait(spinner, selector, timeout=None, ready_at=None):
    """Wait once; return with which timeouts the selector was asked."""
    selector.asked.clear()
    selector.ready_at = ready_at
    assert spinner.wait(selector, timeout) == (READY if timeout != 0 or ready_at else [])
    return selector.asked.copy()


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_what_comes_soon_is_not_slept_for(selector, timeout):
    spinner = Spinner(SPIN)
    for _ in range(100):
        assert wait(spinner, selector, timeout, ready_at=5) == [0] * 5


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_what_does_not_come_is_slept_for(selector, timeout):
    asked = wait(Spinner(SPIN), selector, timeout)
    assert asked[:-1] == [0] * len(asked[:-1])
    assert LOOKS <= len(asked[:-1]) <= LOOKS + 2
    assert asked[-1] is None if timeout is None else 0 < asked[-1] < timeout


def test_in_vain_it_is_tried_less_and_less(selector):
    spinner = Spinner(SPIN)
    looked = [len(wait(spinner, selector)) > 1 for _ in range(1000)]
    places = [number for number, each in enumerate(looked) if each]
    skipped = [after - before - 1 for before, after in itertools.pairwise(places)]
    assert skipped[:6] == [1, 3, 7, 15, 31, 63]
    assert set(skipped[6:]) == {63}


def test_once_it_pays_it_is_tried_each_time(selector):
    spinner = Spinner(SPIN)
    for _ in range(1 + 1 + 1 + 3):  # looks, skips one, looks, skips three
        wait(spinner, selector)
    assert wait(spinner, selector, ready_at=3) == [0, 0, 0]
    assert len(wait(spinner, selector)) > 1
    assert wait(spinner, selector) == [None]
    assert len(wait(spinner, selector)) > 1


def test_polls_are_not_counted(selector):
    spinner = Spinner(SPIN)
    for _ in range(100):
        wait(spinner, selector)
    looked = 0
    for _ in range(64):
        for _ in range(63):
            wait(spinner, selector, 0)
        looked += len(wait(spinner, selector)) > 1
    assert looked <= 2


def test_what_is_ready_at_once_says_nothing(selector):
    spinner = Spinner(SPIN)
    wait(spinner, selector)
    wait(spinner, selector)
    assert wait(spinner, selector, ready_at=1) == [0]
    assert len(wait(spinner, selector)) > 1
    assert [len(wait(spinner, selector)) for _ in range(3)] == [1, 1, 1]


def test_what_was_spent_on_looking_is_not_waited_again(selector):
    asked = wait(Spinner(SPIN), selector, 5.0)
    looks = asked[1:-1]  # behind the first, which tells whether there is anything to wait for
    assert asked[-1] == pytest.approx(5.0 - len(looks) * SPIN / LOOKS)


def test_a_poll_is_one_look(selector):
    spinner = Spinner(SPIN)
    assert wait(spinner, selector, 0) == [0]
    assert wait(spinner, selector, 0, ready_at=1) == [0]


@pytest.mark.parametrize("timeout", [0.5, SPIN])
def test_a_short_timeout_is_not_looked_away(selector, timeout):
    assert wait(Spinner(SPIN), selector, timeout) == [timeout]


def test_it_can_be_switched_off(selector):
    spinner = Spinner(0)
    assert [wait(spinner, selector) for _ in range(200)] == [[None]] * 200


@pytest.mark.parametrize("wrong", [-1, -1e-9, math.inf, math.nan])
def test_wrong_times_are_refused(wrong):
    with pytest.raises(ValueError, match="spin is .*, must be 0 seconds or more, and finite"):
        EventMux(spin=wrong)
