"""Calls that are not wanted any more, and calls from where there may be none."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from support.fakes import WouldWaitForEver
from support.peers import turn
from support.records import warnings_of

from rpcasync import CallTimeout
from rpcasync.errors import CallCancelled, RemoteError, RPCError


@pytest.fixture
def mux(timed):
    return timed


# Memory


def test_an_error_that_was_asked_for_does_not_keep_its_call(mux, pair):
    class Argument(str):
        """What a weak reference can tell of."""

    client, peer = pair
    argument = Argument("x")
    known = weakref.ref(argument)
    call = client.call("x", argument)
    del argument
    peer.send(0, "error", "boom")
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(RemoteError):
            call.result()
        del call
        assert known() is None
    finally:
        gc.enable()


# Cancelled


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
    assert warnings_of(caplog) == []
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


# Failures that nobody asks for


def fail(mux, client, peer, call, **options):
    peer.send(call.id, "error", "no such thing")
    turn(mux, client)


def test_a_failure_that_nobody_asks_for_is_logged(mux, pair, caplog):
    client, peer = pair
    call = client.x()
    fail(mux, client, peer, call)
    assert warnings_of(caplog) == []  # somebody may still ask
    del call
    gc.collect()
    assert warnings_of(caplog) == ["a call without a callback failed: x: no such thing"]


def test_a_failure_that_is_known_is_not(mux, pair, caplog):
    client, peer = pair
    call = client.x()
    fail(mux, client, peer, call)
    with pytest.raises(RemoteError, match="no such thing"):
        call.result()
    with_callback = client.x(lambda error: None)
    fail(mux, client, peer, with_callback)
    answered, cancelled, lost = client.x(), client.x(), client.x()
    cancelled.cancel()
    peer.send(answered.id, 1)
    turn(mux, client)
    client.disconnect()
    turn(mux, client)
    del call, with_callback, answered, cancelled, lost
    gc.collect()  # so that nothing is left to tell of later
    assert warnings_of(caplog) == []
