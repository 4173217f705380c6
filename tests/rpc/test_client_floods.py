"""A server that never stops sending: waiting ends on time, and others have their turn.

A thread sends what a hostile server would, for as long as anybody reads. The times are those of a
real clock, so they are short, and what is asked of them is only that they end.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time

import pytest
from support.peers import Peer, turn

from eventmux import Event
from rpcasync import CallTimeout, Client, Disconnected

SHORT = 0.01  # seconds that are waited
LONG = 5.0  # that it would last at least if the flood decided


@pytest.fixture
def long_turns():
    """They are as short here as they are."""


@pytest.fixture
def flood():
    """Have a peer's socket sent the same data again and again, until the test ends."""
    with contextlib.ExitStack() as stack:

        def start(sock, data, first=b""):
            sock.setblocking(True)

            def run():
                with contextlib.suppress(OSError):
                    sock.sendall(first)
                    while True:
                        sock.sendall(data)

            thread = threading.Thread(target=run)
            stack.callback(thread.join)
            stack.callback(sock.shutdown, socket.SHUT_RDWR)
            thread.start()

        yield start


@pytest.fixture
def on_time():
    """See that the test is over long before the flood."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < LONG


def packets(peer, kind):
    what = {
        "replies to nobody": (99, 1),
        "calls of a function": (0, "call", 1),
        "releases of nothing": (99, "destroy"),
        "errors of nobody": (99, "error", "no"),
    }
    return peer.packet(*what[kind]) * 5000


KINDS = [
    "replies to nobody",
    "calls of a function",
    pytest.param("releases of nothing", marks=pytest.mark.slow),
    pytest.param("errors of nobody", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_ends_on_time(mux, connect, flood, on_time, kind):
    client, peer = connect(codec="json")
    client.watch(lambda *values: None, 1)
    call = client.x()
    flood(peer.sock, packets(peer, kind))
    with pytest.raises(CallTimeout, match=f"x: no answer within {SHORT} seconds"):
        call.result(SHORT)
    with pytest.raises(CallTimeout):
        call.result(0)
    assert client.wait(SHORT) is False
    assert client.wait(SHORT, call) is False
    with pytest.raises(CallTimeout):
        call.set_timeout(SHORT).result()
    assert call.done


def test_a_timeout_of_the_client_comes_on_time(mux, connect, flood, on_time, got):
    client, peer = connect(codec="json", timeout=SHORT)
    client.x(got.error_taker("x"))
    flood(peer.sock, packets(peer, "replies to nobody"))
    while not got:
        client.io(mux.mux())
    assert got == [("x", CallTimeout)]


def test_a_packet_without_end(connect, flood, on_time):
    client, peer = connect(codec="json", max_packet=2**31)
    call = client.x()
    flood(peer.sock, b" " * 5000, first=b"\x7f\xff\xff\xff[")
    with pytest.raises(CallTimeout):
        call.result(SHORT)


def test_what_is_no_packet(connect, flood, on_time):
    client, peer = connect(codec="json")
    call = client.x()
    flood(peer.sock, b"\xff" * 5000)
    with pytest.raises(Disconnected, match="limit is 16777216"):
        call.result()


def test_functions_that_take_their_time(connect, on_time):
    """Once the time is over, no more of them are called, however many are there."""
    client, peer = connect()
    times = []

    def slow(*values):
        times.append(values)
        time.sleep(SHORT)

    call = client.x(slow, 1)
    peer.sock.sendall(peer.packet(0, "call") * 5000)
    with pytest.raises(CallTimeout):
        call.result(SHORT)
    assert len(times) < 10


def test_callbacks_that_take_their_time(connect, on_time):
    client, peer = connect()
    calls = [client.x(lambda *values: time.sleep(SHORT)) for _ in range(500)]
    peer.sock.sendall(b"".join(peer.packet(call.id) for call in calls))
    assert client.wait(SHORT) is False
    assert sum(call.done for call in calls) < 50


def test_waiting_in_a_function_that_the_server_calls(connect, flood, on_time):
    client, peer = connect(codec="json")
    outcomes = []

    def ask_back(*values):
        if not outcomes:
            outcomes.append(None)
            with pytest.raises(CallTimeout):
                client.y().result(SHORT)
            outcomes[0] = client.wait(0)

    call = client.x(ask_back, 1)
    flood(peer.sock, packets(peer, "calls of a function"))
    with pytest.raises(CallTimeout):
        call.result(2 * SHORT)
    assert outcomes == [False]


def test_functions_that_all_wait(connect, flood, on_time):
    """What waits in one calls the next, and that has an end before Python's own."""
    client, peer = connect(codec="json")
    depth = most = 0

    def ask_back(*values):
        nonlocal depth, most
        depth += 1
        most = max(most, depth)
        try:
            client.y().result()
        finally:
            depth -= 1

    call = client.x(ask_back, 1)
    flood(peer.sock, packets(peer, "calls of a function"))
    with pytest.raises(RuntimeError, match="32 functions that the server calls wait for answers"):
        call.result()
    assert (depth, most) == (0, 32)
    client.disconnect()


