"""How connections with TLS end: announced, cut off, by failures, and with output under way."""

import os
import socket
import ssl
import struct

import pytest
from support.certificates import client_context, server_context
from support.fakes import FakeClock
from support.pump import PATIENCE, kinds
from support.tls_ends import (
    HandClient,
    TLSEnds,
    contexts_of_version,
    foreign_client,
    foreign_server,
    settled,
)

from eventmux import EventMux, Read, TLSError
from eventmux.buffers import Last, Split

RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def ends(mux):
    return TLSEnds(mux)


def texts(events, fh):
    return [event.error for event in events if event.type == "error" and event.fh is fh]


# Announced


def test_we_say_the_end_and_the_peer_hears_it(ends):
    heard = []
    with foreign_client(ends.port, lambda sock: heard.append(sock.recv(100))) as raised:
        (connect,) = ends.until(("connect", None))
        ends.mux.close(connect.fh)
        (closed,) = ends.until(("closed", connect.fh))
    assert heard == [b""]  # else it is SSLEOFError
    assert raised == []
    assert (closed.missing, closed.reason) == (0, None)


def test_the_peer_says_the_end(ends):
    def talk(sock):
        sock.sendall(b"last")
        sock.unwrap()

    with foreign_client(ends.port, talk) as raised:
        connect, closed = ends.until(("connect", None), ("closed", None))
    assert raised == []
    assert ends.of(connect.fh) == ["connect", "read", "closing", "closed"]
    assert closed.reason is None


def test_the_peer_says_the_end_with_data_in_the_same_turn(mux):
    ends = TLSEnds(mux, buffered=Last())
    fh, ours = ends.up()
    mux.send(fh, b"all of it", later=True)
    mux.close(fh)
    (last, _) = ends.until(("read", ours), ("closed", ours))
    assert last == Read(ours, b"all of it")


def test_an_answer_at_the_end_of_the_peer(ends):
    fh, ours = ends.up()
    ends.mux.close(fh)
    ends.until(("closing", ours))
    assert ends.mux.send(ours, b"too late, but not for us") == 0
    (closed,) = ends.until(("closed", ours))
    assert closed.missing == 0


def test_what_is_queued_leaves_before_the_end(ends):
    text = os.urandom(5_000_000)
    heard = []

    def talk(sock):
        data = bytearray()
        while chunk := sock.recv(65536):
            data += chunk
        heard.append(bytes(data))

    with foreign_client(ends.port, talk) as raised:
        (connect,) = ends.until(("connect", None))
        assert ends.mux.send(connect.fh, text) > 0
        ends.mux.close(connect.fh)
        (closed,) = ends.until(("closed", connect.fh))
    assert raised == []
    assert heard == [text]
    assert closed.missing == 0


def test_close_before_the_handshake_is_through(ends):
    """As of plain streams: what is queued leaves."""
    fh = ends.connect()
    ends.mux.send(fh, b"only this")
    ends.mux.close(fh)
    connect, read = ends.until(("connect", None), ("read", None))
    assert read == Read(connect.fh, b"only this")
    ends.until(("closed", fh))
    assert ends.of(fh) == ["closing", "closed"]


def test_close_before_the_handshake_with_nothing_queued(ends):
    fh = ends.connect()
    ends.mux.close(fh)
    ends.until(("closed", fh))
    assert ends.of(fh) == ["closing", "closed"]


def test_the_peer_does_not_answer_our_end(pair):
    clock = FakeClock()
    ours, theirs = pair()
    with EventMux(clock=clock) as mux:
        mux.add(ours, tls=server_context())
        peer = HandClient(mux, theirs)
        settled(mux)
        mux.close(ours)
        assert kinds(settled(mux)) == ["closing"]
        clock.advance(2.1)
        (closed,) = settled(mux)
        assert (closed.type, closed.missing, closed.reason) == ("closed", 0, None)
        assert peer.take() == b""
        assert peer.has_ended


def test_there_is_no_room_for_our_end(pair):
    """The kernel has taken all that was queued, and not one byte more."""
    clock = FakeClock()
    ours, theirs = pair()
    with EventMux(clock=clock) as mux:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        mux.add(ours, tls=server_context())
        peer = HandClient(mux, theirs)
        settled(mux)
        sent = 0
        while not mux.buflen(ours):  # until nothing more is taken
            mux.send(ours, bytes(1000))
            sent += 1000
        mux.close(ours)
        settled(mux)
        got = 0
        while not peer.has_ended:
            got += len(peer.take())
            settled(mux)
            clock.advance(0.01)
        assert got == sent
        theirs.close()
        (closed,) = settled(mux)
        assert (closed.type, closed.missing) == ("closed", 0)


