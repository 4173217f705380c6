"""Which endpoint comes next, and after which wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync import Backoff
from rpcasync.reconnecting.route import SETTLED, Route, checked_route

LOSS, GOOD, MOVE = "loss", "good", "move"


def backoff(least=0.1, most=30.0):
    made = Backoff(least, most)
    made.uniform = lambda _, most: most
    return made


@given(st.integers(1, 5), st.lists(st.sampled_from([LOSS, GOOD, MOVE]), max_size=60))
def test_each_endpoint_has_its_turn_and_waits_grow_by_rounds(count, steps):
    urls = tuple(f"tcp://host:{port}" for port in range(1, count + 1))
    route, failed = Route(urls, backoff()), 0
    for number, step in enumerate(steps, 1):
        route, delay = route.after(
            is_going=step == MOVE, is_lost=step != MOVE, has_heard=step != LOSS, seconds=SETTLED
        )
        if step == MOVE:
            assert delay is None
        else:
            failed = 0 if step == GOOD else failed
            assert delay == min(30, 0.1 * 2 ** (failed // count))
            failed += 1
        assert route.url == urls[number % count]
        assert route.patience == max(5, min(30, 0.1 * 2 ** (failed // count)))


def test_a_server_that_sends_away_whoever_comes_is_one_that_failed():
    route = checked_route("tcp://x:1", backoff())
    for failed in range(3):
        route, delay = route.after(is_going=True, is_lost=False, has_heard=True, seconds=0.9)
        assert (delay, route.failures) == (0.1 * 2**failed, failed + 1)


def test_a_server_that_answers_and_falls_at_once_is_one_that_failed():
    route = checked_route("tcp://x:1", backoff())
    for failed in range(3):
        route, delay = route.after(is_going=False, is_lost=True, has_heard=True, seconds=0.9)
        assert (delay, route.failures) == (0.1 * 2**failed, failed + 1)


def test_a_list_and_a_tuple_and_one_url():
    for server in ("tcp://x:1", ["tcp://x:1"], ("tcp://x:1",)):
        assert checked_route(server, backoff()).urls == ("tcp://x:1",)
    assert checked_route(["tcp://x:1", "unix:///y"], backoff()).name == "tcp://x:1, unix:///y"


def test_a_route_is_a_value():
    route = checked_route("tcp://x:1", backoff())
    with pytest.raises(AttributeError):
        route.at = 1
