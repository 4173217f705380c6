"""Records that are spoiled after the handshake: the connection ends by an `Error` of its own, and
what was good before is read."""

from __future__ import annotations

import contextlib
import socket
import ssl

import pytest
from support.certificates import client_context, server_context
from support.pump import drain, kinds
from support.tls_by_hand import ByHand, Records, alert
from support.tls_ends import settled
from support.tls_gate import break_off, making_gates

from eventmux import Closed, Closing, Error, Read
from eventmux._channels import secure

_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def gate():
    with making_gates() as make:
        yield make


def end_our_side(sock: socket.socket) -> None:
    """Close our side, which the mux waits for: two seconds if nobody does."""
    with contextlib.suppress(OSError):  # it was reset
        sock.shutdown(socket.SHUT_WR)


def _flipped(record: bytes) -> bytes:
    return record[:-1] + bytes((record[-1] ^ 1,))


SPOILED = {
    "plain text": lambda _: b"GET / HTTP/1.1\r\n\r\n",
    "a record too long": lambda _: b"\x17\x03\x03\xff\xff" + bytes(65535),
    "a record that is not ours": lambda _: b"\x17\x03\x03\x00\x20" + bytes(32),
    "a plain alert": lambda _: alert(2, 40),
    "a plain end": lambda _: alert(1, 0),
    "plain warnings": lambda _: alert(1, 90) * 1000,
    "empty records": lambda _: b"\x17\x03\x03\x00\x00" * 1000,
    "another hello": lambda _: ByHand().hello(),
    "a bit of another value": lambda client: _flipped(client.write(b"data")),
    "ciphers changed": lambda _: b"\x14\x03\x03\x00\x01\x01" * 1000,
}


@pytest.mark.parametrize("version", _VERSIONS)
@pytest.mark.parametrize("name", SPOILED)
def test_what_is_spoiled_after_the_handshake(gate, name, version):
    context = client_context()
    context.maximum_version = version
    gate = gate()
    sock, client = gate.come(), ByHand(context)
    fh = gate.shake_hands(sock, client).fh
    gate.send(sock, client.write(b"good"))
    assert gate.next(Read) == Read(fh, b"good")
    with contextlib.suppress(ConnectionError):
        gate.send(sock, SPOILED[name](client))
    error = gate.next(Error)
    assert error.fh is fh
    assert error.exception is not None
    closing = gate.next(Closing)
    assert closing == Closing(fh, error.error)
    end_our_side(sock)
    assert gate.next(Closed).fh is fh
    gate.assert_serves()


@pytest.mark.parametrize("version", _VERSIONS)
def test_what_was_said_is_not_said_again(gate, version):
    """A record that is sent twice, as somebody in between could."""
    context = client_context()
    context.maximum_version = version
    gate = gate()
    sock, client = gate.come(), ByHand(context)
    fh = gate.shake_hands(sock, client).fh
    gate.send(sock, client.write(b"pay 5") * 2)
    assert gate.next(Read) == Read(fh, b"pay 5")
    assert gate.next(Error).fh is fh
    gate.next(Closing)
    end_our_side(sock)
    gate.next(Closed)


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("cut", [1, 5, 6, 100])
def test_a_record_that_breaks_off(gate, cut, is_reset):
    gate = gate()
    sock, client = gate.come(), ByHand()
    fh = gate.shake_hands(sock, client).fh
    gate.send(sock, client.write(b"whole") + client.write(b"x" * 200)[:cut])
    assert gate.next(Read) == Read(fh, b"whole")
    break_off(sock, is_reset)
    error = gate.next(Error)
    assert error.fh is fh
    assert gate.next(Closing) == Closing(fh, error.error)
    assert gate.next(Closed) == Closed(fh, 0, error.error)


def test_records_of_one_byte(gate):
    """Each takes 23 bytes and a turn of OpenSSL: what came at once is one `Read`, or few."""
    gate = gate()
    sock, client = gate.come(), ByHand()
    gate.shake_hands(sock, client)
    records = b"".join(client.write(bytes((n % 256,))) for n in range(2000))
    gate.send(sock, records)
    drained = [*gate.events, *drain(gate.mux)]
    data = b"".join(event.data for event in drained if isinstance(event, Read))
    assert data == bytes(n % 256 for n in range(2000))
    assert len(drained) < 200


def test_who_asks_for_new_keys_and_reads_none_is_not_read_from(mux, pair, monkeypatch, tmp_path):
    """OpenSSL answers each time, and what has not left takes memory."""
    monkeypatch.setattr(secure, "_MOST_RECORDS", 10_000)
    fh, sock = pair()
    for end in (fh, sock):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock.setblocking(False)
    mux.add(fh, tls=server_context())
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    client = ByHand(context)
    sock.send(client.hello())
    settled(mux)
    assert client.take(sock.recv(65536))
    sock.send(client.to_send())
    assert kinds(settled(mux)) == ["ready"]

    records = Records(tmp_path / "keys")
    asked = 0
    while True:
        record = records.key_update()
        try:
            sock.send(record)
        except BlockingIOError:
            assert drain(mux) == []
            try:
                sock.send(record)
            except BlockingIOError:
                break
        asked += 1
        assert asked < 2000, "all is read"
    assert asked > 300  # some are answered

    record += records.record(23, b"I read")
    events = []
    while not events:
        client.read(sock.recv(65536))
        with contextlib.suppress(BlockingIOError):
            record = record[sock.send(record) :] if record else b""
        events = drain(mux)
    assert events == [Read(fh, b"I read")]
    mux.send(fh, b"and I still speak")
    drain(mux)
    assert client.read(sock.recv(65536)) == b"and I still speak"
