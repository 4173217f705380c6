"""What the log says of a port that is mixed up: by name, and not as a packet of 1.3 GB."""

from __future__ import annotations

import contextlib
import gc
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings

from rpcasync.errors import FrameTooLarge, ProtocolError
from rpcasync.wire.codecs import StorableCodec
from rpcasync.wire.framing import LengthPrefix
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

PROXY = "a PROXY header: listen(..., proxy='require', trusted=[...]) for clients behind proxies"
HELLO = "a TLS handshake: listen at tls:// for clients with TLS"
ALERT = "a TLS alert: tls:// is for peers with TLS"
CLIENTS = {
    b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n": PROXY,
    bytes.fromhex("0D0A0D0A000D0A515549540A2111000C"): PROXY,
    bytes.fromhex("160301020001"): HELLO,
    bytes.fromhex("15030100020228"): ALERT,
    **{
        f"{method} / HTTP/1.1\r\n\r\n".encode(): "an HTTP request"
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    },
    b"CONNECT example.org:443 HTTP/1.1\r\n\r\n": "an HTTP request",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "an HTTP request",
}
SERVERS = {
    bytes.fromhex("15030100020228"): ALERT,
    b"HTTP/1.1 400 Bad Request\r\n\r\n": "an HTTP response",
}


def refusal(take):
    with pytest.raises(ProtocolError) as caught:
        take()
    return caught.value


@pytest.mark.parametrize(("data", "what"), CLIENTS.items(), ids=repr)
def test_a_client_is_named_in_the_log(serve, caplog, data, what):
    bench = serve()
    stranger, other = bench.peer(), bench.peer()
    with caplog.at_level(logging.WARNING):
        stranger.sock.sendall(data)
        bench.turn()
    assert [record.message.partition(" disconnected: ")[2] for record in caplog.records] == [
        f"it sent {what}"
    ]
    assert (stranger.read(), stranger.ended) == ([], True)
    assert bench.ask(other, 0, "note", "b") == [[0, "b"]]


@pytest.mark.parametrize(("data", "what"), SERVERS.items(), ids=repr)
def test_a_server_is_named(data, what):
    protocol = ClientProtocol(StorableCodec())
    protocol.call("x", [], "token")
    protocol.feed(data)
    for _ in range(2):
        assert str(refusal(protocol.next_message)) == f"it sent {what}"


@given(st.data())
def test_it_does_not_matter_how_it_arrives(data):
    stream, what = data.draw(st.sampled_from(list(CLIENTS.items())))
    protocol = ServerProtocol()
    for chunk in data.draw(chunkings(stream)):
        protocol.feed(chunk)
    assert str(refusal(protocol.next_message)) == f"it sent {what}"


@pytest.mark.parametrize("head", CLIENTS, ids=repr)
def test_only_what_comes_first_is_looked_at(head):
    """Behind a good packet, it is one whose length is wrong."""
    protocol = ServerProtocol()
    protocol.feed(LengthPrefix().frame(StorableCodec().encode([0, "x"])) + head)
    assert protocol.next_message() is not None
    assert isinstance(refusal(protocol.next_message), FrameTooLarge)


@pytest.mark.parametrize("head", [b"\x16\x02\0\0", b"\x17\3\3\0", b"get ", b"PROx", b"\r\n\r\r"])
def test_who_is_not_known_has_sent_a_packet_that_is_too_long(head):
    protocol = ServerProtocol()
    protocol.feed(head)
    assert isinstance(refusal(protocol.next_message), FrameTooLarge)


def test_what_is_kept_of_a_stranger_goes_with_it():
    def meet():
        protocol = ServerProtocol([StorableCodec()], 1000)
        protocol.feed(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ProtocolError):
            protocol.next_message()

    meet()
    gc.collect()
    gc.disable()
    try:
        meet()
        assert gc.collect() == 0
    finally:
        gc.enable()
