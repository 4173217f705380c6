"""A client that gives its server only so many calls at a time."""

from __future__ import annotations

import gc
import socket

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.peers import Peer, turn
from support.records import warnings_of

from eventmux import EventMux
from rpcasync import CallCancelled, CallTimeout, Client, Disconnected, EncodeError
from rpcasync.errors import QueueFull


def names(packets):
    return [packet[1] for packet in packets]


def test_calls_leave_in_order_as_others_are_answered(mux, connect, got):
    client, peer = connect(limit=2)
    calls = [client.call(name, got.taker(name)) for name in "abcde"]
    turn(mux, client)
    assert peer.read() == [[0, "a"], [1, "b"]]
    assert [call.id for call in calls] == list(range(5))
    assert list(client.dump_requests().values()) == calls
    peer.send(1, "answer")
    turn(mux, client)
    assert peer.read() == [[2, "c"]]
    peer.send(0, "answer")
    peer.send(2, "answer")
    turn(mux, client)
    assert names(peer.read()) == ["d", "e"]
    assert got == [(name, ("answer",)) for name in "bac"]
    for id in (4, 3):
        peer.send(id, "answer")
    turn(mux, client)
    assert not client.has_requests()


def test_without_a_limit_all_leave(mux, connect):
    client, peer = connect()
    for name in "abcde":
        client.call(name)
    turn(mux, client)
    assert len(peer.read()) == 5


def test_what_is_answered_in_one_read_makes_room_for_as_many(mux, connect):
    client, peer = connect(limit=3)
    for number in range(8):
        client.x(number)
    turn(mux, client)
    for id, *_ in peer.read():
        peer.send(id)
    turn(mux, client)
    assert [packet[2] for packet in peer.read()] == [3, 4, 5]


def test_errors_make_room_too(mux, connect, got):
    client, peer = connect(limit=1)
    client.a(got.error_taker("a"))
    client.b(got.taker("b"))
    turn(mux, client)
    peer.send(0, "error", "no")
    turn(mux, client)
    assert names(peer.read()) == ["a", "b"]


def test_what_cannot_be_sent_is_an_error_at_the_call(mux, connect):
    client, peer = connect(limit=1)
    client.a()
    with pytest.raises(EncodeError, match=r"args\[0\]"):
        client.b({1})
    client.c()
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    assert peer.read() == [[0, "a"], [1, "c"]]


def test_values_are_those_of_the_call(mux, connect):
    client, peer = connect(limit=1)
    values = [1]
    client.a()
    client.b(values)
    values.append(2)
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    assert peer.read()[1] == [1, "b", [1]]


def test_a_callback_that_calls_stands_behind_those_that_wait(mux, connect):
    client, peer = connect(limit=1)
    client.a(lambda *values: client.later())
    client.b()
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    peer.send(1)
    turn(mux, client)
    assert names(peer.read()) == ["a", "b", "later"]


def test_nor_does_it_overtake_them_when_there_is_room(mux, connect):
    client, peer = connect(limit=2)
    client.a()
    client.b(lambda *values: client.later())
    client.c()
    turn(mux, client)
    peer.sock.sendall(peer.packet(0) + peer.packet(1))
    turn(mux, client)
    assert names(peer.read()) == ["a", "b", "c", "later"]


def test_waiting_for_calls_that_wait(mux, connect):
    client, peer = connect(limit=1)
    first, second, third = client.a(), client.b(), client.c()
    peer.send(0, 1)
    peer.send(1, 2)
    assert second.result(5) == (2,)
    assert first.done
    assert not client.wait(0, third)
    peer.send(2, 3)
    assert client.wait(5)
    assert third.result() == (3,)


def test_a_result_within_a_callback(mux, connect):
    client, peer = connect(limit=1)
    results = []
    client.a(lambda *values: results.append(client.b().result(5)))
    turn(mux, client)
    peer.send(0)
    peer.send(1, "b")
    turn(mux, client)
    assert results == [("b",)]


# Calls that end while they wait


def test_a_call_that_is_cancelled_is_never_sent(mux, connect):
    client, peer = connect(limit=1)
    client.a()
    second = client.b(lambda number: None, 1)
    client.c()
    assert client.has_coderefs() == 1
    assert second.cancel()
    assert client.has_coderefs() == 0
    with pytest.raises(CallCancelled):
        second.result()
    turn(mux, client)
    peer.send(0)
    turn(mux, client)
    assert names(peer.read()) == ["a", "c"]


