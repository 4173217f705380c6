"""A peer that has finished sending, and may still read: what is told, and that writing goes on."""

import errno
import gc
import os
import socket

import pytest
from support.meeting import exchange, meet, reset
from support.pump import PATIENCE, drain, kinds, receive, take, until

from eventmux import (
    Closed,
    Closing,
    EventMux,
    HalfClosed,
    Read,
    ReadLast,
    Ready,
    Sent,
    Timeout,
)
from eventmux._waiting.pollable import HANGUP
from eventmux.buffers import HTTP, Last, Size, Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers
CONNECTIONS = [socket.SOCK_STREAM]
if hasattr(socket, "SOCK_SEQPACKET"):
    CONNECTIONS.append(socket.SOCK_SEQPACKET)


def half_closed(mux, pair, kind=socket.SOCK_STREAM, **options):
    """Return a handle whose peer has sent a request and finished, and the peer."""
    fh, peer = pair(kind)
    mux.add(fh, half_close=True, **options)
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    assert kinds(take(mux, 3)) == ["ready", "read", "half_closed"]
    return fh, peer


def tcp_half_closed(mux):
    """The same over TCP; the peer is no handle of the mux."""
    listener = mux.listen("tcp://127.0.0.1:0", half_close=True)
    peer = socket.create_connection(listener.getsockname())
    (connect,) = take(mux, 1)
    mux.kill(listener)
    take(mux, 1)
    peer.shutdown(socket.SHUT_WR)
    assert take(mux, 1) == [HalfClosed(connect.fh)]
    return connect.fh, peer


# What is told


@pytest.mark.parametrize("kind", CONNECTIONS, ids=str)
def test_an_answer_that_takes_a_moment(mux, pair, kind):
    fh, peer = half_closed(mux, pair, kind)
    assert mux.mux(0) == Timeout()
    assert mux.send(fh, b"answer") == 0
    mux.close(fh)
    assert drain(mux) == [Sent(fh), Closing(fh), Closed(fh)]
    assert receive(peer) == b"answer"


def test_without_it_the_handle_is_closed_as_ever(mux, watched):
    fh, peer = watched
    peer.shutdown(socket.SHUT_WR)
    assert drain(mux) == [Closing(fh), Closed(fh)]


def test_what_is_left_in_the_buffer_comes_first(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True, buffered=Size("B"))
    peer.send(b"\3one\3tw")
    peer.shutdown(socket.SHUT_WR)
    assert drain(mux) == [Ready(fh), Read(fh, b"one"), ReadLast(fh, b"\3tw"), HalfClosed(fh)]


def test_all_there_is_as_one_record(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True, buffered=Last())
    peer.send(b"all of ")
    peer.send(b"it")
    peer.shutdown(socket.SHUT_WR)
    *_, last, half = drain(mux)
    assert (last.data, half) == (b"all of it", HalfClosed(fh))


def test_what_a_listener_accepts(mux):
    fh, peer = tcp_half_closed(mux)
    mux.send(fh, HUGE)
    mux.close(fh)
    events, data = exchange(mux, fh, peer)
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert data == HUGE
    peer.close()


def test_what_is_queued_leaves_and_sent_is_told(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True)
    assert mux.mux(PATIENCE) == Ready(fh)
    assert mux.send(fh, HUGE) > 0
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(PATIENCE) == HalfClosed(fh)
    got = b""
    while mux.buflen(fh):
        got += receive(peer)
        event = mux.mux(0)
    assert event == Sent(fh)
    assert got + receive(peer) == HUGE
    mux.close(fh)
    assert drain(mux) == [Closing(fh), Closed(fh)]


def test_a_connection_whose_end_comes_before_it_is_up(mux, pair):
    fh, peer = pair()
    fh.setblocking(False)
    while True:  # full, so that it is not writable
        try:
            fh.send(b"x" * 100_000)
        except BlockingIOError:
            break
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    mux.add(fh, half_close=True)
    mux.send(fh, b"answer")
    assert kinds(take(mux, 2)) == ["read", "half_closed"]
    got = b""
    while not got.endswith(b"answer"):
        got += receive(peer)
        mux.mux(0)
    mux.close(fh)
    assert kinds(drain(mux))[-2:] == ["closing", "closed"]


