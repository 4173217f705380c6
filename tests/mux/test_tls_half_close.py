"""Ends of one direction with TLS: close_notify is what they are told by. And files, encrypted."""

import os
import socket
import ssl
import tempfile
import threading

import pytest
from support.certificates import client_context, server_context
from support.pump import PATIENCE, until
from support.tls_ends import TLSEnds, contexts_of_version, foreign_server

from eventmux import Closed, Closing, HalfClosed, Read, Sent, Timeout

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MUCH = os.urandom(3_000_000)  # more than a kernel buffers


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def both(request, mux):
    """The two ends of a connection that is up, and what made them."""
    server, client = contexts_of_version(request.param)
    ends = TLSEnds(mux, server, half_close=True)
    return ends, *ends.up(client=client, half_close=True)


def data_of(events, fh):
    return b"".join(event.data for event in events if event.type == "read" and event.fh is fh)


@pytest.mark.parametrize("request_", [b"request", MUCH], ids=["little", "much"])
@pytest.mark.parametrize("answer", [b"answer", MUCH], ids=["little", "much"])
def test_a_request_its_end_and_the_answer(both, request_, answer):
    ends, client, server = both
    ends.mux.send(client, request_)
    ends.mux.shutdown(client)
    ends.until(("half_closed", server))
    assert data_of(ends.events, server) == request_
    assert ends.mux.mux(0) == Timeout()  # it takes its time
    ends.mux.send(server, answer)
    ends.mux.close(server)
    ends.until(("closed", client), ("closed", server))
    assert data_of(ends.events, client) == answer
    assert [kind for kind in ends.of(client) if kind not in ("sent", "read")] == [
        *("closing", "closed"),
    ]
    assert [event.reason for event in ends.events if event.type == "closed"] == [None, None]


def test_both_ends_by_themselves(both):
    ends, client, server = both
    ends.mux.shutdown(server)
    ends.drain()
    ends.mux.send(client, b"one")
    ends.until(("read", server))
    ends.mux.shutdown(client)
    closed = ends.until(("closed", client), ("closed", server))
    assert [event.reason for event in closed] == [None, None]
    assert "half_closed" not in ends.of(client) + ends.of(server)


def test_what_came_and_was_not_read_outlives_our_end(both):
    """OpenSSL looks for the peer's end while it says ours, and must not meet data."""
    ends, client, server = both
    ends.mux.send(server, MUCH)
    got = b""
    while len(got) < 200_000:
        (event,) = ends.until(("read", client))
        got += event.data
    ends.mux.shutdown(client)
    ends.mux.shutdown(client)
    with pytest.raises(ValueError, match="has ended our side"):
        ends.mux.send(client, b"more")
    assert ends.mux.send(client) == 0
    ends.until(("half_closed", server))
    ends.mux.close(server)
    ends.until(("closed", client))
    assert data_of(ends.events, client) == MUCH


@pytest.mark.parametrize("size", [100, 16_000, 60_000])
def test_what_is_inside_of_one_that_is_paused(both, size):
    ends, client, server = both
    ends.mux.send(server, MUCH[:size])
    ends.until(("read", client))
    ends.mux.want_read(client, False)
    ends.mux.shutdown(client)
    ends.until(("half_closed", server))
    ends.mux.want_read(client, True)
    ends.mux.close(server)
    ends.until(("closed", client))
    assert data_of(ends.events, client) == MUCH[:size]


def test_a_connection_that_is_not_up_yet(mux):
    ends = TLSEnds(mux, half_close=True)
    client = ends.connect()
    mux.shutdown(client)
    (half,) = ends.until(("half_closed", None))
    assert ends.of(client) == ["ready"]
    mux.send(half.fh, b"hello")
    mux.close(half.fh)
    ends.until(("closed", client))
    assert data_of(ends.events, client) == b"hello"


def test_what_is_queued_for_one_that_is_not_up_yet(mux):
    ends = TLSEnds(mux, half_close=True)
    client = ends.connect()
    mux.send(client, MUCH)
    mux.shutdown(client)
    (half,) = ends.until(("half_closed", None))
    assert data_of(ends.events, half.fh) == MUCH
    assert ends.of(client) == ["ready", "sent"]


def test_one_that_waits_costs_nothing(both):
    ends, client, server = both
    ends.mux.shutdown(client)
    ends.until(("half_closed", server))
    ends.drain()
    assert ends.mux.mux(0.01) == Timeout()
    ends.mux.kill(client)
    ends.drain()
    ends.mux.send(server, b"nobody reads it")
    ends.until(("closed", server))
    assert ends.of(server)[-3:] == ["error", "closing", "closed"]


def test_a_foreign_server_that_answers_behind_our_end(mux):
    def talk(sock):
        heard = b""
        while data := sock.recv(100_000):
            heard += data
        sock.sendall(heard.upper())

    with foreign_server(talk) as port:
        fh = mux.connect(f"tls://localhost:{port}", tls=client_context())
        mux.send(fh, b"hello")
        mux.shutdown(fh)
        events = []
        while not events or events[-1].type != "closed":
            events.append(mux.mux(PATIENCE))
    assert Read(fh, b"HELLO") in events


def test_with_its_default_the_end_is_the_end(mux):
    ends = TLSEnds(mux)
    client, server = ends.up()
    mux.shutdown(client)
    ends.until(("closed", server), ("closed", client))
    assert [Closing(server), Closed(server)] == [e for e in ends.events if e.fh is server][-2:]


def test_a_file(both):
    ends, client, server = both
    with tempfile.TemporaryFile() as file:
        file.write(MUCH)
        file.flush()
        ends.mux.send(client, b"head ", later=True)
        ends.mux.sendfile(client, file)
    ends.mux.send(client, b" tail")
    ends.mux.shutdown(client)
    ends.until(("half_closed", server))
    assert data_of(ends.events, server) == b"head " + MUCH + b" tail"
    assert Sent(client) in ends.events
    assert HalfClosed(server) in ends.events


def test_a_file_that_is_queued_when_tls_begins(mux):
    """It leaves as what was queued does: in plain text."""
    heard = []

    def serve():
        raw, _ = listener.accept()
        raw.settimeout(PATIENCE)
        plain = b""
        while len(plain) < len(MUCH):
            plain += raw.recv(len(MUCH) - len(plain))
        with server_context().wrap_socket(raw, server_side=True) as sock:
            heard.extend((plain, sock.recv(100)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        fh = mux.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        with tempfile.TemporaryFile() as file:
            file.write(MUCH)
            file.flush()
            mux.sendfile(fh, file)
        mux.start_tls(fh, client_context(), server_hostname="localhost")
        mux.send(fh, b"secret")
        until(mux, "closed")
        thread.join(PATIENCE)
    assert heard == [MUCH, b"secret"]
