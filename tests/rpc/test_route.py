"""Which endpoint comes next, and after which wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync import Backoff
from rpcasync.reconnecting.route import Route, checked_route

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
        if step == MOVE:
            route = route.moved()
        else:
            failed = 0 if step == GOOD else failed
            route, delay = route.after_loss(was_good=step == GOOD)
            assert delay == min(30, 0.1 * 2 ** (failed // count))
            failed += 1
        assert route.url == urls[number % count]
        assert route.patience == max(5, min(30, 0.1 * 2 ** (failed // count)))


def test_a_list_and_a_tuple_and_one_url():
    for server in ("tcp://x:1", ["tcp://x:1"], ("tcp://x:1",)):
        assert checked_route(server, backoff()).urls == ("tcp://x:1",)
    assert checked_route(["tcp://x:1", "unix:///y"], backoff()).name == "tcp://x:1, unix:///y"


def test_a_route_is_a_value():
    route = checked_route("tcp://x:1", backoff())
    with pytest.raises(AttributeError):
        route.at = 1
