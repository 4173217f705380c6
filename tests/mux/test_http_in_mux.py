"""HTTP on a handle: who waits is told to go on, bodies in pieces, and refusals that arrive."""

import os
import socket
import threading
from contextlib import suppress

import pytest
from support.meeting import meet
from support.pump import PATIENCE, drain, kinds, receive, until

from eventmux import BufferOverflow, HeaderOverflow, MalformedRecord, Read, Records
from eventmux.buffers import HTTP, Batch

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Own(HTTP):
    """A discipline of the program's own."""

    __slots__ = ()

    def fresh(self):
        return Own()


@pytest.fixture
def watch(mux, pair):
    """Watch a handle with a buffer; give it when it is up, and the peer's end."""

    def watch(buffered, **options):
        fh, peer = pair()
        peer.setblocking(False)
        mux.add(fh, buffered=buffered, **options)
        assert mux.mux(PATIENCE).type in ("ready", "can_write")
        return fh, peer

    return watch


@pytest.mark.parametrize("buffered", [HTTP(), Own()], ids=["http", "own"])
def test_who_waits_is_told_to_go_on(mux, watch, buffered):
    fh, peer = watch(buffered)
    for _ in range(2):  # on the same connection
        peer.send(HEAD)
        assert drain(mux) == []
        assert receive(peer) == CONTINUE
        peer.send(b"hello")
        assert mux.mux(PATIENCE) == Read(fh, HEAD + b"hello")


def test_who_waits_is_told_to_go_on_by_a_batch(mux, watch):
    fh, peer = watch(Batch(HTTP()))
    peer.send(HEAD)
    assert drain(mux) == []
    assert receive(peer) == CONTINUE
    peer.send(b"hello" + GET)
    assert mux.mux(PATIENCE) == Records(fh, [HEAD + b"hello", GET])


def test_who_waits_is_told_before_the_program_has_anything_to_say(mux, watch):
    fh, peer = watch(HTTP(piece_size=10))
    peer.send(HEAD)
    assert mux.mux(PATIENCE) == Read(fh, HEAD)
    mux.send(fh, b"HTTP/1.1 200 OK\r\n\r\n")
    assert receive(peer) == CONTINUE + b"HTTP/1.1 200 OK\r\n\r\n"


def test_nothing_is_said_in_the_midst_of_a_response(mux, watch):
    fh, peer = watch(HTTP())
    page = b"x" * 3_000_000
    assert mux.send(fh, page) > 0
    peer.send(HEAD)
    data = b""
    while len(data) < len(page):
        drain(mux)
        data += receive(peer)
    assert data == page


def test_nothing_is_said_behind_the_last_word(mux, watch):
    fh, peer = watch(HTTP())
    peer.send(HEAD)
    mux.close(fh)
    until(mux, "closed")
    assert receive(peer) == b""


def test_nothing_is_said_where_the_program_writes_itself(mux, watch):
    _, peer = watch(HTTP(), manual_write=True)
    peer.send(HEAD)
    for _ in range(3):
        mux.mux(0)
    assert receive(peer) == b""


def test_nothing_is_said_to_a_pipe(mux):
    reading, writing = os.pipe()
    mux.add(reading, buffered=HTTP())
    os.write(writing, HEAD + b"hello")
    os.write(writing, HEAD)
    assert until(mux, "read")[-1].data == HEAD + b"hello"
    os.close(writing)
    assert kinds(until(mux, "closed"))[-3:] == ["read_last", "closing", "closed"]


def test_one_that_is_cut_again_is_told_by_the_new_buffer(mux, watch):
    fh, peer = watch(None)
    peer.send(HEAD)
    mux.set(fh, buffered=HTTP())
    assert drain(mux) == []
    assert receive(peer) == CONTINUE


# In pieces


def test_a_body_is_read_as_fast_as_the_program_wants(mux, watch):
    """What it does not want stays with the peer."""
    fh, peer = watch(HTTP(piece_size=4000, max_size=None), read_size=8000)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
    stream = memoryview(head + b"x" * 3_000_000)
    records, sent = [], 0
    while b"" not in records:
        with suppress(BlockingIOError):
            sent += peer.send(stream[sent:])
        mux.want_read(fh, True)
        records += [event.data for event in until(mux, "read")]
        mux.want_read(fh, False)
        came = [event.data for event in drain(mux)]  # of the same read
        assert sum(map(len, came)) <= 8000
        records += came
    assert b"".join(records) == stream


def test_a_body_that_was_cut_short_ends_without_an_end(mux, watch):
    _, peer = watch(HTTP(piece_size=10))
    peer.send(HEAD + b"hel")
    peer.close()
    events = until(mux, "closed")
    assert [event.data for event in events if event.type == "read"] == [HEAD, b"hel"]


# Refusals


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", BufferOverflow),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000, HeaderOverflow),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", MalformedRecord),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", MalformedRecord),
    ],
    ids=["413", "431", "400", "chunk"],
)
@pytest.mark.parametrize("options", [{}, {"piece_size": 1000}])
def test_a_refusal_arrives_though_the_peer_still_sends(mux, head, kind, options):
    """Over TCP: a kernel that closes with unread input says so by a reset."""
    _, fh, accepted = meet(mux, buffered=HTTP(max_size=1_000_000, **options))
    mux.remove(fh)
    fh.setblocking(True)
    fh.settimeout(PATIENCE)
    answers = []

    def upload():
        fh.sendall(head)
        for _ in range(200):
            fh.sendall(b"x" * 50_000)
        fh.shutdown(socket.SHUT_WR)
        answers.append(fh.recv(1000))

    client = threading.Thread(target=upload)
    client.start()
    [*_, error] = until(mux, "error")
    assert type(error.exception) is kind
    mux.send(accepted, b"HTTP/1.1 400 No\r\n\r\n")
    assert until(mux, "closed", accepted)[-1].missing == 0
    client.join()
    fh.close()
    assert answers == [b"HTTP/1.1 400 No\r\n\r\n"]
