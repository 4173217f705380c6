"""Calls that take too long or are not wanted any more, on a clock that only the tests move."""

from __future__ import annotations

import logging
import socket
import threading

import pytest
from support.fakes import ClockedSelector, FakeClock, WouldWaitForEver
from support.peers import Peer

from eventmux import EventMux
from rpcasync import CallTimeout, Client, Disconnected, JSONCodec, StorableCodec
from rpcasync.errors import CallCancelled, RPCError
from rpcasync.messages import CallbackRef, Failure, Invoke, Release, Result
from rpcasync.protocol import ClientProtocol, ServerProtocol


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def selector(clock):
    return ClockedSelector(clock)


@pytest.fixture
def mux(clock, selector):
    with EventMux(selector=selector, clock=clock) as mux:
        yield mux


@pytest.fixture
def connect(mux):
    peers = []

    def connect(**options):
        ours, theirs = socket.socketpair()
        peers.append(Peer(theirs))
        return Client(mux, ours, **options), peers[-1]

    yield connect
    for peer in peers:
        peer.sock.close()


@pytest.fixture
def pair(connect):
    return connect()


def turn(mux, *clients):
    """Run the loop until nothing happens; return the events that were nobody's."""
    foreign = []
    while (event := mux.mux(0)).type != "timeout":
        for client in clients:
            event = client.io(event)
        if event is not None:
            foreign.append(event)
    return foreign


class Outcomes(list):
    """Makes callbacks that note what they are given."""

    def taker(self, name):
        return lambda *values: self.append((name, values))

    def error_taker(self, name):
        def done(*, error=None, **named):
            self.append((name, type(error)))

        return done


@pytest.fixture
def got():
    return Outcomes()


# Timeouts of a client


def test_a_call_that_takes_too_long(mux, clock, connect, got, caplog):
    client, peer = connect(timeout=5)
    call = client.slow(got.error_taker("slow"))
    start = clock.now
    assert turn(mux, client) == []
    clock.advance(4.9)
    assert turn(mux, client) == []
    assert (got, call.done) == ([], False)
    assert client.io(mux.mux()) is None
    assert clock.now == pytest.approx(start + 5)
    assert got == [("slow", CallTimeout)]
    assert repr(call) == "<Call 0 slow failed>"
    assert not client.has_requests()
    with pytest.raises(CallTimeout, match="slow: no answer within 5 seconds"):
        call.result()
    peer.send(0, "too late")
    other = client.fast()
    turn(mux, client)
    assert other.id == 1
    peer.send(1, "in time")
    turn(mux, client)
    assert other.result() == ("in time",)
    assert len(got) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_without_a_place_for_it_the_error_is_raised(mux, clock, connect, got):
    client, _peer = connect(timeout=5)
    client.first(got.taker("first"))
    client.second(got.error_taker("second"))
    turn(mux, client)
    clock.advance(5)
    with pytest.raises(CallTimeout, match="first: no answer within 5 seconds"):
        turn(mux, client)
    assert got == [("second", CallTimeout)]
    assert isinstance(CallTimeout("x"), TimeoutError)


def test_calls_expire_one_by_one(mux, clock, connect, got):
    client, peer = connect(timeout=5)
    for name in ("a", "b", "c"):
        client.call(name, got.error_taker(name))
        clock.advance(1)
    turn(mux, client)
    peer.send(1, "fine", 1)
    turn(mux, client)
    assert got == [("b", type(None))]
    start = clock.now
    client.io(mux.mux())
    assert (got[1:], clock.now - start) == ([("a", CallTimeout)], pytest.approx(2))
    client.io(mux.mux())
    assert (got[2:], clock.now - start) == ([("c", CallTimeout)], pytest.approx(4))
    with pytest.raises(WouldWaitForEver):
        mux.mux()


