"""How long a handle may take to close."""

import contextlib
import os
import socket

import pytest
from support.pump import drain, kinds, receive, until

from eventmux import Closed, Closing, EventMux, Timeout

HUGE = b"x" * 3_000_000  # more than a kernel buffers


@pytest.fixture
def mux(timed):
    return timed


def ended(mux):
    """Return the `Closed` to come, whenever that is."""
    return next(event for event in mux if event.type == "closed")


@pytest.fixture(params=["stream", "seqpacket", "dgram"])
def deaf(request, mux, pair):
    """A handle with output that its peer does not read, and how much is queued."""
    kind = getattr(
        socket, {"dgram": "SOCK_DGRAM"}.get(request.param, f"SOCK_{request.param.upper()}")
    )
    fh, peer = pair(kind)
    mux.add(fh)
    drain(mux)
    if request.param == "stream":
        mux.send(fh, HUGE)
    while not mux.buflen(fh):
        mux.send(fh, b"packet" * 1000)
    drain(mux)
    return fh, peer, mux.buflen(fh)


def test_what_has_not_left_in_time_is_dropped(mux, clock, deaf):
    fh, _, unsent = deaf
    mux.close(fh, timeout=5)
    start = clock.now
    assert mux.mux() == Closing(fh)
    assert mux.mux(4.9) == Timeout()
    assert mux.mux() == Closed(fh, unsent, "the rest was not sent within 5 seconds")
    assert clock.now - start == pytest.approx(5)
    assert mux.mux() is None


def test_no_time_at_all(mux, deaf):
    fh, _, unsent = deaf
    mux.close(fh, timeout=0)
    closing, closed = drain(mux)
    assert closing == Closing(fh)
    assert closed.missing == unsent
    assert "within 0 seconds" in closed.reason


def test_a_second_close_can_only_shorten_it(mux, clock, deaf):
    fh, _, _ = deaf
    start = clock.now
    mux.close(fh, timeout=50)
    mux.close(fh)
    mux.close(fh, timeout=7)
    mux.close(fh, timeout=100)
    assert "within 7 seconds" in ended(mux).reason
    assert clock.now - start == pytest.approx(7)


def test_without_a_time_the_peer_has_to_read_something(mux, clock, deaf):
    fh, _, unsent = deaf
    mux.close(fh)
    start = clock.now
    closed = ended(mux)
    assert clock.now - start == pytest.approx(90)
    assert closed.missing == unsent
    assert closed.reason == "the rest was not sent within 90 seconds without progress"


def test_a_slow_peer_has_all_the_time_it_needs(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.send(fh, HUGE)
    mux.close(fh)
    drain(mux)
    peer.settimeout(0)
    start = clock.now
    data = b""
    while "closed" not in kinds([mux.mux(80)]):
        with contextlib.suppress(BlockingIOError):
            data += peer.recv(100_000)
    assert clock.now - start > 1000
    assert data + receive(peer) == HUGE


def test_a_peer_that_stops_in_the_middle(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.send(fh, HUGE)
    mux.close(fh)
    drain(mux)
    mux.mux(50)
    receive(peer)
    drain(mux)
    start = clock.now
    assert ended(mux).missing
    assert 90 <= clock.now - start <= 130


def test_a_peer_that_has_ended_and_does_not_read(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.send(fh, HUGE)
    peer.shutdown(socket.SHUT_WR)
    start = clock.now
    assert ended(mux).missing
    assert clock.now - start == pytest.approx(90)


def test_what_is_sent_behind_closing_is_not_waited_for_for_ever(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh)
    peer.shutdown(socket.SHUT_WR)
    until(mux, "closing")
    mux.send(fh, HUGE)
    start = clock.now
    assert ended(mux).missing
    assert clock.now - start == pytest.approx(90)


@pytest.mark.parametrize("reads", [True, False])
def test_more_is_sent_all_the_time_behind_the_end_of_the_peer(mux, clock, pair, reads):
    fh, peer = pair()
    mux.add(fh)
    mux.send(fh, HUGE)
    peer.shutdown(socket.SHUT_WR)
    until(mux, "closing")
    start = clock.now
    for _ in range(20):
        assert fh not in mux.handles() or mux.send(fh, b"x" * 100_000)
        if "closed" in kinds([mux.mux(10)]):
            break
        if reads:
            peer.recv(50_000)
    assert clock.now - start == pytest.approx(200 if reads else 90)


def test_a_drained_stream_begins_anew(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.send(fh, HUGE)
    peer.shutdown(socket.SHUT_WR)
    until(mux, "closing")
    mux.mux(80)
    while mux.buflen(fh):
        receive(peer)
        mux._loop._turn(0, None, True)  # without handing out `Closed`
    mux.send(fh, HUGE)
    start = clock.now
    assert ended(mux).missing
    assert clock.now - start == pytest.approx(90)


def test_a_pipe_waits_for_its_reader(mux, clock):
    reader, writer = os.pipe()
    mux.add(writer)
    mux.send(writer, HUGE)
    mux.close(writer)
    assert "closing" in kinds(drain(mux))
    assert mux.mux(1000) == Timeout()  # a user may look at a page for long
    mux.close(writer, timeout=5)
    assert "within 5 seconds" in ended(mux).reason
    os.close(reader)


def test_a_connection_that_is_not_up(mux):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        with contextlib.ExitStack() as stack:
            for _ in range(4):  # the kernel answers nobody any more
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                sock.connect_ex(address)
            fh = mux.connect("tcp://{}:{}".format(*address))
            mux.send(fh, b"hello")
            mux.close(fh, timeout=3)
            closed = ended(mux)
    assert (closed.missing, closed.fh) == (5, fh)


def test_what_leaves_in_time_is_not_missing(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.send(fh, HUGE)
    mux.close(fh, timeout=5)
    data = b""
    events = []
    while "closed" not in kinds(events):
        events.append(mux.mux(0))
        data += receive(peer)
    assert events[-1] == Closed(fh)
    assert data == HUGE
    assert mux.mux() is None


def test_a_handle_that_is_killed_or_removed_leaves_no_timer(mux, pair):
    for method in ("kill", "remove"):
        fh, _ = pair()
        mux.add(fh)
        mux.send(fh, HUGE)
        mux.close(fh, timeout=5)
        getattr(mux, method)(fh)
        drain(mux) if method == "kill" else None
        assert mux.mux() is None
    assert len(mux._timers) == 0


def test_a_handle_with_nothing_to_send(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    mux.close(fh, timeout=0)
    assert kinds(drain(mux)) == ["closing", "closed"]
    listener = mux.listen("tcp://127.0.0.1:0")
    mux.close(listener, timeout=5)
    assert drain(mux) == [Closing(listener), Closed(listener)]
    with EventMux() as inner:
        mux.add(inner)
        mux.close(inner, timeout=5)
        assert drain(mux) == [Closing(inner), Closed(inner)]


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), True, "5", b"", [1]])
def test_a_time_that_is_none(mux, pair, wrong):
    fh, _ = pair()
    mux.add(fh)
    drain(mux)
    with pytest.raises(ValueError, match="timeout is .*, must be a number of seconds, 0 or more"):
        mux.close(fh, timeout=wrong)
    assert drain(mux) == []
    with pytest.raises(KeyError, match="is not watched"):
        mux.close(pair()[0], timeout=5)