def test_a_flood_from_another(mux, connect, flood, on_time):
    client, _ = connect(codec="json")
    other, their_peer = connect(codec="json")
    flood(their_peer.sock, packets(their_peer, "replies to nobody"))
    with pytest.raises(CallTimeout):
        client.x().result(SHORT)
    assert client.wait(0) is False
    event = mux.mux()
    while event.type != "read":
        event = mux.mux()
    assert event.fh is other.fh


def test_events_without_number_are_kept_in_order(mux, connect, on_time):
    client, peer = connect()
    mine = [Event() for _ in range(20_000)]
    call = client.x()
    mux.push_event(*mine)
    with pytest.raises(CallTimeout):
        call.result(SHORT)
    peer.send(call.id, "fine")
    assert call.result(LONG) == ("fine",)
    assert [mux.mux(0) for _ in mine] == mine


def test_timers_without_end(mux, connect, on_time):
    client, _ = connect()
    watches = [mux.timer(1e-6, number, repeat=True) for number in range(20)]
    with pytest.raises(CallTimeout):
        client.x().result(SHORT)
    assert sorted(mux.mux().data for _ in watches) == list(range(20))


# How much is done in one turn


def test_a_turn_is_short(mux, connect):
    """Others have their events in between, and all are called, in order."""
    client, peer = connect()
    numbers = []
    client.x(lambda number, /: numbers.append(number), 1)
    turn(mux, client)
    many = b"".join(peer.packet(0, "call", number) for number in range(1000))
    peer.sock.sendall(many)
    client.io(mux.mux())
    seen = len(numbers)
    assert 0 < seen < 1000
    mine = Event()
    mux.push_event(mine)
    client.io(mux.mux())
    assert mux.mux() is mine
    assert turn(mux, client) == []
    assert numbers == list(range(1000))


def test_nothing_is_read_until_all_is_handed_over(mux, connect):
    client, peer = connect(codec="json")
    count = 0

    def step(*values):
        nonlocal count
        count += 1

    client.x(step, 1)
    turn(mux, client)
    packet = peer.packet(0, "call")
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
    for _ in range(10):
        peer.sock.sendall(packet * 1000)
    kinds = []
    while count < 10_000:
        event = mux.mux()
        kinds.append(event.type)
        client.io(event)
    reads = [number for number, kind in enumerate(kinds) if kind == "read"]
    assert len(reads) > 1
    assert all(later - earlier > 4 for earlier, later in itertools.pairwise(reads))
    assert turn(mux, client) == []


def test_answers_that_wait_are_handed_over_before_the_end(mux, connect, got):
    client, peer = connect()
    calls = [client.x(got.taker(number)) for number in range(1000)]
    last = client.y()
    turn(mux, client)
    peer.sock.sendall(b"".join(peer.packet(call.id, 1) for call in calls))
    client.io(mux.mux())
    assert 0 < len(got) < 1000
    client.disconnect()
    events = list(mux)
    for event in events:
        client.io(event)
    assert events[-1].type == "closed"
    assert got == [(number, (1,)) for number in range(1000)]
    with pytest.raises(Disconnected):
        last.result()
    assert mux.mux() is None


def test_the_server_ends_behind_many_answers(mux, connect, got):
    client, peer = connect()
    calls = [client.x(got.taker(number)) for number in range(1000)]
    turn(mux, client)
    peer.sock.sendall(b"".join(peer.packet(call.id, 1) for call in calls))
    peer.sock.close()
    assert calls[-1].result(LONG) == (1,)
    assert got == [(number, (1,)) for number in range(1000)]


def test_a_turn_that_callbacks_make_long_is_cut_by_the_clock(timed, clock):
    ours, theirs = socket.socketpair()
    with theirs:
        client, peer = Client(timed, ours), Peer(theirs)
        client.x(lambda *values: clock.advance(1), 1)
        turn(timed, client)
        peer.sock.sendall(peer.packet(0, "call") * 100)
        start = clock.now
        client.io(timed.mux())
        assert clock.now - start == 1
        turn(timed, client)
        assert clock.now - start == 100


def test_the_end_of_a_server_is_told_by_has_requests(mux, connect, on_time, got):
    """The loop that every program has ends, whatever the server does."""
    for first in (b"\xff\xff\xff\xff", b"", None):
        client, peer = connect(codec="json", timeout=SHORT)
        client.x(got.error_taker("x"))
        if first is None:
            peer.sock.close()
        else:
            peer.sock.sendall(first)
        while client.has_requests():
            client.io(mux.mux())
        client.disconnect()
    assert [error for _, error in got] == [Disconnected, CallTimeout, Disconnected]