def test_no_timer_is_left_of_what_has_ended(mux, connect):
    client, peer = connect(timeout=5)
    answered, cancelled = client.a(), client.b()
    turn(mux, client)
    peer.send(answered.id)
    turn(mux, client)
    cancelled.cancel()
    with pytest.raises(WouldWaitForEver):
        mux.mux()
    client.c().set_timeout(None)
    turn(mux, client)
    with pytest.raises(WouldWaitForEver):
        mux.mux()


def test_a_lost_connection_leaves_no_timer(mux, connect, got):
    client, peer = connect(timeout=5)
    client.a(got.error_taker("a"))
    peer.sock.close()
    turn(mux, client)
    late = client.b(got.error_taker("b"))
    turn(mux, client)
    assert got == [("a", Disconnected), ("b", Disconnected)]
    late.set_timeout(1)
    assert mux.mux() is None


def test_a_timer_of_another_client_is_left_alone(mux, clock, connect, got):
    first, _ = connect(timeout=5)
    second, _ = connect(timeout=5)
    mine = mux.timer(5, "mine")
    first.a(got.error_taker("a"))
    second.b(got.error_taker("b"))
    turn(mux, first, second)
    clock.advance(6)
    assert [event.data for event in turn(mux, first, second)] == ["mine"]
    assert got == [("a", CallTimeout), ("b", CallTimeout)]
    mine.cancel()


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_timeouts_that_are_none(mux, pair, timeout):
    client, peer = pair
    with pytest.raises(ValueError, match="timeout is .* must be a number of seconds, or None"):
        Client(mux, peer.sock, timeout=timeout)
    call = client.x()
    with pytest.raises(ValueError, match="timeout is"):
        call.set_timeout(timeout)
    with pytest.raises(ValueError, match="grace is"):
        client.disconnect(timeout)
    assert not call.done


# Timeouts of a call


@pytest.mark.parametrize(("of_client", "of_call"), [(None, 2), (5, 2), (1, 3), (5, 0)])
def test_the_timeout_of_a_call_counts(mux, clock, connect, got, of_client, of_call):
    client, _peer = connect(timeout=of_client)
    start = clock.now
    call = client.x(got.error_taker("x"))
    assert call.set_timeout(of_call) is call
    turn(mux, client)
    while not got:
        client.io(mux.mux())
    assert clock.now == pytest.approx(start + of_call)


def test_a_call_may_take_for_ever_after_all(mux, clock, connect, got):
    client, peer = connect(timeout=5)
    call = client.x(got.taker("x")).set_timeout(None)
    turn(mux, client)
    clock.advance(1000)
    turn(mux, client)
    assert not call.done
    peer.send(0, "late, but fine")
    turn(mux, client)
    assert got == [("x", ("late, but fine",))]


def test_a_timeout_may_be_put_off(mux, clock, pair, got):
    client, _peer = pair
    call = client.x(got.error_taker("x")).set_timeout(2)
    for _ in range(100):
        clock.advance(1)
        call.set_timeout(2)
        turn(mux, client)
    assert got == []
    clock.advance(2)
    turn(mux, client)
    assert got == [("x", CallTimeout)]


def test_a_call_that_has_ended_has_no_timeout(mux, pair):
    client, peer = pair
    call = client.x()
    turn(mux, client)
    peer.send(0, "fine")
    turn(mux, client)
    call.set_timeout(0)
    with pytest.raises(WouldWaitForEver):
        mux.mux()
    assert call.result() == ("fine",)


# Waiting while a timeout fires


def test_result_ends_with_the_timeout_of_the_call(mux, clock, connect):
    client, _peer = connect(timeout=2)
    start = clock.now
    for limit in (None, 60, 2):
        call = client.x()
        with pytest.raises(CallTimeout, match="x: no answer"):
            call.result(limit)
        assert call.done
    assert clock.now == pytest.approx(start + 6)
    assert turn(mux, client) == []


