"""Clients that speak no TLS, or not to the end of the handshake: each is refused by an `Error` of
the listener, which says who it was; an honest client is served before and after."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from pathlib import Path

import pytest
from support.certificates import client_context, pem_file, server_context
from support.fakes import FakeClock
from support.tls_by_hand import ByHand, alert
from support.tls_gate import break_off, making_gates

from eventmux import Connect, Error, Event, Read
from eventmux._channels.arrivals import MOST_AWAITED

_HELLO = ByHand().hello()
# In the type, version and length of the record, those of the message, and so on.
_OFFSETS = [1, 2, 3, 5, 6, 9, 10, 43, len(_HELLO) // 2, len(_HELLO) - 1, len(_HELLO)]


@pytest.fixture
def gate():
    with making_gates() as make:
        yield make


_RANDOM = random.Random(1)
GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "smtp": b"EHLO localhost\r\n",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "random": _RANDOM.randbytes(5000),
    "long": _RANDOM.randbytes(1_000_000),
    "ssl 2": bytes.fromhex("802e010002001500000010 010080020080030080040080060040070000c0"),
    "a record too long": b"\x16\x03\x01\xff\xff" + bytes(65535),
    "an empty record": b"\x16\x03\x01\x00\x00" * 100,
    "a hello of 16 MB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03" + bytes(16384),
    "data first": b"\x17\x03\x03\x00\x10" + bytes(16),
    "ciphers changed first": b"\x14\x03\x03\x00\x01\x01" * 100,
    "an alert": alert(2, 40),
    "an end": alert(1, 0),
    "warnings": alert(1, 90) * 1000,
    "a hello, and another": _HELLO + _HELLO,
    "a hello, and garbage": _HELLO + bytes(1000),
    "a hello, and data": _HELLO + b"\x17\x03\x03\x00\x10" + bytes(16),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused(gate, name):
    gate = gate()
    gate.assert_serves()
    sock = gate.come()
    sender = sock.getsockname()
    with contextlib.suppress(ConnectionError):  # it need not take all of it
        gate.send(sock, GARBAGE[name])
    sock.close()
    gate.assert_refuses(sender)


def test_who_speaks_http_is_told_by_the_error(gate):
    gate = gate()
    sock = gate.come()
    gate.send(sock, GARBAGE["http"])
    error = gate.assert_refuses(sock.getsockname())
    assert "http request" in error.error.lower().replace("_", " ")


def test_a_client_is_told_why_it_is_refused(gate):
    gate = gate()
    sock = gate.come()
    gate.send(sock, b"\x16\x03\x01\x00\x05hello")
    assert gate.receive(sock)[:2] == b"\x15\x03"  # an alert
    assert gate.receive(sock) == b""
    gate.assert_refuses(sock.getsockname())


def test_a_hello_byte_by_byte(gate):
    gate = gate()
    sock, client = gate.come(), ByHand()
    for byte in client.hello():
        gate.send(sock, bytes((byte,)))
    while not client.take(gate.receive(sock)):
        pass
    for byte in client.to_send() + client.write(b"slowly"):
        gate.send(sock, bytes((byte,)))
    fh = gate.next(Connect).fh
    assert gate.next(Read) == Read(fh, b"slowly")


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("offset", _OFFSETS)
def test_a_hello_that_breaks_off(gate, offset, is_reset):
    gate = gate()
    sock = gate.come()
    sender = sock.getsockname()
    gate.send(sock, _HELLO[:offset])
    break_off(sock, is_reset)
    assert isinstance(gate.assert_refuses(sender).exception, OSError)  # which SSLError is, too


@pytest.mark.parametrize("is_reset", [False, True], ids=["end", "reset"])
@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9])
def test_a_second_flight_that_breaks_off(gate, part, is_reset):
    gate = gate()
    sock, client = gate.come(), ByHand()
    sender = sock.getsockname()
    gate.send(sock, client.hello())
    while not client.take(gate.receive(sock)):
        pass
    finished = client.to_send()
    gate.send(sock, finished[: int(len(finished) * part)])
    break_off(sock, is_reset)
    gate.assert_refuses(sender)


@pytest.mark.parametrize("said", [0, 1, len(_HELLO) - 1, len(_HELLO)])
def test_a_client_that_falls_silent_has_its_time(gate, said):
    clock = FakeClock()
    gate = gate(clock=clock)
    sock = gate.come()
    gate.send(sock, _HELLO[:said])
    gate.turn()
    clock.advance(9.9)
    gate.turn()
    assert not gate.events
    clock.advance(0.2)
    error = gate.assert_refuses(sock.getsockname())
    assert "10" in error.error
    assert isinstance(error.exception, TimeoutError)


def test_the_time_for_a_handshake_is_all_of_it(gate):
    """Not the time since the last byte: else it could be kept up for ever."""
    clock = FakeClock()
    gate = gate(clock=clock, handshake_timeout=5.0)
    sock = gate.come()
    for byte in _HELLO[:11]:
        assert not gate.events
        gate.send(sock, bytes((byte,)))
        clock.advance(0.5)
    gate.assert_refuses(sock.getsockname())


def test_after_the_handshake_its_time_is_over(gate):
    clock = FakeClock()
    gate = gate(clock=clock)
    sock, client = gate.come(), ByHand()
    fh = gate.shake_hands(sock, client).fh
    clock.advance(100)
    gate.turn()
    gate.send(sock, client.write(b"late"))
    assert gate.next(Read) == Read(fh, b"late")


def test_a_client_that_does_not_read_the_certificate(gate):
    """The server's flight is longer than what the kernel keeps for it."""
    clock = FakeClock()
    gate = gate(server_context("long"), clock=clock)
    gate.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock = gate.come(receive_buffer=4096)
    gate.send(sock, _HELLO)
    for _ in range(20):
        gate.turn()
    clock.advance(10.1)
    assert isinstance(gate.assert_refuses(sock.getsockname()).exception, TimeoutError)


