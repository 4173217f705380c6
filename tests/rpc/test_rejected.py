"""A packet that is refused does not stay in memory, neither with its connection nor after it."""

from __future__ import annotations

import contextlib
import gc
import tracemalloc
from functools import partial

import pytest
from support.strategies import u32

from rpcasync import Client, Server
from rpcasync.errors import DecodeError, FrameTooLarge, ProtocolError
from rpcasync.wire.codecs import JSONCodec, StorableCodec
from rpcasync.wire.framing import LengthPrefix
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

SIZE = 300_000
LONG = b"x" * SIZE
IMAGE = b"\x05\x0b\x02" + u32(4) + b"\x08\x81\x0a\x01x\x01" + u32(SIZE) + LONG

PACKETS = {
    "json cut": b'[1,"x","' + LONG,
    "json deep": b'[1,"x","' + LONG + b'",' + b"[" * 2000,
    "json in bad UTF-8": b'["' + LONG + b'\xff"]',
    "json with more behind": b'[1,"x","' + LONG + b'"]]',
    "json with an infinity": b'[1,"x","' + LONG + b'",1e999]',
    "json with a long id": b'["' + LONG + b'",1]',
    "json that is no list": b'["' + LONG + b'"',
    "cut": IMAGE,
    "unknown opcode": IMAGE + b"\x99",
    "too deep": IMAGE + b"\x04" * 300,
    "bad UTF-8": IMAGE + b"\x17\x01\xff",
    "no procedure": b"\x05\x0b\x02" + u32(2) + b"\x08\x81\x04\x01" + u32(SIZE) + LONG,
}


@contextlib.contextmanager
def nothing_kept():
    """No help of the garbage collector's: it may come late, or never."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[0] < SIZE / 5
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("name", PACKETS)
@pytest.mark.parametrize("end", ["server", "client"])
def test_a_protocol_keeps_no_packet_that_it_refused(name, end):
    payload = PACKETS[name]
    codec = JSONCodec() if name.startswith("json") else StorableCodec()
    protocol = ServerProtocol() if end == "server" else ClientProtocol(codec)
    with nothing_kept():
        protocol.feed(LengthPrefix().frame(payload))
        texts = set()
        for _ in range(3):
            try:
                while protocol.next_message() is not None:
                    pass
            except ProtocolError as error:
                texts.add(str(error))
        assert len(texts) == 1 or (end == "client" and not texts)


def test_the_same_error_each_time():
    protocol = ServerProtocol()
    protocol.feed(LengthPrefix().frame(b"[1,"))
    for _ in range(3):
        with pytest.raises(DecodeError, match="bad-json") as caught:
            protocol.next_message()
        assert caught.value.code == "bad-json"
        assert len(caught.traceback) <= 4
    protocol = ServerProtocol(max_packet=100)
    protocol.feed(b"\0\1\0\0")
    for _ in range(3):
        with pytest.raises(FrameTooLarge, match="packet of 65536 bytes, limit is 100"):
            protocol.next_message()


class Peculiar(ProtocolError):
    """An error of a codec of the program's own."""

    def __init__(self, one, two):
        super().__init__(f"{one}, {two}")
        self.one = one


def test_an_error_of_a_codec_of_ones_own():
    class Codec(JSONCodec):
        def decode(self, payload):
            raise Peculiar("a", "b")

    protocol = ServerProtocol([Codec()])
    protocol.feed(LengthPrefix().frame(b"[1,2]"))
    for _ in range(3):
        with pytest.raises(Peculiar, match="a, b") as caught:
            protocol.next_message()
        assert caught.value.one == "a"


@pytest.mark.parametrize("name", PACKETS)
def test_a_server_keeps_nothing_after_its_client(serve, name):
    bench = serve()
    peer = bench.peer()
    bench.ask(peer, 0, "list")
    fresh = bench.peer()
    with nothing_kept():
        rest = memoryview(LengthPrefix().frame(PACKETS[name]))
        while rest:
            rest = rest[fresh.sock.send(rest[:100_000]) :]
            bench.turn()
        bench.turn()
        assert fresh.ended or fresh.read() == []
        del rest


def test_values_in_a_packet_of_a_server_and_a_client(serve, connect, codec, caplog):
    bench = serve(max_items=6)
    peer = bench.peer(codec)
    assert bench.ask(peer, 0, "list", [1, 2, 3]) == [[0, [1, 2, 3]]]
    assert bench.ask(peer, 1, "list", [1, 2, 3, 4]) == []
    assert peer.ended
    assert "limit-items: 7 values" in caplog.messages[-1]
    client, server = connect(codec=codec, max_items=5)
    call = client.call("x")
    server.send(0, [1, 2, 3, 4])
    with pytest.raises(ConnectionError, match="limit-items: 6 values"):
        call.result()


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1"])
def test_a_number_of_values_that_is_none(mux, limit):
    own = JSONCodec()
    for make in (JSONCodec, StorableCodec, partial(Server, mux, {})):
        with pytest.raises(ValueError, match=r"max_items is .*, must be 1 or more"):
            make(max_items=limit)
    for codec in ("json", "storable", own):
        with pytest.raises(ValueError, match=r"max_items is .*, must be 1 or more"):
            Client(mux, "tcp://127.0.0.1:1", codec=codec, max_items=limit)
    assert not mux.handles()
