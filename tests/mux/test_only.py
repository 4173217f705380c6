"""Selective receive: `mux(only=...)` and what the other handles have to wait with."""

import contextlib

from support.pump import PATIENCE, drain, receive, take

from eventmux import (
    Closed,
    Closing,
    Event,
    Read,
    Ready,
    Timeout,
)
from eventmux.buffers import Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers


def test_only_leaves_the_others_in_order(mux, pair):
    fh, peer = pair()
    other, remote = pair()
    mux.add(other, buffered=Split())
    mux.add(fh, buffered=Split())
    take(mux, 2)
    remote.send(b"a\nb\n")
    peer.send(b"1\n2\n")
    assert mux.mux(only=fh) == Read(fh, b"1")
    remote.send(b"c\n")
    assert mux.mux(only=fh) == Read(fh, b"2")
    assert mux.mux(0, only=fh) == Timeout()
    assert [event.data for event in drain(mux)] == [b"a", b"b", b"c"]


def test_only_lets_the_others_write(mux, pair):
    fh, _ = pair()
    other, remote = pair()
    mux.add(fh)
    mux.add(other)
    take(mux, 2)
    mux.send(other, HUGE)
    mux.close(other)
    data = b""
    while mux.buflen(other):
        data += receive(remote)
        assert mux.mux(0, only=fh) == Timeout()
    assert data + receive(remote) == HUGE
    assert drain(mux) == [Closing(other), Closed(other)]
    assert mux.has_events() == 0


def test_only_sees_a_handle_to_its_end(mux, pair):
    fh, peer = pair()
    other, _ = pair()
    mux.add(fh)
    mux.add(other)
    peer.send(b"hello")
    peer.close()
    events = [mux.mux(only=fh) for _ in range(5)]
    assert events == [Ready(fh), Read(fh, b"hello"), Closing(fh), Closed(fh), None]
    assert drain(mux) == [Ready(other)]


def test_only_and_kill(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    take(mux, 1)
    peer.send(b"1\n2\n")
    mux.push_event(Event())
    mux.mux(0)
    assert mux.mux(only=fh) == Read(fh, b"1")
    mux.push_event(Event())
    mux.kill(fh)
    assert mux.mux(only=fh) == Closed(fh)
    assert mux.mux(only=fh) is None
    assert mux.mux() == Event()


def test_only_and_remove(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    take(mux, 1)
    peer.send(b"1\n2\n")
    assert mux.mux() == Read(fh, b"1")
    mux.remove(fh)
    assert mux.mux(only=fh) is None
    assert mux.mux(0, only=fh) is None


def test_only_passes_over_what_concerns_no_handle(mux, watched):
    fh, peer = watched
    mux.push_event(Event())
    peer.send(b"hello")
    assert mux.mux(only=fh) == Read(fh, b"hello")
    assert mux.mux() == Event()


def test_only_of_a_stranger(mux, pair, watched):
    stranger, _ = pair()
    assert mux.mux(only=stranger) is None
    assert mux.mux(1000, only=stranger) is None


def test_only_is_for_one_handle_of_the_same_turn(mux, pair):
    pairs = [pair() for _ in range(5)]
    for fh, peer in pairs:
        mux.add(fh)
        peer.send(b"hello")
    for fh, _ in reversed(pairs):
        assert mux.mux(only=fh) == Ready(fh)
        assert mux.mux(only=fh) == Read(fh, b"hello")
    assert drain(mux) == []


def test_what_others_send_does_not_fill_the_memory_while_one_is_waited_for(mux, watched, pair):
    fh, peer = watched
    other, flood = pair()
    mux.add(other)
    assert mux.mux(only=other) == Ready(other)
    flood.setblocking(False)
    sent = 0
    for _ in range(3000):
        with contextlib.suppress(BlockingIOError):
            sent += flood.send(b"x" * 1000)
        assert mux.mux(0, only=fh) == Timeout()
    assert mux.has_events() < 300
    peer.send(b"hello")
    assert mux.mux(PATIENCE, only=fh) == Read(fh, b"hello")
    received = 0
    while (event := mux.mux(0)).type != "timeout":
        assert event.fh is other
        received += len(event.data)
    assert received == sent


def test_a_handle_that_was_held_can_be_waited_for(mux, watched, pair):
    fh, _ = watched
    other, peer = pair()
    mux.add(other)
    assert mux.mux(only=other) == Ready(other)
    mux.push_event(*[Event()] * 300)
    peer.send(b"hello")
    assert mux.mux(0, only=fh) == Timeout()
    assert mux.mux(PATIENCE, only=other) == Read(other, b"hello")
    assert mux.has_events() == 300