@pytest.mark.parametrize("way", ["kill", "remove"])
def test_a_handle_that_is_let_go_of(mux, pair, way):
    fh, peer = half_closed(mux, pair)
    getattr(mux, way)(fh)
    assert kinds(drain(mux)) == (["closed"] if way == "kill" else [])
    peer.close()
    assert mux.mux(0) in (None, Timeout())
    if way == "remove":
        mux.add(fh)  # it has its end before it
        assert kinds(drain(mux)) == ["ready", "closing", "closed"]


# The peer that goes altogether


@pytest.mark.parametrize("kind", CONNECTIONS, ids=str)
def test_a_unix_peer_that_is_closed_has_no_half(mux, pair, kind):
    fh, peer = pair(kind)
    mux.add(fh, half_close=True)
    peer.send(b"bye")
    peer.close()
    assert drain(mux) == [Ready(fh), Read(fh, b"bye"), Closing(fh), Closed(fh)]


@pytest.mark.parametrize("kind", CONNECTIONS, ids=str)
def test_a_unix_peer_that_is_closed_later(mux, pair, kind):
    fh, peer = half_closed(mux, pair, kind)
    peer.close()
    assert take(mux, 2) == [Closing(fh), Closed(fh)]
    assert mux.mux() is None


def test_a_reset_while_nothing_is_sent(mux):
    fh, peer = tcp_half_closed(mux)
    reset(peer)
    error, closing, closed = take(mux, 3)
    assert error.errno in (errno.EPIPE, errno.ECONNRESET)  # Linux takes the first one here
    assert (closing, closed) == (Closing(fh, error.error), Closed(fh, 0, error.error))


def test_a_reset_that_comes_with_the_end(mux):
    """Who has not read all closes with a reset; it may be there when the end is read."""
    listener = mux.listen("tcp://127.0.0.1:0", half_close=True)
    peer = socket.create_connection(listener.getsockname())
    (connect,) = take(mux, 1)
    mux.want_read(connect.fh, False)
    peer.shutdown(socket.SHUT_WR)
    reset(peer)
    mux.want_read(connect.fh, True)
    assert kinds(until(mux, "closed"))[-2:] == ["closing", "closed"]


def test_a_tcp_peer_that_is_closed_is_found_by_what_is_sent_to_it(mux):
    fh, peer = tcp_half_closed(mux)
    peer.close()
    assert mux.mux(0) == Timeout()  # nothing tells it from one that waits
    assert mux.send(fh, b"answer") == 0
    assert kinds(until(mux, "closed")) == ["sent", "error", "closing", "closed"]


def test_sending_that_fails_is_the_end(mux, pair):
    fh, peer = half_closed(mux, pair)
    assert mux.send(fh, HUGE) > 0
    peer.close()
    error, closing, closed = drain(mux)
    assert error.errno in (errno.EPIPE, errno.ECONNRESET)
    assert closing == Closing(fh, error.error)
    assert 0 < closed.missing <= len(HUGE)


def test_too_much_output_is_the_end(mux, pair):
    fh, _peer = half_closed(mux, pair, max_outbuffer=1000)
    mux.send(fh, HUGE)
    error, closing, closed = drain(mux)
    assert "limit is 1000" in error.error
    assert (closing.reason, closed.missing > 0) == (error.error, True)


def test_no_record_is_told_twice_when_it_breaks_later(mux):
    listener = mux.listen("tcp://127.0.0.1:0", half_close=True, buffered=Size("B"))
    with socket.create_connection(listener.getsockname()) as peer:
        peer.send(b"\5ab")
        peer.shutdown(socket.SHUT_WR)
        assert kinds(take(mux, 3)) == ["connect", "read_last", "half_closed"]
        reset(peer)
        assert kinds(take(mux, 3)) == ["error", "closing", "closed"]


# No busy loop, and no descriptor that is left


def turns_taken(mux, seconds=0.05):
    """Count how often the selector comes back in that time, with nothing to report."""
    count = 0
    wait = mux._poller.waiter.wait

    class Counting:
        def wait(self, selector, timeout):
            nonlocal count
            count += 1
            return wait(selector, timeout)

    before, mux._poller.waiter = mux._poller.waiter, Counting()
    try:
        assert mux.mux(seconds) == Timeout()
    finally:
        mux._poller.waiter = before
    return count


