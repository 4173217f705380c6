"""The end of a stream that comes from the other side: what is read, sent and told then."""

import errno
import os
import socket

import pytest
from support.meeting import exchange, meet, reset
from support.pump import drain, kinds, take, until

from eventmux import (
    BufferOverflow,
    Closed,
    Closing,
    Read,
    ReadLast,
    Ready,
    Sent,
)
from eventmux.buffers import Size, Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers


def test_a_reset_is_an_error(mux):
    _, fh, accepted = meet(mux)
    mux.remove(accepted)
    reset(accepted)
    error, closing, closed = take(mux, 3)
    assert (error.type, error.fh, error.errno) == ("error", fh, errno.ECONNRESET)
    assert closing == Closing(fh, error.error)
    assert closed == Closed(fh, 0, error.error)


def test_a_peer_that_is_gone_before_it_is_accepted(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    reset(socket.create_connection(listener.getsockname()))
    connect, *rest = until(mux, "closed")
    assert connect.type == "connect"
    assert {event.fh for event in rest} == {connect.fh}
    assert kinds(rest)[-2:] == ["closing", "closed"]
    assert mux.handles() == [listener]


def test_queued_output_is_sent_although_the_peer_has_finished(mux, watched):
    fh, peer = watched
    assert mux.send(fh, HUGE) > 0
    peer.send(b"that was all")
    peer.shutdown(socket.SHUT_WR)
    events, data = exchange(mux, fh, peer)
    assert events == [Read(fh, b"that was all"), Closing(fh), Sent(fh), Closed(fh, 0)]
    assert data == HUGE


@pytest.mark.parametrize("when", ["read", "closing"])
@pytest.mark.parametrize("reply", [b"reply", HUGE], ids=["small", "huge"])
def test_a_reply_after_the_peer_has_finished(mux, watched, when, reply):
    fh, peer = watched
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    until(mux, when)
    mux.send(fh, reply)
    events, data = exchange(mux, fh, peer)
    order = [kind for kind in kinds(events) if kind != "sent"]
    assert order == (["closing", "closed"] if when == "read" else ["closed"])
    assert events[-1].missing == 0
    assert data == reply
    assert mux.mux() is None


def test_a_peer_that_goes_while_output_is_queued(mux, watched):
    fh, peer = watched
    unsent = mux.send(fh, HUGE)
    peer.close()
    events = drain(mux)
    assert kinds(events) in (["error", "closing", "closed"], ["closing", "closed"])
    assert 0 < events[-1].missing <= unsent
    assert events[-1].reason
    assert mux.mux() is None


def test_a_reply_to_a_peer_that_has_gone_is_missing(mux, watched):
    fh, peer = watched
    peer.close()
    assert mux.mux() == Closing(fh)
    mux.send(fh, b"reply")
    assert drain(mux) == [Closed(fh, 5, os.strerror(errno.EPIPE))]


def test_the_last_words_of_a_peer_that_went_before_we_were_ready(mux, pair):
    fh, peer = pair()
    peer.send(b"bye")
    peer.close()
    mux.add(fh)
    mux.send(fh, b"request")
    events = drain(mux)
    assert Read(fh, b"bye") in events
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert events[-1].missing == 7


def test_the_last_words_of_a_peer_are_read_although_sending_fails(mux, watched):
    fh, peer = watched
    peer.send(b"no such procedure")
    peer.close()
    mux.send(fh, b"request")
    events = drain(mux)
    assert Read(fh, b"no such procedure") in events
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert events[-1].missing == 7


@pytest.mark.parametrize(
    ("buffered", "kind"), [(Split(), Read), (Size("B"), ReadLast)], ids=["split", "size"]
)
def test_what_is_left_at_the_end(mux, pair, buffered, kind):
    fh, peer = pair()
    mux.add(fh, buffered=buffered)
    peer.send(b"\5ab")
    peer.close()
    assert drain(mux) == [Ready(fh), kind(fh, b"\5ab"), Closing(fh), Closed(fh)]


def test_a_record_over_the_limit(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split(max_size=3))
    peer.send(b"abc\ndefgh\ni\n")
    ready, read, error, closing, closed = drain(mux)
    assert (ready, read) == (Ready(fh), Read(fh, b"abc"))
    assert (error.type, error.fh, error.errno, error.data) == ("error", fh, None, b"defgh\ni\n")
    assert "5 bytes" in error.error
    assert "limit is 3" in error.error
    assert isinstance(error.exception, BufferOverflow)
    assert closing == Closing(fh, error.error)
    assert closed == Closed(fh, 0, error.error)


def test_one_bad_peer_does_not_hurt_another(mux):
    listener = mux.listen("tcp://127.0.0.1:0", buffered=Size("!I", max_size=100))
    with (
        socket.create_connection(listener.getsockname()) as good,
        socket.create_connection(listener.getsockname()) as bad,
    ):
        good.send(b"\0\0\0\5hel")
        bad.send(b"\xff" * 20)
        bad.shutdown(socket.SHUT_WR)  # else the mux would hear it out for two seconds
        assert until(mux, "closed")[-1].fh.getsockname is not None
        good.send(b"lo")
        assert until(mux, "read")[-1].data == b"hello"
