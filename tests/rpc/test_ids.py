"""The ids of calls and callbacks, which share one counter: none is used twice at a time."""

from __future__ import annotations

import pytest
from support.peers import set_next_id

from rpcasync.wire.codecs import get_codec
from rpcasync.wire.messages import CallbackRef, Failure, Invoke, Release, Result
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

LAST = 0x7FFFFFFF


@pytest.fixture
def protocol(codec):
    return ClientProtocol(get_codec(codec))


@pytest.fixture
def server(codec):
    return ServerProtocol([get_codec(codec)])


def args_of(server, packet):
    server.feed(packet)
    return server.next_message().args


def test_ids_in_use_are_skipped_when_the_counter_begins_anew(protocol, server):
    protocol.call("pending", [], "pending")
    protocol.call("given up", [], "given up")
    protocol.abandon(1)
    _, packet = protocol.call("callback", [print], "callback")
    assert args_of(server, packet) == [CallbackRef(2)]
    set_next_id(protocol, LAST)
    assert protocol.call("last", [], "last")[0] == LAST
    id, packet = protocol.call("first", [[min], max], "first")
    assert args_of(server, packet) == [[CallbackRef(4)], CallbackRef(5)]
    assert id == 6
    assert set(protocol.callbacks) == {2, 4, 5}
    assert dict(protocol.pending) == {0: "pending", 3: "callback", LAST: "last", 6: "first"}


def test_callbacks_across_the_end_of_the_counter(protocol, server):
    set_next_id(protocol, LAST - 1)
    id, packet = protocol.call("x", [print] * 4, "x")
    assert [ref.id for ref in args_of(server, packet)] == [LAST - 1, LAST, 0, 1]
    assert id == 2
    assert protocol.call("y", [], "y")[0] == 3


def test_the_id_of_a_call_that_was_given_up_is_free_once_it_is_answered(protocol, server):
    protocol.call("x", [], "x")
    assert protocol.abandon(0) == "x"
    set_next_id(protocol, 0)
    assert protocol.call("y", [], "y")[0] == 1
    protocol.feed(server.result(0, ["late"]))
    assert protocol.next_message() is None
    set_next_id(protocol, 0)
    assert protocol.call("z", [], "z")[0] == 0
    protocol.feed(server.result(0, ["right"]))
    assert protocol.next_message() == Result("z", ["right"])


def test_the_id_of_a_callback_is_free_once_it_is_released(protocol, server):
    protocol.call("x", [print], "x")
    protocol.feed(server.invoke(0, [1]) + server.release(0) + server.failure(1, "no"))
    assert protocol.next_message() == Invoke(print, [1])
    assert protocol.next_message() == Release(print)
    assert protocol.next_message() == Failure("x", "no")
    set_next_id(protocol, 0)
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


def test_a_server_that_never_answers_does_not_fill_the_memory(protocol, server):
    for _ in range(70_000):
        protocol.abandon(protocol.call("x", [], "x")[0])
    assert len(protocol._abandoned) == 65_536  # there is no other way to see it
    set_next_id(protocol, 69_999)
    assert protocol.call("y", [], "y")[0] == 70_000
    set_next_id(protocol, 0)
    assert protocol.call("y", [], "y")[0] == 0
