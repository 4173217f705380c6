"""The limit on the output queue of a handle where the program has set none."""

import os
import socket

import pytest
from support.pump import PATIENCE, drain, kinds, receive

from eventmux import OutputOverflow
from eventmux._channels.packets import Datagram, PacketStream
from eventmux._channels.streams import Stream

LIMIT = 200_000  # instead of 64 MiB, so that it is met soon
PIECE = 128 * 1024  # small ones are joined up to this for one send, and are one piece then
HUGE = b"x" * 3_000_000  # more than a kernel buffers


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(Stream, "most_queued", LIMIT)
    monkeypatch.setattr(Datagram, "most_queued", 20)
    monkeypatch.setattr(PacketStream, "most_queued", 20)


def fill(mux, fh, piece, later, most=1_000_000):
    """Send until the handle ends; return the most that was queued."""
    highest = 0
    for _ in range(most):
        highest = max(highest, mux.send(fh, piece, later=later))
        if mux.buflen(fh) == 0 and highest > LIMIT // 2:
            return highest
    pytest.fail("it grows for ever")


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("size", [100, 5000, 100_000])
def test_a_peer_that_never_reads_is_the_end(mux, watched, size, later):
    fh, _ = watched
    highest = fill(mux, fh, b"x" * size, later)
    assert LIMIT < highest <= LIMIT + PIECE + 5000 + 2 * size
    events = [event for event in drain(mux) if event.type != "sent"]
    assert kinds(events) == ["error", "closing", "closed"]
    assert isinstance(events[0].exception, OutputOverflow)
    assert events[0].exception.limit == LIMIT
    assert "max_outbuffer" in events[0].error
    assert events[-1].missing > LIMIT


def test_one_piece_may_have_any_length(mux, watched):
    fh, peer = watched
    mux.send(fh, b"head")
    mux.send(fh, HUGE)
    mux.send(fh, b"and", b"tail")
    data = b""
    while mux.buflen(fh):
        mux.mux(0)
        data += receive(peer)
    assert data + receive(peer) == b"head" + HUGE + b"andtail"
    assert kinds(drain(mux)) in ([], ["sent"])


def test_one_piece_may_have_any_length_before_the_connection_is_up(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        fh = mux.connect(f"tcp://{host}:{port}")
        for piece in (b"head", HUGE, b"tail"):
            mux.send(fh, piece, later=True)
        assert mux.mux(PATIENCE).type == "ready"
        assert mux.handles() == [fh]


def test_a_second_huge_piece_waits_and_a_third_is_the_end(mux, watched):
    fh, _ = watched
    mux.send(fh, HUGE)
    assert mux.send(fh, HUGE) > len(HUGE)
    assert mux.send(fh, HUGE) == 0
    assert kinds(drain(mux)) == ["error", "closing", "closed"]


def test_what_the_peer_has_read_does_not_count(mux, watched):
    fh, peer = watched
    mux.send(fh, b"x" * 2 * LIMIT, b"x" * LIMIT)
    while receive(peer):
        mux.mux(0)
    for _ in range(10):  # all that was queued has left, though nobody has looked
        mux.send(fh, b"x" * LIMIT)
        receive(peer)
    assert "error" not in kinds(drain(mux))


def test_no_limit_has_to_be_said(mux, pair):
    fh, _ = pair()
    mux.add(fh, max_outbuffer=None)
    for _ in range(10):
        mux.send(fh, HUGE)
    assert mux.buflen(fh) > 9 * len(HUGE)


def test_a_pipe_that_nobody_reads(mux):
    reader, writer = os.pipe()
    try:
        mux.add(writer)
        for _ in range(100):
            mux.send(writer, b"x" * 10_000)
        assert "error" in kinds(drain(mux))
    finally:
        os.close(reader)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_packets_are_counted(mux, pair, kind):
    fh, _ = pair(kind)
    mux.add(fh)
    for _ in range(10_000):
        if mux.send(fh, b"x" * 1000) == 20:
            break
    assert mux.send(fh, b"x", b"x", b"x") == 23  # found no more than there may be
    assert mux.send(fh, b"x") == 0
    events = [event for event in drain(mux) if event.type not in ("sent", "ready")]
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].exception.limit == 20
    assert events[-1].missing == 24


def test_tiny_pieces_that_wait_are_put_together(mux, watched, monkeypatch):
    monkeypatch.setattr(Stream, "most_queued", 10 * LIMIT)
    fh, peer = watched
    mux.send(fh, HUGE)
    pieces = [b"%d," % number for number in range(5000)]
    for number, piece in enumerate(pieces):
        mux.send(fh, piece, later=bool(number % 3))
    assert len(mux._channels[fh]._out) < 50
    data = b""
    while mux.buflen(fh):
        mux.mux(0)
        data += receive(peer)
    assert data + receive(peer) == HUGE + b"".join(pieces)
