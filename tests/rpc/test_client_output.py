"""What a client has queued for a server that does not read: how much, and how it ends."""

from __future__ import annotations

import contextlib
import socket

import pytest
from support.peers import turn

from rpcasync import Client, Disconnected, QueueFull, RPCError


def fill(client, size=100_000):
    """Make calls until one is refused; return those that were made, and the refusal."""
    calls = []
    for _ in range(1000):
        try:
            calls.append(client.x("x" * size))
        except QueueFull as error:
            return calls, error
    pytest.fail("none is refused")


def test_a_call_is_refused_when_too_much_is_queued(mux, connect, got):
    client, peer = connect(codec="json", max_outbuffer=1_000_000)
    first = client.a(got.taker("a"))
    calls, error = fill(client)
    queued = mux.buflen(client.fh)
    assert 1_000_000 < queued < 1_200_000
    assert str(error) == (
        f"x: {queued} bytes queued for a server that does not read, limit is 1000000"
    )
    assert isinstance(error, RPCError)
    with pytest.raises(QueueFull):
        client.b(print, timeout=1)
    assert list(client.dump_requests().values()) == [first, *calls]  # nothing else has changed
    assert not client.has_coderefs()
    for packet in read_all(mux, client, peer):
        peer.send(packet[0], "fine")
        turn(mux, client)
    assert [call.result() for call in calls] == [("fine",)] * len(calls)
    assert got == [("a", ("fine",))]
    client.c()


def read_all(mux, client, peer):
    packets = []
    while mux.buflen(client.fh):
        packets += peer.read()
        turn(mux, client)
    return packets + peer.read()


def test_a_call_of_any_size_is_made_when_little_is_queued(mux, connect):
    client, peer = connect(codec="json", max_outbuffer=1)
    call = client.x("x" * 1_000_000)
    with pytest.raises(QueueFull):
        client.y()
    assert [id for id, *_ in read_all(mux, client, peer)] == [call.id]
    client.y()


def test_room_is_looked_for_before_a_call_is_refused(connect):
    """The server may have read, though no event has told of it yet."""
    client, peer = connect(codec="json", max_outbuffer=100_000)
    calls, _ = fill(client)
    while len(calls) < 50:
        peer.read()
        with contextlib.suppress(QueueFull):
            calls.append(client.y("x" * 10_000))


def test_calls_that_wait_for_the_connection_count(mux):
    client = Client(mux, "tcp://localhost:9", max_outbuffer=10_000)  # the loop has not turned yet
    calls, _ = fill(client, 1000)
    assert 9 <= len(calls) <= 11
    client.disconnect(grace=0)


def test_the_default_follows_the_longest_packet(connect):
    client, _ = connect(codec="json", max_packet=200_000)
    _, error = fill(client)
    assert str(error).endswith("limit is 800000")


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1"])
def test_a_limit_that_is_none(mux, limit):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ValueError, match=r"max_outbuffer is .*, must be 1 or more"):
            Client(mux, ours, max_outbuffer=limit)
        assert not mux.handles()


def test_a_connection_that_has_gone_refuses_nothing(mux, connect):
    client, _ = connect(max_outbuffer=10_000)
    fill(client)
    mux.kill(client.fh)
    with pytest.raises(Disconnected):
        client.x().result()


# The end


def test_disconnecting_from_a_server_that_never_reads(timed, clock):
    """What is queued has as long as a process would have, and the calls fail then."""
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client(timed, ours)
        call = client.x("x" * 1_000_000)
        start = clock.now
        client.disconnect()
        assert not call.done
        for event in timed:
            assert client.io(event) is None
        assert clock.now - start == pytest.approx(5)
        with pytest.raises(Disconnected, match="disconnected"):
            call.result()


def test_disconnecting_with_less_patience(timed, clock):
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client(timed, ours)
        client.x("x" * 1_000_000)
        start = clock.now
        client.disconnect()
        client.disconnect(grace=1)
        for event in timed:
            assert client.io(event) is None
        assert clock.now - start == pytest.approx(1)


def test_what_is_queued_leaves_before_the_end(mux, connect):
    client, peer = connect(codec="json")
    client.x("x" * 1_000_000)
    client.disconnect()
    packets = []
    while mux.handles():
        packets += peer.read()
        client.io(mux.mux(0))
    packets += peer.read()
    assert (len(packets), peer.ended) == (1, True)
