"""Events from other threads, and the bell that wakes a waiting mux."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import pytest
from support.processes import open_descriptors
from support.pump import PATIENCE, drain, take

from eventmux import Event, EventMux, Read, Ready, Timeout
from eventmux._watching.mailbox import Mailbox


def taken(mailbox):
    queue = deque()
    mailbox.empty(queue)
    return list(queue)


@dataclass
class Note(Event):
    type: ClassVar[str] = "note"
    sender: int = 0
    number: int = 0


def run_threads(*actions):
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_what_was_posted_is_an_event(mux):
    mux.post(Note(number=1), Note(number=2))
    assert take(mux, 2) == [Note(number=1), Note(number=2)]
    assert mux.mux() is None


def test_nothing_is_posted_by_nothing(mux):
    mux.post()
    assert mux.has_events() == 0
    assert mux.mux(0) == Timeout()
    assert mux.mux() is None


def test_a_post_of_another_thread_ends_a_long_wait(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    for number in range(20):
        threads = run_threads(lambda number=number: mux.post(Note(number=number)))
        assert mux.mux() == Note(number=number)
        join(threads)


def test_two_threads_that_answer_each_other(mux):
    received, answered = threading.Semaphore(0), []

    def other():
        for number in range(100):
            assert received.acquire(timeout=PATIENCE)
            mux.post(Note(number=number))

    threads = run_threads(other)
    for _ in range(100):
        received.release()
        answered.append(mux.mux(PATIENCE).number)
    assert answered == list(range(100))
    join(threads)


def test_many_threads_and_the_order_of_each(mux):
    def poster(sender):
        def post():
            for number in range(0, 300, 3):
                mux.post(*[Note(sender=sender, number=number + i) for i in range(3)])

        return post

    threads = run_threads(*map(poster, range(8)))
    numbers = {sender: [] for sender in range(8)}
    for event in take(mux, 8 * 300):
        numbers[event.sender].append(event.number)
    assert numbers == {sender: list(range(300)) for sender in range(8)}
    join(threads)
    assert drain(mux) == []


def test_more_than_the_bell_can_hold(mux):
    # Each post rings, and the kernel takes only some hundred rings that nobody has heard.
    for number in range(5000):
        mux.post(Note(number=number))
    assert [event.number for event in take(mux, 5000)] == list(range(5000))
    mux.post(Note(number=-1))
    assert mux.mux(PATIENCE) == Note(number=-1)


def test_events_that_are_posted_without_end_do_not_keep_others_waiting(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    stop = threading.Event()

    def post():
        while not stop.is_set():
            mux.post(Note())

    threads = run_threads(post)
    try:
        peer.send(b"hello")
        while (event := mux.mux(PATIENCE)).type == "note":
            pass
        assert event == Read(fh, b"hello")
    finally:
        stop.set()
        join(threads)


def test_posted_events_come_behind_those_in_the_queue(mux):
    mux.push_event(Note(number=1))
    mux.post(Note(number=2))
    mux.push_event(Note(number=3))
    assert [event.number for event in take(mux, 3)] == [1, 3, 2]


@pytest.mark.parametrize("wrong", [None, "event", {}, Event])
def test_only_events_can_be_posted_and_all_or_nothing(mux, wrong):
    with pytest.raises(TypeError, match="only events"):
        mux.post(Note(), wrong)
    assert mux.has_events() == 0
    assert mux.mux(0) == Timeout()


def test_has_events_counts_what_was_posted(mux):
    mux.push_event(Note())
    mux.post(Note(), Note())
    assert mux.has_events() == 3
    mux.mux()
    assert mux.has_events() == 2
    mux.mux()
    assert mux.has_events() == 1
    mux.mux()
    assert mux.has_events() == 0


def test_that_something_may_be_posted_is_nothing_to_wait_for(timed):
    assert timed.mux() is None
    assert timed.mux(5) == Timeout()


def test_only_leaves_what_was_posted_for_later(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.post(Note())
    assert mux.mux(0, only=fh) == Timeout()
    peer.send(b"x")
    assert mux.mux(PATIENCE, only=fh) == Read(fh, b"x")
    assert mux.mux() == Note()


def test_a_heard_bell_is_not_a_busy_loop(timed, selector):
    timed.post(Note())
    assert timed.mux() == Note()
    del selector.timeouts[:]
    assert timed.mux(60) == Timeout()
    assert len(selector.timeouts) <= 2


def test_after_the_end_of_the_mux_nothing_happens():
    with EventMux() as mux:
        mux.post(Note())
    mux.post(Note())
    assert mux.has_events() == 0
    assert mux.mux() is None


def test_threads_that_post_while_the_mux_ends():
    stop = threading.Event()
    failures = []

    def post(mux):
        try:
            while not stop.is_set():
                mux.post(Note())
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    descriptors = open_descriptors()
    for _ in range(20):
        with EventMux() as mux:
            threads = run_threads(*[lambda mux=mux: post(mux)] * 2)
            assert mux.mux(PATIENCE) == Note()
        stop.set()
        join(threads)
        stop.clear()
        assert mux.has_events() == 0
    assert failures == []
    assert open_descriptors() == descriptors


def test_a_bell_may_ring_while_it_rings():
    # A signal handler interrupts its own thread anywhere, so the lock must let it in.
    mailbox = Mailbox()
    with mailbox._lock:
        mailbox.post(Note())
    mailbox.readable()
    assert taken(mailbox) == [Note()]
    mailbox.close()


def test_what_is_posted_between_hearing_and_taking_is_not_lost():
    mailbox = Mailbox()
    mailbox.post(Note(number=1))
    mailbox.readable()
    mailbox.post(Note(number=2))
    assert taken(mailbox) == [Note(number=1), Note(number=2)]
    mailbox.post(Note(number=3))
    mailbox.readable()
    assert mailbox.is_rung
    assert taken(mailbox) == [Note(number=3)]
    mailbox.close()