def test_result_ends_before_the_timeout_of_the_call(mux, clock, connect):
    client, peer = connect(timeout=5)
    call = client.x()
    with pytest.raises(CallTimeout, match="x: no answer within 2 seconds"):
        call.result(2)
    assert not call.done
    with pytest.raises(CallTimeout, match="within 2 seconds"):
        call.result(2)
    peer.send(0, "fine")
    assert call.result(2) == ("fine",)


def test_the_timeout_of_another_call_while_one_waits(mux, clock, selector, pair, got):
    client, peer = pair
    client.a(got.error_taker("a")).set_timeout(1)
    client.b(got.taker("b")).set_timeout(2)
    call = client.c()
    turn(mux, client)
    selector.meanwhile.append((1.5, lambda: peer.send(call.id, "fine")))
    start = clock.now
    with pytest.raises(CallTimeout, match="b: no answer within 2 seconds"):
        call.result()  # its callback has no place for it
    assert got == [("a", CallTimeout)]
    assert call.result() == ("fine",)
    assert clock.now == pytest.approx(start + 2 + 1.5)
    assert turn(mux, client) == []


def test_wait(mux, clock, selector, connect):
    client, peer = connect(timeout=5)
    a, b = client.a(), client.b().set_timeout(2)
    start = clock.now
    assert client.wait(1) is False
    assert client.wait(1.5, b) is True
    assert clock.now == pytest.approx(start + 2)
    assert client.wait(1, a) is False
    assert clock.now == pytest.approx(start + 3)
    selector.meanwhile.append((1, lambda: peer.send(a.id, "fine")))
    assert client.wait(None) is True
    assert clock.now == pytest.approx(start + 4)
    assert (a.result(), b.done) == (("fine",), True)
    assert client.wait(0) is True
    assert turn(mux, client) == []


# Calls that are cancelled


def test_cancel(mux, pair, got, caplog):
    client, peer = pair
    call, other = client.x(got.taker("x")), client.y(got.taker("y"))
    assert call.cancel() is True
    assert call.cancel() is False
    assert call.done
    assert list(client.dump_requests().values()) == [other]
    with pytest.raises(CallCancelled, match="x: cancelled"):
        call.result()
    assert issubclass(CallCancelled, RPCError)
    turn(mux, client)
    assert peer.read() == [[0, "x"], [1, "y"]]  # the server is not told
    peer.send(0, "late")
    peer.send(1, "fine")
    turn(mux, client)
    assert got == [("y", ("fine",))]
    assert other.cancel() is False
    assert other.result() == ("fine",)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    peer.send(0, "twice")
    turn(mux, client)
    assert "not pending, id 0" in caplog.text


def test_cancel_from_the_callback_of_a_call_that_was_answered_in_the_same_read(mux, pair, got):
    client, peer = pair
    client.a(lambda *values: second.cancel())
    second = client.b(got.taker("b"))
    turn(mux, client)
    peer.sock.sendall(peer.packet(0) + peer.packet(1, "too late"))
    turn(mux, client)
    assert got == []
    assert not client.has_requests()


def test_a_call_that_is_cancelled_does_not_fail_with_the_connection(mux, connect, got):
    client, peer = connect(timeout=5)
    client.x(got.error_taker("x")).cancel()
    peer.sock.close()
    turn(mux, client)
    assert got == []
    assert mux.mux() is None


def test_callbacks_outlive_a_call_that_was_given_up(mux, clock, pair, got):
    client, peer = pair
    client.x(got.taker("cancelled"), None).cancel()
    client.y(got.taker("expired"), got.error_taker("y")).set_timeout(1)
    turn(mux, client)
    clock.advance(1)
    turn(mux, client)
    peer.send(0, "call", 1)
    peer.send(2, "call", 2)
    turn(mux, client)
    assert got == [("y", CallTimeout), ("cancelled", (1,)), ("expired", (2,))]
    assert client.has_coderefs() == 2
    for id in (0, 2):
        peer.send(id, "destroy")
    turn(mux, client)
    assert client.has_coderefs() == 0


# Ids

CODECS = [StorableCodec(), JSONCodec()]
LAST = 0x7FFFFFFF


