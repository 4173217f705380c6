"""How long the mux waits, on a clock that only the tests move."""

import math
import socket

import pytest
from support.fakes import WouldWaitForEver
from support.pump import drain, take

from eventmux import (
    Event,
    Read,
    Ready,
    Timeout,
)
from eventmux.buffers import Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers


def test_the_lowest_timeout_counts(timed, clock):
    assert timed.mux(None, 5, 0.25, None, 3) == Timeout()
    assert clock.now == 1000.25


def test_a_timeout_has_no_handle(timed):
    event = timed.mux(0)
    assert event == Timeout()
    assert event.fh is None
    assert event.type == "timeout"


def test_zero_asks_without_waiting(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    peer.send(b"hello")
    assert [timed.mux(0), timed.mux(0), timed.mux(0)] == [
        Ready(fh),
        Read(fh, b"hello"),
        Timeout(),
    ]
    assert clock.now == 1000
    assert selector.timeouts == [0, 0, 0]


@pytest.mark.parametrize("timeouts", [(), (None,), (None, None)])
def test_no_timeout_is_for_ever(timed, selector, pair, timeouts):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    selector.meanwhile.append((1e6, lambda: peer.send(b"at last")))
    assert timed.mux(*timeouts) == Read(fh, b"at last")
    assert selector.timeouts[-1] is None


@pytest.mark.parametrize("timeouts", [(), (None,)])
def test_nothing_to_wait_for_is_none(timed, selector, timeouts):
    assert timed.mux(*timeouts) is None
    assert selector.timeouts == []


def test_with_a_timeout_there_is_always_something_to_wait_for(timed, clock):
    assert timed.mux(2) == Timeout()
    assert clock.now == 1002


@pytest.mark.parametrize(
    "timeouts",
    [
        (-1,),
        (-0.001, 5),
        (None, 5, -1),
        (math.nan,),
        (math.nan, 1),
        (1, math.nan),
        (None, math.nan),
        (-math.inf,),
    ],
)
def test_a_wrong_timeout_is_refused(timed, timeouts):
    timed.push_event(Event())
    with pytest.raises(ValueError, match=r"timeout is (-|nan)"):
        timed.mux(*timeouts)
    assert timed.has_events() == 1


def test_a_timeout_that_is_no_number_is_refused(timed):
    with pytest.raises(TypeError):
        timed.mux("1")


@pytest.mark.parametrize("timeout", [30 * 86400, 1e10, 1e300, math.inf])
def test_a_timeout_may_be_long(mux, watched, timeout):
    # epoll and poll cannot wait for more than 24 days at once, and not for infinity.
    fh, peer = watched
    peer.send(b"hello")
    assert mux.mux(timeout) == Read(fh, b"hello")


def test_a_queued_event_needs_no_time(timed, clock, selector):
    timed.push_event(Event())
    assert timed.mux(5) == Event()
    assert clock.now == 1000
    assert selector.timeouts == []


def test_one_deadline_although_half_records_keep_arriving(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh, buffered=Split())
    timed.mux()
    selector.meanwhile.extend([(0.75, lambda: peer.send(b"x"))] * 10)
    assert timed.mux(3) == Timeout()
    assert clock.now == 1003
    assert selector.timeouts[1:] == [3, 2.25, 1.5, 0.75]


def test_one_deadline_although_others_keep_talking(timed, clock, selector, pair):
    fh, _ = pair()
    other, peer = pair()
    timed.add(fh)
    timed.add(other)
    take(timed, 2)
    selector.meanwhile.extend([(0.5, lambda: peer.send(b"x"))] * 10)
    assert timed.mux(2, only=fh) == Timeout()
    assert clock.now == 1002
    assert len(drain(timed)) == 4


def test_a_clock_that_runs_past_the_deadline(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh, buffered=Split())
    timed.mux()

    def late():
        clock.advance(100)
        peer.send(b"x")

    selector.meanwhile.append((0, late))
    assert timed.mux(1) == Timeout()
    assert len(selector.timeouts) == 2


def test_an_event_at_the_deadline_is_not_a_timeout(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()

    def late():
        clock.advance(100)
        peer.send(b"x")

    selector.meanwhile.append((0, late))
    assert timed.mux(1) == Read(fh, b"x")


def test_waiting_is_not_a_busy_loop(timed, clock, selector, pair):
    # Streams in every state in which they want nothing, or what cannot come.
    idle, _keep = pair()
    draining, _deaf = pair()
    half, finished = pair()
    full, _mute = pair()
    for fh in (idle, draining, half, full):
        timed.add(fh, high_water=1)
    take(timed, 4)
    timed.listen("tcp://127.0.0.1:0")
    timed.send(draining, HUGE)
    timed.close(draining)
    timed.send(half, HUGE)
    finished.shutdown(socket.SHUT_WR)
    timed.send(full, HUGE)
    drain(timed)
    del selector.timeouts[:]
    assert timed.mux(60) == Timeout()
    assert clock.now == 1060
    assert len(selector.timeouts) == 2  # once it looks after handles that were closed meanwhile


def test_the_fake_selector_notices_a_wait_that_cannot_end(timed, pair):
    timed.add(pair()[0])
    timed.mux()
    with pytest.raises(WouldWaitForEver):
        timed.mux()


def test_half_a_record_costs_no_look_at_all_handles(timed, selector, pair, monkeypatch):
    pairs = [pair() for _ in range(20)]
    for fh, _ in pairs:
        timed.add(fh, buffered=Split())
    drain(timed)
    looks = []
    table = timed._loop.table
    monkeypatch.setattr(table, "look_after_all", lambda: looks.append(selector.clock.now))
    _, peer = pairs[0]
    peer.send(b"half a")
    selector.meanwhile.append((0.05, lambda: peer.send(b" record\n")))
    assert timed.mux().data == b"half a record"
    assert looks == []
    assert timed.mux(1) == Timeout()
    assert len(looks) == 1
