"""Iteration, events of the program's own, and how many events are there."""

import socket
from dataclasses import dataclass
from typing import ClassVar

import pytest
from support.meeting import exchange
from support.pump import drain, receive, take, until

from eventmux import (
    Closed,
    Closing,
    Connect,
    Error,
    Event,
    Read,
    ReadLast,
    Ready,
    Sent,
    Timeout,
)
from eventmux.buffers import Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers


def test_iteration_ends_when_nothing_is_left(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    peer.send(b"hello")
    peer.close()
    assert list(mux) == [Ready(fh), Read(fh, b"hello"), Closing(fh), Closed(fh)]
    assert list(mux) == []


def test_iteration_can_be_left_and_taken_up(mux):
    mux.push_event(*(Read(None, bytes([number])) for number in range(3)))
    for _ in mux:
        break
    assert [event.data for event in mux] == [b"\1", b"\2"]


@dataclass(slots=True)
class Tick(Event):
    type: ClassVar[str] = "tick"
    count: int = 0


def test_events_of_the_programs_own(mux, watched):
    fh, peer = watched
    peer.send(b"hello")
    mux.push_event(Tick(count=1), Tick(fh, 2))
    assert mux.has_events() == 2
    assert mux.mux() == Tick(None, 1)
    assert mux.mux() == Tick(fh, 2)
    assert mux.mux() == Read(fh, b"hello")


def test_own_events_keep_their_place(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    mux.mux()
    peer.send(b"1\n2\n")
    assert mux.mux() == Read(fh, b"1")
    mux.push_event(Tick())
    assert take(mux, 2) == [Read(fh, b"2"), Tick()]


def test_own_events_of_a_killed_handle_are_dropped(mux, watched):
    fh, _ = watched
    mux.push_event(Tick(fh), Tick())
    mux.kill(fh)
    assert drain(mux) == [Tick(), Closed(fh)]


def test_an_own_closed_closes_nothing(mux, watched):
    fh, peer = watched
    mux.push_event(Closed(fh))
    assert mux.mux() == Closed(fh)
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")


def test_own_events_after_the_end_of_a_handle_are_handed_out(mux, watched):
    fh, _ = watched
    mux.push_event(Tick(fh))
    mux.kill(fh)
    mux.push_event(Tick(fh, 2))
    assert mux.has_events() == 2
    assert drain(mux) == [Closed(fh), Tick(fh, 2)]


@pytest.mark.parametrize("wrong", [None, "read", {"type": "read"}, Event])
def test_only_events_can_be_pushed_and_all_or_nothing(mux, wrong):
    name = type(wrong).__name__
    with pytest.raises(TypeError, match=f"cannot queue {name}, only events"):
        mux.push_event(Event(), wrong)
    assert mux.has_events() == 0


def test_events_match_patterns(mux, watched):
    fh, peer = watched
    peer.send(b"hello")
    match mux.mux():
        case Read(handle, data):
            assert (handle, data) == (fh, b"hello")
        case _:
            pytest.fail("no read")


def test_every_type_of_event_is_a_plain_string():
    types = {
        kind.type: kind
        for kind in (Timeout, Connect, Ready, Read, ReadLast, Sent, Closing, Closed, Error)
    }
    assert set(types) == {
        "timeout",
        "connect",
        "ready",
        "read",
        "read_last",
        "sent",
        "closing",
        "closed",
        "error",
    }
    assert all(kind().fh is None for kind in types.values())


def test_has_events_counts_what_comes_without_waiting(mux, pair):
    fh, peer = pair()
    other, remote = pair()
    mux.add(fh, buffered=Split())
    mux.add(other, buffered=Split())
    assert mux.has_events() == 0
    mux.mux()
    assert mux.has_events() == 1
    drain(mux)
    peer.send(b"1\n2\n3\n")
    remote.send(b"1\n2\n3\n")
    mux.mux()
    assert mux.has_events() == 5
    mux.kill(fh)
    mux.remove(other)
    assert mux.has_events() == 1
    mux.push_event(Event())
    assert mux.has_events() == 2
    assert len(drain(mux)) == 2
    assert mux.has_events() == 0


def test_has_events_at_the_end_of_a_handle(mux, watched):
    mux.close(watched[0])
    for left in (2, 1, 0):
        assert mux.has_events() == left
        mux.mux(0)


def test_has_events_of_a_handle_that_drains(mux, watched):
    # A program that asks first and then calls mux() without a timeout would hang.
    fh, peer = watched
    mux.send(fh, HUGE)
    mux.close(fh)
    assert mux.has_events() == 1
    assert mux.mux() == Closing(fh)
    assert mux.has_events() == 0
    assert mux.mux(0) == Timeout()
    assert len(exchange(mux, fh, peer)[0]) == 1
    assert mux.has_events() == 0


def test_has_events_of_a_handle_that_drained_meanwhile(mux, watched, pair):
    fh, peer = watched
    other, _ = pair()
    mux.add(other)
    mux.mux(only=other)
    mux.send(fh, HUGE)
    mux.close(fh)
    while mux.buflen(fh):
        receive(peer)
        mux.mux(0, only=other)
    receive(peer)
    for left in (2, 1, 0):
        assert mux.has_events() == left
        mux.mux(0)


def test_has_events_after_a_reply_to_a_peer_that_has_finished(mux, watched):
    fh, peer = watched
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    until(mux, "read")
    drained = mux.mux()
    assert drained == Closing(fh)
    mux.send(fh, b"reply")
    for left in (1, 0):
        assert mux.has_events() == left
        mux.mux(0)
