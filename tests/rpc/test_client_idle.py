"""When a client has work, and when it disconnects by itself because it has none."""

from __future__ import annotations

import contextlib
import socket

import pytest
from support.peers import turn

from rpcasync import CallCancelled, Client, Disconnected


def ended(peer):
    peer.read()
    return peer.ended


def test_it_disconnects_when_the_last_call_is_answered(mux, connect, got):
    client, peer = connect(close_on_idle=True)
    client.a(got.taker("a"))
    client.b(got.taker("b"))
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    assert not ended(peer)
    peer.send(1)
    while client.has_work():
        client.io(mux.mux(5))
    assert got == [("a", ()), ("b", ())]
    assert ended(peer)
    assert [event.type for event in mux] == ["closed"]


def test_not_before_the_first_call(mux, connect):
    client, peer = connect(close_on_idle=True)
    assert not client.has_work()
    turn(mux, client)
    assert not ended(peer)


def test_not_without_being_asked_to(mux, connect):
    client, peer = connect()
    client.a()
    assert client.has_work()
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    assert not client.has_work()
    assert not ended(peer)


def test_a_callback_that_calls_goes_on(mux, connect, got):
    client, peer = connect(close_on_idle=True)
    client.a(lambda: client.b(got.taker("b")))
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    assert not ended(peer)
    peer.send(1)
    turn(mux, client)
    assert ended(peer)
    assert got == [("b", ())]


def test_functions_that_the_server_may_call_are_work(mux, connect, got):
    client, peer = connect(close_on_idle=True)
    client.watch(got.taker("watch"), 1)
    turn(mux, client)
    peer.send(1)
    turn(mux, client)
    assert client.has_work()
    assert not ended(peer)
    peer.send(0, "call", 7)
    peer.send(0, "destroy")
    turn(mux, client)
    assert got == [("watch", (7,))]
    assert not client.has_work()
    assert ended(peer)


def test_several_results_in_a_row(mux, connect):
    client, peer = connect(close_on_idle=True)
    for id in range(3):
        call = client.x(id)
        peer.send(id, id)
        assert call.result(5) == (id,)
        assert not ended(peer)
    while client.has_work():
        client.io(mux.mux(5))
    assert ended(peer)


def test_a_result_in_a_callback(mux, connect, got):
    client, peer = connect(close_on_idle=True)
    client.a(lambda: got.append(client.b().result(5)))
    turn(mux, client)
    peer.send(0)
    peer.send(1, "b")
    turn(mux, client)
    assert got == [("b",)]
    assert ended(peer)


def test_a_call_that_is_cancelled_was_the_last(mux, connect):
    client, peer = connect(close_on_idle=True)
    call = client.a()
    turn(mux, client)
    call.cancel()
    assert client.has_work()
    while client.has_work():
        client.io(mux.mux(5))
    assert ended(peer)
    with pytest.raises(CallCancelled):
        call.result()


def test_a_call_that_fails_was_the_last(mux, connect, got):
    client, peer = connect(close_on_idle=True)
    client.a(got.error_taker("a"))
    client.b(lambda: None)
    turn(mux, client)
    peer.send(1, "unexpected")
    with pytest.raises(TypeError):
        turn(mux, client)
    peer.send(0, "error", "no")
    turn(mux, client)
    assert ended(peer)


def test_an_exception_of_the_last_callback_comes_out_all_the_same(mux, connect):
    client, peer = connect(close_on_idle=True)
    client.a(lambda: 1 / 0)
    turn(mux, client)
    peer.send(0)
    with pytest.raises(ZeroDivisionError):
        turn(mux, client)
    turn(mux, client)
    assert ended(peer)


def test_the_timeout_of_the_last_call(timed, clock, got):
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client(timed, ours, close_on_idle=True, timeout=5)
        client.a(got.error_taker("a"))
        while client.has_work():
            client.io(timed.mux())
        assert len(got) == 1
        assert [event.type for event in timed] == ["closed"]


def test_a_call_behind_the_end(mux, connect):
    client, peer = connect(close_on_idle=True)
    client.a()
    peer.send(0)
    turn(mux, client)
    with pytest.raises(Disconnected):
        client.b().result(5)
    assert not client.has_work()


def test_a_lost_connection_leaves_no_work(mux, connect, got):
    client, peer = connect(close_on_idle=True)
    client.watch(got.taker("watch"), got.error_taker("lost"))
    turn(mux, client)
    peer.sock.close()
    while client.has_work():
        client.io(mux.mux(5))
    assert got == [("lost", Disconnected)]
    assert client.has_coderefs() == 0


def test_what_is_to_be_sent_after_disconnect_is_work(mux, connect):
    client, peer = connect()
    client.a("x" * 3_000_000)
    client.disconnect()
    size = 0
    while client.has_work():
        client.io(mux.mux(0))
        with contextlib.suppress(BlockingIOError):
            size += len(peer.sock.recv(1_000_000))
    assert size >= 3_000_000
    assert not client.has_requests()


def test_with_a_limit(mux, connect):
    client, peer = connect(close_on_idle=True, limit=1)
    for _ in range(3):
        client.a()
    for id in range(3):
        assert client.has_work()
        peer.send(id)
        turn(mux, client)
    assert not client.has_work()
    assert [packet[0] for packet in peer.read()] == [0, 1, 2]
    assert ended(peer)


def test_a_mux_that_has_ended(mux, connect):
    client, peer = connect(close_on_idle=True)
    client.a()
    peer.send(0)
    client.wait(5)
    mux.__exit__()
    client.io(client._inbox.wake_event)
    assert not client.has_work()
