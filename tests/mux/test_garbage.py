"""What is left of a connection that has failed: nothing that waits for a collection of garbage.

Errors have tracebacks, which keep frames, which keep all that had come: up to three times the
longest record for each connection, and a collection may come after many of those.
"""

from __future__ import annotations

import gc
import socket
import struct

import pytest
from support.certificates import server_context
from support.pump import kinds
from support.tls_ends import HandClient, settled

from eventmux.buffers import HTTP, AtLeast, Frames, Size, Split

RESET = struct.pack("ii", 1, 0)
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def says(data):
    def talk(mux, sock):
        del mux
        sock.sendall(data)

    return talk


def says_by_tls(data, behind):
    def talk(mux, sock):
        sock.send(HandClient(mux, sock).say(data) + behind)
        sock.close()

    return talk


def is_reset(mux, sock):
    del mux
    sock.sendall(b"hello")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


WAYS = {
    "a reset": ({}, is_reset),
    "a record too long": ({"buffered": Split(max_size=10)}, says(b"x" * 20)),
    "a length too long": ({"buffered": Size(max_size=10)}, says(b"xxxxxxxx")),
    "a head that is none": ({"buffered": HTTP()}, says(b"hello\r\n\r\n")),
    "a chunk that is none": ({"buffered": HTTP()}, says(CHUNKED + b"hello\r\n")),
    "a frame that is none": ({"buffered": Frames(lambda data, at: -1)}, says(b"hello")),
    "a frame too long": ({"buffered": Frames(lambda data, at: AtLeast(2**40))}, says(b"hello")),
    "no PROXY header": ({"proxy": "require", "trusted": ["127.0.0.0/8"]}, says(b"hello")),
    "no handshake": ({"tls": server_context}, says(b"hello, who is there")),
    "no end of TLS": ({"tls": server_context}, says_by_tls(b"hello", b"")),
    "no record of TLS": ({"tls": server_context}, says_by_tls(b"hello", b"hello")),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_fails_leaves_no_garbage(mux, closing, way):
    options, talk = WAYS[way]
    made = {name: value() if value is server_context else value for name, value in options.items()}
    listener = mux.listen("tcp://127.0.0.1:0", **made)

    def come():
        sock = closing(socket.create_connection(listener.getsockname()))
        talk(mux, sock)
        events = settled(mux)
        sock.close()
        return kinds(events + settled(mux))

    assert "error" in come()
    gc.collect()
    gc.disable()
    try:
        come()
        assert gc.collect() == 0
    finally:
        gc.enable()
