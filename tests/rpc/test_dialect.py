"""A peer that speaks RPC::Async 2.0 is told so, at its first packet; nobody else is taken for one.

The bytes of a real Perl are in tests/integration/test_dialect_perl.py.
"""

from __future__ import annotations

import logging
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings
from support.peers import turn
from support.strategies import trees

from rpcasync import Disconnected
from rpcasync.errors import EncodeError, ProtocolError
from rpcasync.storable import thaw
from rpcasync.wire.codecs import JSONCodec, StorableCodec
from rpcasync.wire.dialect import OtherDialect
from rpcasync.wire.framing import LengthPrefix
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

PERL = StorableCodec(typed=False)
NAMED = "speaks RPC::Async 2.0, which was never released; this is 1.05: see porting.md"


def packet(*values, codec=PERL):
    """Return a packet of 2.0: its length does not count itself."""
    payload = codec.encode([*values])
    return struct.pack("!I", len(payload)) + payload


def refusal(protocol, *chunks):
    """Return what the protocol raises when it has read these bytes; None if it does not."""
    for chunk in chunks:
        protocol.feed(chunk)
    try:
        while protocol.next_message() is not None:
            pass
    except ProtocolError as error:
        return error
    return None


def called(*procedures):
    protocol = ClientProtocol(StorableCodec())
    for procedure in procedures or ("x",):
        protocol.call(procedure, [lambda: None], procedure)
    return protocol


# A server


def test_a_client_of_2_0_is_told_in_its_own_form(serve, caplog):
    bench = serve()
    peer, other = bench.peer(), bench.peer()
    peer.sock.sendall(packet(1, "note", "a"))
    bench.turn()
    answer = peer.sock.recv(1000)
    (length,) = struct.unpack("!I", answer[:4])
    assert length == len(answer) - 4
    text = "the server speaks RPC::Async 1.05, and this client 2.0"
    assert thaw(answer[4:]) == [1, "die", [text]]
    assert (peer.read(), peer.ended) == ([], True)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert line.endswith(f"disconnected: {NAMED}")
    assert bench.ask(other, 0, "note", "b") == [[0, "b"]]


@given(st.integers(1, 2**31 - 1), st.lists(trees, max_size=4), st.lists(trees, max_size=4))
def test_any_request_of_2_0_is_known(number, args, behind):
    try:
        first, second = packet(number, "name", *args), packet(number, "name", *behind)
    except EncodeError:
        return
    for stream in (first, first + second):
        error = refusal(ServerProtocol(), stream)
        assert isinstance(error, OtherDialect)
        assert thaw(error.answer[4:])[:2] == [number, "die"]


@given(st.integers(1, 2**31 - 1), st.data())
def test_in_whatever_pieces_it_comes(number, data):
    stream = packet(number, "name", *range(10))
    chunks = data.draw(chunkings(stream))
    error = refusal(ServerProtocol(), *chunks)
    assert isinstance(error, OtherDialect)


def test_the_last_bytes_of_it_are_not_waited_for():
    error = refusal(ServerProtocol(), packet(1, "name", "abcdef")[:-1])
    assert error is not None
    assert not isinstance(error, OtherDialect)


@given(st.integers(0, 2**31 - 1), st.lists(trees, max_size=4))
def test_a_request_of_1_05_is_none(number, args):
    try:
        payload = PERL.encode([number, "name", *args])
    except EncodeError:
        return
    framed = LengthPrefix().frame(payload)
    assert refusal(ServerProtocol(), framed + framed) is None
    assert not isinstance(refusal(ServerProtocol(), framed, b"\0\0\0\0"), OtherDialect)


@given(st.binary(min_size=3, max_size=60), st.binary(max_size=8))
def test_garbage_is_none(payload, behind):
    framed = LengthPrefix().frame(b"\x05\x0b" + payload)
    for protocol in (ServerProtocol(), called()):
        assert not isinstance(refusal(protocol, framed + behind), OtherDialect)


@given(st.integers(1, 100), st.lists(trees, max_size=3), st.integers(0, 10**9), st.integers(1, 255))
def test_a_damaged_request_of_2_0_is_no_other_kind_of_failure(number, args, place, change):
    try:
        stream = bytearray(packet(number, "name", *args))
    except EncodeError:
        return
    stream[place % len(stream)] ^= change
    error = refusal(ServerProtocol(), bytes(stream))
    assert error is None or isinstance(error, ProtocolError)


@pytest.mark.parametrize(
    "stream",
    [
        packet(1),
        packet({}, "name"),
        packet(1, ["name"]),
        packet(1, "name", codec=JSONCodec()),
        packet(1, "name", *[None] * 4)[:-4] + b"\x99\x99\x99\x99",
    ],
    ids=["no name", "no id", "a list for a name", "JSON", "another end"],
)
def test_what_is_nearly_a_request_of_2_0(stream):
    error = refusal(ServerProtocol(), stream)
    assert isinstance(error, ProtocolError)
    assert not isinstance(error, OtherDialect)


def test_only_the_first_packet_of_a_client_is_looked_at():
    good = LengthPrefix().frame(PERL.encode([0, "name"]))
    error = refusal(ServerProtocol(), good + packet(1, "name"))
    assert isinstance(error, ProtocolError)
    assert not isinstance(error, OtherDialect)


# A client


def test_a_server_of_2_0(connect, mux, caplog):
    client, peer = connect()
    call = client.x()
    turn(mux, client)
    peer.sock.sendall(packet(0, "result", ["sum", 5]))
    with pytest.raises(Disconnected, match=NAMED.replace(".", r"\.")):
        call.result(5)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [NAMED]


@pytest.mark.parametrize(
    "values", [("result", [1]), ("die", ["no"]), ("call", [1]), ("destroy", [])]
)
def test_whatever_it_sends_first(values):
    assert isinstance(refusal(called(), packet(1, *values)), OtherDialect)


@given(st.lists(trees, max_size=4))
def test_any_answer_of_2_0_is_known(args):
    try:
        stream = packet(1, "result", [*args])
    except EncodeError:
        return
    assert isinstance(refusal(called(), stream), OtherDialect)


@pytest.mark.parametrize(
    "values",
    [(), ("result",), ("result", 1), ("other", []), ("result", [], []), (["result"], [])],
    ids=repr,
)
def test_what_is_nearly_an_answer_of_2_0(values):
    error = refusal(called(), packet(1, *values))
    assert isinstance(error, ProtocolError)
    assert not isinstance(error, OtherDialect)


def test_only_the_first_packet_of_a_server_is_looked_at():
    good = LengthPrefix().frame(PERL.encode([1, "an answer"]))
    error = refusal(called(), good + packet(0, "result", []))
    assert not isinstance(error, OtherDialect)
    assert isinstance(error, ProtocolError)
