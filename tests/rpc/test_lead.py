"""Who leads, without a connection: orders, and the lead that is handed on."""

import threading
from collections import deque

import pytest
from support.pump import PATIENCE

from rpcasync.leading.lead import Lead
from rpcasync.leading.requests import Request


class Bell:
    """Counts how often the leader was woken."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


@pytest.fixture
def bell():
    return Bell()


@pytest.fixture
def lead(bell):
    return Lead(bell)


def request_of(thread):
    request = Request(None, "work", [])
    request.thread = thread
    return request


def test_orders_are_done_in_order_and_the_leader_is_woken_for_each(lead, bell):
    done = []
    for number in range(3):
        lead.order(lambda number=number: done.append(number))
        assert bell.count == 1 + number
    lead.obey()
    lead.obey()
    assert done == [0, 1, 2]


def test_who_was_interrupted_and_did_not_wake_the_leader_leaves_that_to_the_next():
    rung = []

    def ring():
        rung.append(1)
        if len(rung) == 1:
            raise KeyboardInterrupt

    lead = Lead(ring)
    with pytest.raises(KeyboardInterrupt):
        lead.order(lambda: None)
    lead.order(lambda: None)
    assert len(rung) == 2


def test_an_order_that_is_interrupted_is_done_again(lead):
    done = []

    def order():
        done.append(1)
        if len(done) == 1:
            raise KeyboardInterrupt

    lead.order(order)
    with pytest.raises(KeyboardInterrupt):
        lead.obey()
    lead.obey()
    lead.obey()
    assert done == [1, 1]


def test_an_order_that_comes_as_the_leader_is_done_with_the_one_before_wakes_it(lead, bell):
    """The leader has done all that there was, and waits, just before that one is there."""

    class Orders(deque):
        def append(self, order):
            lead.obey()
            super().append(order)

    lead._orders = Orders([lambda: None])
    lead.order(lambda: None)
    assert bell.count == 1


def test_an_order_of_an_order_is_done_with_it(lead):
    done = []
    lead.order(lambda: lead.order(lambda: done.append(1)))
    lead.obey()
    assert done == [1]


def test_the_lead_goes_to_the_one_that_has_waited_longest(lead):
    first, second, third = map(request_of, range(3))
    assert lead.enter(first)
    assert not lead.enter(second)
    assert not lead.enter(third)
    lead.leave(second)
    lead.leave(first)
    assert lead.leader is third
    assert lead.follow(third, PATIENCE)
    lead.leave(third)
    lead.leave(third)
    assert lead.leader is None


def test_a_callback_of_the_leader_turns_the_loop_itself(lead):
    outer, inner = request_of(0), request_of(0)
    assert lead.enter(outer)
    assert lead.enter(inner)
    lead.leave(inner)
    assert lead.leader is outer


def test_who_is_told_waits_no_more(lead):
    first, second = map(request_of, range(2))
    lead.enter(first)
    lead.enter(second)
    second._answered([])[0](second)
    assert not lead.follow(second, PATIENCE)
    assert not lead.waiting


def test_who_has_waited_long_enough_leads_no_more(lead):
    first, second = map(request_of, range(2))
    lead.enter(first)
    lead.enter(second)
    assert not lead.follow(second, 0)
    lead.leave(first)  # hands it the lead, before it has left
    assert lead.leader is second
    lead.leave(second)
    assert lead.leader is None


def test_a_leader_that_is_interrupted_wakes_those_that_it_has_not_told(lead):
    first, second, third = map(request_of, range(3))
    for request in (first, second, third):
        lead.enter(request)
    second._answered([])
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        lead.leave(first)
    assert lead.leader is third
    assert not lead.follow(second, PATIENCE)


def test_in_a_forked_child_nobody_waits(lead, bell):
    first, second = map(request_of, range(2))
    lead.enter(first)
    lead.enter(second)
    lead.order(lambda: 1 // 0)
    threading.Thread(target=lead.mutex.acquire).start()  # which is not there any more
    lead.abandon_all()
    lead.obey()
    assert lead.enter(request_of(2))
