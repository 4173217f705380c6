"""Calls that take too long, on a clock that only the tests move."""

from __future__ import annotations

import pytest
from support.fakes import WouldWaitForEver
from support.peers import turn
from support.records import warnings_of

from rpcasync import CallTimeout, Client, Disconnected


@pytest.fixture
def mux(timed):
    return timed


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
    assert warnings_of(caplog) == []


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
    with pytest.raises(ValueError, match="timeout is .* must be 0 seconds or more"):
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


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True, "5"])
def test_what_cannot_be_waited_for(mux, connect, timeout):
    client, _peer = connect()
    call = client.x()
    error = ValueError if type(timeout) in (int, float) else TypeError
    for wait in (call.result, client.wait, call.set_timeout, client.disconnect):
        with pytest.raises(error, match=r"(timeout|grace) is .*, must be"):
            wait(timeout)
    with pytest.raises(TypeError, match="grace is None"):
        client.disconnect(None)
    assert client.has_requests()
    assert mux.handles() == [client.fh]
