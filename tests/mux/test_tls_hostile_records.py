"""Records that are spoiled after the handshake: the connection ends by an `Error` of its own, and
what was good before is read."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from support.certificates import client_context
from support.pump import drain
from support.tls_by_hand import ByHand, alert
from support.tls_gate import break_off, making_gates

from eventmux import Closed, Closing, Error, Read

_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def gate():
    with making_gates() as make:
        yield make


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
