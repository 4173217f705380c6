"""What a server is sent: malformed packets, halves of them, and some to harm it."""

from __future__ import annotations

import struct

import pytest
from support.records import warnings_of

from rpcasync import Client, RemoteError, StorableCodec


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"\0\0\0\0", "packet too short: header announces -4 bytes"),
        (b"\0\0\0\x06xx", "packet too short: header announces 2 bytes"),
        (b"\xff\xff\xff\xff", "packet of 4294967295 bytes, limit is 16777216"),
        (b"GET / HTTP/1.1\r\n", "it sent an HTTP request"),
        (b"\0\0\0\x0aGARBAG", "bad-header"),
        (b"\0\0\0\x0a\x04\x0b\x08123", "native-order"),
        (b"\0\0\0\x0b\x05\x0b\x02\0\0\0\x05", "truncated"),
        (b"\0\0\0\x07[7]", "not a call: list of length 1"),
        (b"\0\0\0\x07[7[", "bad-json"),
        (b"\0\0\0\x0a[{},3]", "the procedure is int"),
        (b'\0\0\0\x0b[{},""]', "the id is dict"),
    ],
)
def test_malformed_packets(bench, caplog, stream, why):
    peer, other = bench.peer(), bench.peer()
    peer.send(0, "add", "n1", 1, "n2", 1)
    bench.turn()
    assert peer.read() == [[0, "sum", 2]]
    fresh = bench.peer()
    fresh.sock.sendall(stream)
    bench.turn()
    assert fresh.read() == []
    assert fresh.ended
    (line,) = warnings_of(caplog)
    assert "disconnected: " in line
    assert why in line
    assert "\n" not in line
    assert len(line) < 300
    assert bench.ask(other, 0, "add", "n1", 1, "n2", 2) == [[0, "sum", 3]]
    assert len(bench.rpc.clients) == 2


def test_calls_in_front_of_a_malformed_packet_are_answered(bench):
    peer = bench.peer()
    peer.sock.sendall(peer.packet(0, "list", 1) + b"\0\0\0\x01" + peer.packet(1, "list", 2))
    bench.turn()
    assert peer.read() == [[0, 1]]
    assert peer.ended


def test_half_a_header_waits_and_harms_nobody(bench):
    peer, other = bench.peer(), bench.peer()
    peer.sock.sendall(b"\0\0")
    bench.turn()
    assert bench.ask(other, 0, "list") == [[0]]
    assert len(bench.rpc.clients) == 2
    peer.sock.sendall(peer.packet(0, "list", "x")[2:])
    bench.turn()
    assert peer.read() == [[0, "x"]]


def test_a_client_that_closes_in_the_middle_of_a_packet(bench):
    peer = bench.peer()
    peer.sock.sendall(peer.packet(0, "list")[:-1])
    peer.sock.close()
    bench.turn()
    assert bench.rpc.clients == set()


def test_a_limit_of_its_own(serve):
    bench = serve({"rpc_x": lambda caller: bench.rpc.return_(caller)}, max_packet=100)
    peer = bench.peer()
    assert bench.ask(peer, 0, "x") == [[0]]
    assert bench.ask(peer, 0, "x" * 100) == []
    assert peer.ended


def test_names_that_anybody_may_invent_leave_no_trace(serve, caplog):
    class Proxy:
        def __getattr__(self, name):
            if not name.startswith("rpc_"):
                raise AttributeError(name)
            return lambda caller: None

    bench = serve(Proxy())
    peer = bench.peer()
    for id in range(1100):
        peer.send(id, f"evil\n{id}")
        bench.turn()
    assert len(bench.rpc._namespace._known) <= 1024  # memory has no public face
    assert all("\n" not in line for line in warnings_of(caplog))


def test_shared_structure_is_no_way_around_the_limit(bench, caplog):
    peer = bench.peer()
    levels = b"\x02\0\0\0\2\x04"
    image = b"\x05\x0b\x02\0\0\0\3\x08\x80\x0a\4list\x04" + levels * 60 + b"\x02\0\0\0\0"
    for tag in range(62, 2, -1):
        image += b"\x04\0" + struct.pack("!I", 2 * tag)
    peer.sock.sendall(struct.pack("!I", len(image) + 4) + image)
    bench.turn()
    assert peer.read() == []
    assert peer.ended
    assert "limit-items" in warnings_of(caplog)[-1]


@pytest.mark.parametrize(
    ("mode", "text"), [("latin-1", "caf\xc3\xa9"), ("bytes", b"caf\xc3\xa9"), ("utf-8", "caf\xe9")]
)
def test_each_way_to_read_byte_strings(serve, mode, text):
    codec = StorableCodec(byte_strings=mode, typed=False)
    seen = []

    def rpc_note(caller, value, *, more: int = 0):
        seen.append((value, more))
        bench.rpc.return_(caller, "answer", value)

    bench = serve({"rpc_note": rpc_note}, codecs=[codec])
    listener = bench.rpc.listen("tcp://127.0.0.1:0")
    client = Client(bench.mux, f"tcp://127.0.0.1:{listener.getsockname()[1]}", codec=codec)
    call = client.note(value="caf\xe9".encode(), more="3")
    bad = client.nothing()
    while client.has_requests():
        client.io(bench.rpc.io(bench.mux.mux()))
    assert seen == [(text, 3)]
    assert call.result()["answer"] == text
    with pytest.raises(RemoteError, match="^No sub 'nothing' in package 'main'"):
        bad.result()