def test_cancelling_one_that_is_under_way_makes_room(mux, connect):
    client, peer = connect(limit=1)
    first = client.a(lambda number: None, 1)
    second = client.b()
    turn(mux, client)
    first.cancel()
    turn(mux, client)
    assert names(peer.read()) == ["a", "b"]
    assert client.has_coderefs() == 1  # the server may still call it
    peer.send(first.id, "too late")
    turn(mux, client)
    assert list(client.dump_requests()) == [second.id]


def test_the_clients_timeout_begins_when_a_call_leaves(timed, clock, timed_connect, got):
    client, peer = timed_connect(limit=1, timeout=5)
    client.a(got.error_taker("a"))
    client.b(got.error_taker("b"))
    turn(timed, client)
    clock.advance(5)
    turn(timed, client)
    assert got == [("a", CallTimeout)]
    assert names(peer.read()) == ["a", "b"]
    clock.advance(4.9)
    turn(timed, client)
    assert len(got) == 1
    clock.advance(0.1)
    turn(timed, client)
    assert got[1:] == [("b", CallTimeout)]


def test_no_time_at_all_begins_then_too(timed, clock, timed_connect, got):
    client, _ = timed_connect(limit=1, timeout=0)
    client.a().set_timeout(None)
    first = next(iter(client.dump_requests().values()))
    client.b(got.error_taker("b"))
    turn(timed, client)
    assert not got
    first.cancel()
    turn(timed, client)
    assert got == [("b", CallTimeout)]


def test_the_time_of_a_procedure_begins_then_too(timed, clock, timed_connect, got):
    client, _ = timed_connect(limit=1)
    client.set_options("b", timeout=2)
    first = client.a()
    second = client.b(got.error_taker("b"))
    assert second.timeout == 2
    turn(timed, client)
    clock.advance(100)
    turn(timed, client)
    first.cancel()
    turn(timed, client)
    clock.advance(2)
    turn(timed, client)
    assert got == [("b", CallTimeout)]


@pytest.mark.parametrize("default", [None, 1, 100])
def test_the_time_of_a_single_call_counts_from_when_it_is_said(
    timed, clock, timed_connect, got, default
):
    client, peer = timed_connect(limit=1, timeout=default)
    client.a(lambda error: None).set_timeout(None)
    client.b(got.error_taker("b")).set_timeout(5)
    client.c(got.error_taker("c")).set_timeout(None)
    turn(timed, client)
    clock.advance(5)
    turn(timed, client)
    assert got == [("b", CallTimeout)]
    peer.send(0)
    turn(timed, client)
    clock.advance(1000)
    turn(timed, client)
    assert names(peer.read()) == ["a", "c"]
    assert len(got) == 1


def test_a_callback_of_a_call_that_timed_out_while_it_waited(timed, clock, timed_connect):
    client, _ = timed_connect(limit=1)
    client.a()
    client.b(print, 1).set_timeout(1)
    turn(timed, client)
    clock.advance(1)
    turn(timed, client)
    assert client.has_coderefs() == 0


# The end of the connection


def test_a_lost_connection_fails_all(mux, connect, got):
    client, peer = connect(limit=1)
    for name in "abc":
        client.call(name, got.error_taker(name))
    turn(mux, client)
    peer.sock.close()
    turn(mux, client)
    assert got == [(name, Disconnected) for name in "abc"]
    later = [client.later(got.error_taker("later")) for _ in range(3)]
    turn(mux, client)
    assert got[3:] == [("later", Disconnected)] * 3
    assert all(call.done for call in later)


def test_disconnect_fails_those_that_wait(mux, connect, got):
    client, peer = connect(limit=1)
    for name in "abc":
        client.call(name, got.error_taker(name))
    client.disconnect()
    turn(mux, client)
    peer.sock.settimeout(5)
    assert names(peer.read()) == ["a"]
    peer.sock.close()
    turn(mux, client)
    assert got == [(name, Disconnected) for name in "abc"]


def test_a_socket_that_is_not_watched_any_more(mux, connect, got):
    client, peer = connect(limit=1)
    for name in "ab":
        client.call(name, got.error_taker(name))
    turn(mux, client)
    peer.send(0)
    event = mux.mux(5)
    mux.remove(client.fh)
    client.io(event)
    turn(mux, client)
    client.fh.close()
    assert got == [("a", type(None)), ("b", Disconnected)]