def test_certificates_of_60_kilobytes_both_ways(gate):
    gate = gate(server_context("long", asks=ssl.CERT_REQUIRED))
    gate.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock, client = gate.come(), ByHand(client_context("long"))
    peer = gate.shake_hands(sock, client).peer
    assert len(peer.certificate["subjectAltName"]) == 1503


def test_a_certificate_beyond_what_openssl_takes(gate, tmp_path):
    """Of 100 KB and more, by the default of SSL_CTX_set_max_cert_list()."""
    chain = Path(pem_file("long")).read_text()
    certificate = chain[chain.index("-----BEGIN CERTIFICATE") :]
    (tmp_path / "chain.pem").write_text(chain + 2 * certificate)
    context = client_context()
    context.load_cert_chain(tmp_path / "chain.pem")
    gate = gate(server_context(asks=ssl.CERT_REQUIRED))
    sock, client = gate.come(), ByHand(context)
    sender = sock.getsockname()
    gate.send(sock, client.hello())
    while not client.take(gate.receive(sock)):
        pass
    with contextlib.suppress(ConnectionError):
        gate.send(sock, client.to_send())
    error = gate.next(Error)
    assert (error.fh, error.sender) == (gate.listener, sender)
    assert "excessive message size" in error.error.lower().replace("_", " ")


def test_hundreds_that_are_silent_are_not_in_the_way(gate):
    clock = FakeClock()
    gate = gate(clock=clock)
    silent = []
    for _ in range(MOST_AWAITED - 10):
        silent.append(gate.come())
        gate.turn()
    for sock in silent[::2]:
        gate.send(sock, _HELLO[:50])
    gate.assert_serves()
    clock.advance(10.1)
    senders = {gate.next(Error).sender for _ in silent}
    assert senders == {sock.getsockname() for sock in silent}
    gate.assert_serves()
    assert gate.mux.handles() == [gate.listener]


def test_of_thousands_the_oldest_makes_room(gate):
    gate = gate()
    silent = []
    for _ in range(MOST_AWAITED + 200):
        silent.append(gate.come())
        gate.turn()
    sock, client = gate.come(), ByHand()
    gate.send(sock, client.hello())
    while not client.take(gate.receive(sock)):
        pass
    gate.send(sock, client.to_send() + client.write(b"honest"))
    senders = []
    while isinstance(event := gate.next(Event), Error):
        assert event.fh is gate.listener
        senders.append(event.sender)
    assert isinstance(event, Connect)
    assert gate.next(Read) == Read(event.fh, b"honest")
    assert senders == [each.getsockname() for each in silent[: len(senders)]]
    assert len(senders) == 201  # for the honest one, too