def test_one_that_waits_costs_nothing(mux, pair):
    ends = [half_closed(mux, pair), tcp_half_closed(mux)]
    assert turns_taken(mux) <= 3
    for fh, _ in ends:
        mux.send(fh, b"answer")
    assert drain(mux) == [Sent(fh) for fh, _ in ends]
    assert turns_taken(mux) <= 3
    for _, peer in ends:
        peer.close()


def test_many_share_one_descriptor(mux, pair):
    ends = [half_closed(mux, pair) for _ in range(20)]
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    more = half_closed(mux, pair)
    assert len(before) in (0, len(os.listdir("/proc/self/fd")) - 2)
    ends.append(more)
    for _, peer in ends:
        peer.close()
    assert {event.fh for event in until_all_closed(mux)} == {fh for fh, _ in ends}


def until_all_closed(mux):
    events = []
    while mux.handles():
        events += until(mux, "closed")
    return events


def test_the_end_of_the_mux_leaves_nothing(pair):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with EventMux() as mux:
        half_closed(mux, pair)
    dropped = EventMux()
    half_closed(dropped, pair)
    del dropped
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 3  # two peers, and one that was dropped


def test_one_that_is_closed_behind_our_back(mux, pair):
    fh, peer = half_closed(mux, pair)
    again = os.dup(fh.fileno())  # so that epoll goes on reporting it
    try:
        fh.close()
        assert kinds(until(mux, "closed"))[-2:] == ["closing", "closed"]
        other, remote = half_closed(mux, pair)
        peer.close()  # a hang-up of what nobody knows any more
        assert turns_taken(mux) <= 4
        remote.close()
        assert take(mux, 2) == [Closing(other), Closed(other)]
    finally:
        os.close(again)


def test_a_number_that_is_used_again(mux, pair):
    fh, peer = half_closed(mux, pair)
    number = fh.fileno()
    other, remote = pair()
    fh.close()
    os.dup2(other.fileno(), number)
    mux.add(number, half_close=True)
    remote.send(b"hello")
    remote.shutdown(socket.SHUT_WR)
    events = drain(mux)
    assert [kind for event in events if event.fh is fh for kind in kinds([event])] == [
        *("error", "closing", "closed"),
    ]
    assert [event.type for event in events if event.fh == number] == [
        *("ready", "read", "half_closed"),
    ]
    peer.close()
    remote.close()
    assert take(mux, 2) == [Closing(number), Closed(number)]