@pytest.fixture(params=CODECS, ids=lambda codec: codec.name)
def protocol(request):
    return ClientProtocol(request.param)


def args_of(protocol, packet):
    server = ServerProtocol()
    server.feed(packet)
    return server.next_message().args


def test_ids_in_use_are_skipped_when_the_counter_begins_anew(protocol):
    protocol.call("pending", [], "pending")
    protocol.call("given up", [], "given up")
    protocol.abandon(1)
    _, packet = protocol.call("callback", [print], "callback")
    assert args_of(protocol, packet) == [CallbackRef(2)]
    protocol._next_id = LAST
    assert protocol.call("last", [], "last")[0] == LAST
    id, packet = protocol.call("first", [[min], max], "first")
    assert args_of(protocol, packet) == [[CallbackRef(4)], CallbackRef(5)]
    assert id == 6
    assert set(protocol.callbacks) == {2, 4, 5}
    assert dict(protocol.pending) == {0: "pending", 3: "callback", LAST: "last", 6: "first"}


def test_callbacks_across_the_end_of_the_counter(protocol):
    protocol._next_id = LAST - 1
    id, packet = protocol.call("x", [print] * 4, "x")
    assert [ref.id for ref in args_of(protocol, packet)] == [LAST - 1, LAST, 0, 1]
    assert id == 2
    assert protocol.call("y", [], "y")[0] == 3


def test_the_id_of_a_call_that_was_given_up_is_free_once_it_is_answered(protocol):
    protocol.call("x", [], "x")
    assert protocol.abandon(0) == "x"
    protocol._next_id = 0
    assert protocol.call("y", [], "y")[0] == 1
    protocol.feed(ServerProtocol([protocol._codec]).result(0, ["late"]))
    assert protocol.next_message() is None
    protocol._next_id = 0
    assert protocol.call("z", [], "z")[0] == 0
    protocol.feed(ServerProtocol([protocol._codec]).result(0, ["right"]))
    assert protocol.next_message() == Result("z", ["right"])


def test_the_id_of_a_callback_is_free_once_it_is_released(protocol):
    server = ServerProtocol([protocol._codec])
    protocol.call("x", [print], "x")
    protocol.feed(server.invoke(0, [1]) + server.release(0) + server.failure(1, "no"))
    assert protocol.next_message() == Invoke(print, [1])
    assert protocol.next_message() == Release(print)
    assert protocol.next_message() == Failure("x", "no")
    protocol._next_id = 0
    assert protocol.call("y", [], "y")[0] == 0


def test_nothing_is_left_after_the_end(protocol):
    protocol.call("x", [print], "x")
    protocol.call("y", [], "y")
    protocol.set_deadline(1, 5.0)
    protocol.abandon(1)
    protocol.call("z", [], "z")
    protocol.set_deadline(3, 6.0)
    assert protocol.next_deadline() == 6.0
    assert protocol.connection_lost() == ["y", "z"]
    assert (len(protocol.pending), len(protocol.callbacks)) == (0, 0)
    assert protocol.next_deadline() is None
    assert protocol.expire(100.0) == []


# Threads


def test_other_threads_are_refused(mux, pair, got):
    client, peer = pair
    call = client.x()
    attempts = {
        "call": lambda: client.call("y"),
        "attribute": lambda: client.y(print, 1),
        "result": call.result,
        "wait": lambda: client.wait(0),
        "cancel": call.cancel,
        "set_timeout": lambda: call.set_timeout(5),
    }

    def attempt():
        for name, action in attempts.items():
            try:
                action()
            except RuntimeError as error:
                got.append((name, str(error)))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert [name for name, _ in got] == list(attempts)
    assert all("belongs to another thread" in text for _, text in got)
    assert list(client.dump_requests()) == [0]
    turn(mux, client)
    assert peer.read() == [[0, "x"]]
    with pytest.raises(WouldWaitForEver):
        mux.mux()