def test_what_is_told_of_calls_that_never_left(mux, connect, caplog):
    client, peer = connect(limit=1)
    client.first()
    turn(mux, client)
    client.second()
    client.third()
    peer.read()
    del client
    gc.collect()
    assert len(warnings_of(caplog)) == 1
    assert "never sent: third, and perhaps some before it" in warnings_of(caplog)[0]


# How much may wait


def test_what_waits_is_limited(mux, connect):
    client, peer = connect(limit=1, max_outbuffer=3000)
    client.first()
    turn(mux, client)
    for _ in range(6):
        client.x("y" * 500)
    why = "x: 3[0-9]{3} bytes wait for a server that has 1 calls to answer, limit is 3000"
    with pytest.raises(QueueFull, match=why):
        client.x("y")
    peer.send(0)
    turn(mux, client)
    client.x()
    assert len(client.dump_requests()) == 7


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "1"])
def test_a_limit_that_is_none(mux, limit):
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match=f"limit is {limit!r}, must be 1 or more"):
        Client(mux, ours, limit=limit)


def test_calls_that_are_passed_on(mux, connect, serve):
    """A server has the client for its fallback: what waits is the packet that came."""
    client, behind = connect(limit=1)
    bench = serve({}, mux=mux, fallback=client)
    peer = bench.peer()
    peer.send_calls(("a",), ("b", "text", 2.5), ("c",))
    bench.turn()
    for name in "abc":
        ((id, *call),) = behind.read()
        assert call == {"a": ["a"], "b": ["b", "text", 2.5], "c": ["c"]}[name]
        behind.send(id, name)
        bench.turn()
    assert peer.read() == [[0, "a"], [1, "b"], [2, "c"]]


# Whatever happens


class Limited(RuleBasedStateMachine):
    """Calls are made, answered, cancelled and run out of time: never more than three are out."""

    LIMIT = 3

    def __init__(self):
        super().__init__()
        self.mux = EventMux()
        ours, theirs = socket.socketpair()
        self.client = Client(self.mux, ours, limit=self.LIMIT)
        self.peer = Peer(theirs)
        self.calls = {}  # by number
        self.sent = []  # numbers, in order
        self.out = {}  # ids of those whose answers are to come, by number
        self.ended = []
        self.dropped = set()

    def teardown(self):
        for call in self.calls.values():
            call.cancel()
        self.peer.sock.close()
        self.mux.__exit__()

    def look(self):
        turn(self.mux, self.client)
        for id, _, number, *_ in self.peer.read():
            self.sent.append(number)
            self.out[number] = id

    @rule(has_callback=st.booleans(), chained=st.booleans())
    def call(self, has_callback, chained):
        number = len(self.calls)

        def done(*values, error=None):
            self.ended.append(number)
            if chained and error is None:
                self.call(has_callback, False)

        args = [number, print] if has_callback else [number]
        self.calls[number] = self.client.call("x", *args, done)

    @rule()
    def turn(self):
        self.look()

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def answer(self, data):
        number = data.draw(st.sampled_from(sorted(self.out)))
        self.peer.send(self.out.pop(number), "done")

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def cancel(self, data):
        number = data.draw(st.sampled_from(sorted(self.calls)))
        if self.calls[number].cancel():
            self.ended.append(number)
            if number not in self.sent:
                self.dropped.add(number)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def expire(self, data):
        self.look()
        number = data.draw(st.sampled_from(sorted(self.calls)))
        if not self.calls[number].done and number not in self.sent:
            self.dropped.add(number)
        self.calls[number].set_timeout(0)
        self.look()

    @invariant()
    def what_holds(self):
        assert len(self.sent) == len(set(self.sent))
        assert self.sent == sorted(self.sent)
        assert len(self.ended) == len(set(self.ended))
        out = [number for number in self.sent if not self.calls[number].done]
        assert len(out) <= self.LIMIT

    @invariant()
    def all_room_is_used(self):
        self.look()
        waiting = [n for n, call in self.calls.items() if not call.done and n not in self.sent]
        out = [n for n in self.sent if not self.calls[n].done]
        assert len(out) == self.LIMIT or not waiting
        assert len(self.client.dump_requests()) == len(out) + len(waiting)


def test_whatever_happens():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(Limited)
