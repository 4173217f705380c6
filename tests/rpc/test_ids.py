"""The ids of calls and callbacks, which share one counter: none is used twice at a time."""

from __future__ import annotations

import json

import pytest
from support.peers import set_next_id

from rpcasync.errors import ProtocolError
from rpcasync.wire.codecs import get_codec
from rpcasync.wire.framing import LengthPrefix
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


@pytest.mark.parametrize("start", [0, 7, LAST - 1, LAST])
def test_whether_a_call_was_answered_that_was_made_since(protocol, server, start):
    set_next_id(protocol, start)
    before, _ = protocol.call("before", [], "before")
    since = protocol.next_id
    assert not protocol.has_answered_since(since)
    waits, _ = protocol.call("waits", [print], "waits")
    gives_up, _ = protocol.call("gives up", [], "gives up")
    protocol.abandon(gives_up)
    protocol.feed(server.result(before, ["answer"]))
    assert protocol.next_message() == Result("before", ["answer"])
    assert not protocol.has_answered_since(since)
    protocol.feed(server.result(waits, ["answer"]))
    assert protocol.next_message() == Result("waits", ["answer"])
    assert protocol.has_answered_since(since)
    assert not protocol.has_answered_since(protocol.next_id)
    set_next_id(protocol, start - 2)  # more calls since than a table of all of them could have
    assert protocol.has_answered_since(since)


def test_the_id_of_a_call_that_was_given_up_is_free_once_it_is_answered(protocol, server):
    protocol.call("x", [], "x")
    protocol.abandon(0)
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
    assert len(protocol.callbacks) == 0
    assert protocol.next_deadline() is None
    assert protocol.next_expired(100.0) is None


def test_a_server_that_never_answers_does_not_fill_the_memory(protocol, server):
    for _ in range(70_000):
        protocol.abandon(protocol.call("x", [], "x")[0])
    assert len(protocol._abandoned) == 65_536  # there is no other way to see it
    set_next_id(protocol, 69_999)
    assert protocol.call("y", [], "y")[0] == 70_000
    set_next_id(protocol, 0)
    assert protocol.call("y", [], "y")[0] == 0


WHOLE = [(b"1.0", 1), (b"1e3", 1000), (b"-0.0", 0), (b"-7.0", -7), (b"1.8e19", 18 * 10**18)]


@pytest.mark.parametrize(("text", "id"), [*WHOLE, (b"-1", -1), (b'"1"', "1"), (b'""', "")])
def test_ids_of_json(text, id):
    """A whole number is the integer, and goes back as one; text is text."""
    server = ServerProtocol()
    server.feed(LengthPrefix().frame(b"[" + text + b',"x"]'))
    request = server.next_message()
    assert (request.id, type(request.id)) == (id, type(id))
    assert server.result(request.id, [5])[4:] == b"[%s,5]" % json.dumps(id).encode()
    callback = b'[1,"x",{"RPC::Async::Coderef":{"id":' + text + b"}}]"
    server.feed(LengthPrefix().frame(callback))
    (ref,) = server.next_message().args
    assert (ref, type(ref.id)) == (CallbackRef(id), type(id))


@pytest.mark.parametrize("text", [b"true", b"null", b"1.5", b"[1]", b"{}", b"1e300", b"2e19"])
def test_what_is_no_id_in_json(text):
    server = ServerProtocol()
    server.feed(LengthPrefix().frame(b"[" + text + b',"x"]'))
    with pytest.raises(ProtocolError, match="not a packet: "):
        server.next_message()


def test_an_answer_to_a_whole_number():
    client = ClientProtocol(get_codec("json"))
    client.call("x", [], "zero")
    client.call("x", [], "one")
    client.feed(LengthPrefix().frame(b"[1.0,5]") + LengthPrefix().frame(b"[0e0]"))
    assert client.next_message() == Result("one", [5])
    assert client.next_message() == Result("zero", [])