def test_no_descriptor_for_the_epoll_is_no_error(mux, pair, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("eventmux._waiting.poller.HangUps", refuse)
    fh, peer = half_closed(mux, pair)
    peer.close()
    assert mux.mux(0) == Timeout()
    mux.send(fh, b"answer")
    assert kinds(until(mux, "closed")) == ["error", "closing", "closed"]


def test_a_forked_child_starts_anew(pair):
    with EventMux() as mux:
        fh, peer = half_closed(mux, pair)
        pid = os.fork()
        if not pid:
            try:
                mux.after_fork()
                ours, theirs = socket.socketpair()
                mux.add(ours, half_close=True)
                theirs.shutdown(socket.SHUT_WR)
                assert kinds(take(mux, 2)) == ["ready", "half_closed"]
                theirs.close()
                assert kinds(take(mux, 2)) == ["closing", "closed"]
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        peer.close()
        assert take(mux, 2) == [Closing(fh), Closed(fh)]


# With the other options


def test_another_buffer_at_the_last_record(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True, buffered=Split())
    peer.send(b"head\nbody\nmore")
    peer.shutdown(socket.SHUT_WR)
    assert take(mux, 2) == [Ready(fh), Read(fh, b"head")]
    mux.set(fh, buffered=Last())
    assert drain(mux) == [Read(fh, b"body\nmore"), HalfClosed(fh)]
    mux.send(fh, b"answer")
    assert receive(peer) == b"answer"


def test_another_buffer_once_the_end_is_told(mux, pair):
    fh, _peer = half_closed(mux, pair, buffered=Split())
    mux.set(fh, buffered=Last())
    mux.send(fh, b"answer")
    mux.set(fh, buffered=None)
    assert drain(mux) == [Sent(fh)]


def test_another_buffer_between_the_end_and_what_comes_behind_it(mux, pair):
    fh, peer = half_closed(mux, pair)
    other, _ = pair()
    mux.add(other)
    peer.close()
    assert mux.mux(PATIENCE, only=other) == Ready(other)
    assert mux.mux(0, only=other) == Timeout()  # `Closing` of the first one is queued now
    assert mux.has_events()
    mux.set(fh, buffered=Split())
    assert take(mux, 2) == [Closing(fh), Closed(fh)]


@pytest.mark.parametrize("ends", ["half", "whole"])
def test_another_buffer_while_the_end_is_queued(mux, pair, ends):
    fh, peer = pair()
    mux.add(fh, half_close=True, buffered=Split())
    peer.send(b"one\ntwo")
    peer.shutdown(socket.SHUT_WR)
    assert take(mux, 2) == [Ready(fh), Read(fh, b"one")]
    other, _ = pair()
    if ends == "whole":
        peer.close()
        mux.add(other)
        assert mux.mux(PATIENCE, only=other) == Ready(other)
    mux.set(fh, buffered=None)
    end = [HalfClosed(fh)] if ends == "half" else [Closing(fh), Closed(fh)]
    assert [event for event in drain(mux) if event.fh is fh] == [Read(fh, b"two"), *end]


def test_a_body_that_waits_is_read_to_the_end(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True, buffered=HTTP(header_only=True))
    head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
    peer.send(head + b"body")
    peer.shutdown(socket.SHUT_WR)
    assert take(mux, 2) == [Ready(fh), Read(fh, head)]
    assert mux.mux(0) == Timeout()  # nothing is read before the program has said
    mux.recvdata(fh, 4)
    assert drain(mux) == [Read(fh, b"body"), HalfClosed(fh)]


def test_a_handle_that_is_not_read_from_has_no_end_yet(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.want_read(fh, False)
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(0) == Timeout()
    mux.want_read(fh, True)
    assert mux.mux(PATIENCE) == HalfClosed(fh)
    mux.want_read(fh, False)
    peer.close()
    assert take(mux, 2) == [Closing(fh), Closed(fh)]


def test_a_peer_that_does_not_read_is_throttled_and_then_ends(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True, high_water=1000)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.send(fh, HUGE)
    peer.send(b"more")
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(0) == Timeout()
    got, events = b"", []
    while len(events) < 3:
        got += receive(peer)
        event = mux.mux(0)
        events += [] if isinstance(event, Timeout) else [event]
    assert (got + receive(peer)) == HUGE
    assert events == [Sent(fh), Read(fh, b"more"), HalfClosed(fh)]


def test_one_handle_alone(mux, pair):
    fh, peer = half_closed(mux, pair)
    other, remote = pair()
    mux.add(other, half_close=True)
    assert mux.mux(PATIENCE) == Ready(other)
    remote.shutdown(socket.SHUT_WR)
    assert mux.mux(0, only=fh) == Timeout()
    peer.close()
    assert [mux.mux(PATIENCE, only=fh) for _ in range(3)] == [Closing(fh), Closed(fh), None]
    assert mux.mux(0) == HalfClosed(other)


def test_who_writes_himself_is_told(mux, pair):
    fh, peer = pair()
    mux.add(fh, half_close=True, manual_write=True)
    mux.want_write(fh, False)
    peer.shutdown(socket.SHUT_WR)
    assert [event for event in drain(mux) if event.type != "can_write"] == [HalfClosed(fh)]
    mux.want_write(fh, True)
    assert mux.mux(PATIENCE).type == "can_write"
    mux.want_write(fh, False)
    drain(mux)
    peer.close()
    assert take(mux, 2) == [Closing(fh), Closed(fh)]


def test_what_is_no_connection_has_no_half(mux, pair):
    reader, writer = os.pipe()
    try:
        for fd in (reader, writer):
            with pytest.raises(ValueError, match="half_close is for connections, but .* is none"):
                mux.add(fd, half_close=True)
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(ValueError, match="half_close is for connections"):
        mux.listen("udp://127.0.0.1:0", half_close=True)
    with pytest.raises(ValueError, match="has manual_read"):
        mux.add(pair()[0], half_close=True, manual_read=True)
    assert mux.handles() == []


def test_only_one_thing_is_waited_for(mux, pair):
    fh, _peer = half_closed(mux, pair)
    assert mux._channels[fh].wanted == HANGUP
    meet(mux)  # the selector goes on as ever