def test_a_peer_that_reads_slowly_has_all_the_time_it_needs(timed, clock, pair):
    """Less than was encrypted at once, in the time that may pass without progress."""
    ours, theirs = pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    timed.add(ours, tls=server_context())
    peer = HandClient(timed, theirs)
    size = 100_000
    timed.send(ours, bytes(size))
    timed.close(ours)
    start, taken = clock.now, 0
    while taken < size:
        clock.advance(40)
        assert "closed" not in kinds(settled(timed)), f"with {taken} bytes read"
        taken += len(peer.take())
    assert clock.now - start > 4 * 90


def test_kill_says_nothing(ends):
    heard = []

    def talk(sock):
        sock.suppress_ragged_eofs = False
        heard.append(sock.recv(100))

    with foreign_client(ends.port, talk) as raised:
        (connect,) = ends.until(("connect", None))
        ends.mux.kill(connect.fh)
        ends.until(("closed", connect.fh))
    assert heard == []
    assert isinstance(raised[0], (ssl.SSLEOFError, ConnectionResetError))


def test_the_end_of_the_mux_says_the_end():
    heard = []
    listens = foreign_server(lambda sock: heard.append((sock.recv(100), sock.recv(100))))
    with listens as port, EventMux() as mux:
        fh = mux.connect(f"tls://localhost:{port}", tls=client_context())
        assert mux.mux(PATIENCE).fh is fh
        mux.send(fh, b"bye", later=True)
    assert heard == [(b"bye", b"")]


def test_remove_leaves_the_socket_open(ends):
    fh, _ = ends.up()
    ends.mux.remove(fh)
    assert fh.fileno() >= 0
    fh.close()


# Cut off


def test_an_end_that_was_not_announced(mux, pair):
    ours, theirs = pair()
    mux.add(ours, tls=server_context(), buffered=Split(b"\n"))
    peer = HandClient(mux, theirs)
    theirs.send(peer.say(b"one\ntwo"))
    theirs.close()
    events = settled(mux)
    assert kinds(events) == ["read", "error", "read_last", "closing", "closed"]
    error, closed = events[1], events[-1]
    assert "close_notify" in error.error
    assert isinstance(error.exception, TLSError)
    assert error.errno is None
    assert closed.reason == error.error


def test_a_reset(ends):
    with socket.create_connection(ends.listener.getsockname()) as sock:
        HandClient(ends.mux, sock, ends.events)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    error, _ = ends.until(("error", None), ("closed", None))
    assert isinstance(error.exception, ConnectionResetError)
    assert ends.of(error.fh) == ["connect", "error", "closing", "closed"]


def test_a_record_that_was_changed_on_its_way(mux, pair):
    ours, theirs = pair()
    mux.add(ours, tls=server_context(), buffered=Split(b"\n"))
    peer = HandClient(mux, theirs)
    settled(mux)
    theirs.send(peer.say(b"good\nrest") + b"\x17\x03\x03\x00\x20" + bytes(32))
    events = settled(mux)
    assert kinds(events) == ["read", "error", "read_last", "closing"]  # the peer has to read why
    assert "changed on its way" in texts(events, ours)[0]
    peer.take()
    assert peer.alert == "bad record mac"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_without_certificate_is_told(mux, version):
    server, client = contexts_of_version(version)
    server.verify_mode = ssl.CERT_REQUIRED
    ends = TLSEnds(mux, server)
    fh = ends.connect(client)
    mux.send(fh, b"hello")
    ends.until(("error", ends.listener), ("closed", fh))
    (text,) = texts(ends.events, fh)
    assert "certificate" in text
    assert "has shown no certificate" in texts(ends.events, ends.listener)[0]
    assert mux.handles() == [ends.listener]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("elsewhere", "Hostname mismatch"),
        ("expired", "certificate has expired"),
        ("foreign", "unable to get local issuer certificate"),
    ],
)
def test_a_server_that_is_not_believed_is_told(mux, kind, why):
    ends = TLSEnds(mux, server_context(kind))
    fh = ends.connect()
    assert mux.send(fh, b"secret") == 6
    ends.until(("closed", fh), ("error", ends.listener))
    assert ends.of(fh) == ["error", "closing", "closed"]
    assert [event.missing for event in ends.events if event.type == "closed"] == [6]
    assert why in texts(ends.events, fh)[0]
    assert "the peer does not" in texts(ends.events, ends.listener)[0]


@pytest.mark.parametrize(
    "said", [b"220 smtp.example ready\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_a_server_that_speaks_no_tls(mux, said):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(f"tls://127.0.0.1:{server.getsockname()[1]}", tls=client_context())
        sock, _ = server.accept()
        with sock:
            sock.send(said)
            assert mux.mux(PATIENCE).type == "error"
    events = settled(mux)
    assert kinds(events) == ["closing", "closed"]
    assert "the peer does not speak TLS, but" in events[0].reason
    assert fh.fileno() == -1


def test_a_peer_that_goes_on_without_tls(ends):
    fh, theirs = ends.up()
    theirs.send(b"plain text")
    (error,) = ends.until(("error", fh))
    assert error.error == "the peer does not speak TLS (wrong version number)"
