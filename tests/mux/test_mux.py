"""EventMux over real sockets, with each selector of the platform.

What depends on time runs on a fake clock. A socketpair passes on what it gets at once, so
`drain()` sees all of it; TCP may take a moment, so `until()` waits.
"""

import contextlib
import errno
import gc
import itertools
import math
import os
import selectors
import signal
import socket
import struct
import uuid
import weakref
from dataclasses import dataclass
from typing import ClassVar

import pytest
from support.fakes import RefusingSelector, WouldWaitForEver
from support.pump import PATIENCE, SELECTORS, drain, kinds, receive, take, until

from eventmux import (
    BufferOverflow,
    Closed,
    Closing,
    Connect,
    Error,
    Event,
    EventMux,
    Read,
    ReadLast,
    Ready,
    Sent,
    Timeout,
    URLError,
)
from eventmux.buffers import Size, Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers


def url_of(listener):
    return "tcp://{}:{}".format(*listener.getsockname())


def meet(mux, **options):
    """Connect over TCP; return the listener, the connection and what was accepted."""
    listener = mux.listen("tcp://127.0.0.1:0", **options)
    fh = mux.connect(url_of(listener))
    events = take(mux, 2)
    accepted = next(event.fh for event in events if event.type == "connect")
    return listener, fh, accepted


def reset(sock):
    """Close a TCP socket so that the peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def exchange(mux, fh, peer):
    """Let a peer read while a handle drains; return the events up to `Closed`, and the data."""
    events, data = [], b""
    for _ in range(10_000):
        event = mux.mux(0)
        if event.fh is fh:
            events.append(event)
        data += receive(peer)
        if event.type == "closed":
            return events, data
    pytest.fail(f"no closed, only {kinds(events)}")


# Life of a handle


def test_a_stream_from_ready_to_closed(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    assert mux.handles() == [fh]
    assert mux.mux() == Ready(fh)
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")
    assert mux.send(fh, b"wor", b"ld") == 0
    assert mux.mux() == Sent(fh)
    assert peer.recv(10) == b"world"
    peer.close()
    assert mux.mux() == Closing(fh, None)
    assert fh.fileno() >= 0
    assert mux.handles() == [fh]
    assert mux.mux() == Closed(fh, 0, None)
    assert fh.fileno() == -1
    assert mux.handles() == []
    assert mux.mux() is None


def test_what_the_peer_sent_before_it_went_is_read(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    peer.send(b"hello")
    peer.close()
    assert drain(mux) == [Ready(fh), Read(fh, b"hello"), Closing(fh), Closed(fh)]


def test_a_client_over_tcp(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(url_of(server))
        assert not fh.getblocking()
        assert mux.mux() == Ready(fh)
        peer, _ = server.accept()
        with peer:
            peer.send(b"hello")
            assert mux.mux() == Read(fh, b"hello")
        assert take(mux, 2) == [Closing(fh), Closed(fh)]
        assert mux.mux() is None


def test_what_is_sent_before_the_connection_is_up(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(url_of(server))
        mux.send(fh, b"hello")
        assert take(mux, 2) == [Ready(fh), Sent(fh)]
        peer, _ = server.accept()
        with peer:
            assert peer.recv(10) == b"hello"


def test_an_accepted_connection(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()) as peer:
        event = mux.mux()
        assert event == Connect(event.fh, listener, peer.getsockname(), None, None, None)
        assert set(mux.handles()) == {listener, event.fh}
        assert not event.fh.getblocking()
        peer.send(b"hello")
        assert mux.mux() == Read(event.fh, b"hello")
    assert take(mux, 2) == [Closing(event.fh), Closed(event.fh)]
    assert mux.handles() == [listener]


def test_both_ends_in_one_mux(mux):
    _, fh, accepted = meet(mux)
    mux.send(fh, b"ping")
    assert until(mux, "read") == [Sent(fh), Read(accepted, b"ping")]
    mux.send(accepted, b"pong")
    assert until(mux, "read") == [Sent(accepted), Read(fh, b"pong")]


def test_many_connections_at_once(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    fhs = [mux.connect(url_of(listener)) for _ in range(100)]
    events = take(mux, 200)
    assert {event.fh for event in events if event.type == "ready"} == set(fhs)
    ports = {event.address[1] for event in events if event.type == "connect"}
    assert ports == {fh.getsockname()[1] for fh in fhs}


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux has it")
def test_a_unix_connection_brings_credentials(mux):
    url = f"unix://@eventmux-{uuid.uuid4()}"
    listener = mux.listen(url)
    fh = mux.connect(url)
    events = {event.type: event for event in take(mux, 2)}
    assert events["ready"] == Ready(fh)
    ids = (os.getpid(), os.getuid(), os.getgid())
    accepted = events["connect"].fh
    assert events["connect"] == Connect(accepted, listener, events["connect"].address, *ids)


def unused_url():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return url_of(server)


def test_a_refused_connection(mux):
    fh = mux.connect(unused_url(), meta="mine")
    error, closing = take(mux, 2)
    assert (error.type, error.fh, error.errno) == ("error", fh, errno.ECONNREFUSED)
    assert error.error == os.strerror(errno.ECONNREFUSED)
    assert isinstance(error.exception, ConnectionRefusedError)
    assert error.data == b""
    assert closing == Closing(fh, error.error)
    assert mux.meta(fh) == "mine"
    assert mux.mux() == Closed(fh, 0, error.error)
    assert mux.mux() is None


def test_a_refused_connection_counts_what_was_not_sent(mux):
    fh = mux.connect(unused_url())
    mux.send(fh, b"hello")
    assert until(mux, "closed")[-1].missing == 5


@pytest.mark.parametrize(
    "url",
    ["unix:///no/such/dir/x", f"unix:///{'x' * 200}", "tcp://no-such-host.invalid:1", "tcp://:1"],
)
def test_a_connection_that_fails_at_once_is_told_by_events(mux, url):
    fh = mux.connect(url)
    assert mux.handles() == [fh]
    assert kinds(take(mux, 3)) == ["error", "closing", "closed"]
    assert mux.mux() is None


@pytest.mark.parametrize("host", ["x" * 64, "a..b", "\ud800"])
def test_a_name_that_cannot_be_one(mux, host):
    # Python's IDNA codec raises UnicodeError for these.
    with pytest.raises((URLError, OSError)):
        mux.listen(f"tcp://{host}:1")
    with contextlib.suppress(URLError):
        mux.connect(f"tcp://{host}:1")
        assert kinds(take(mux, 3)) == ["error", "closing", "closed"]
    assert mux.handles() == []


@pytest.mark.skipif(os.name == "nt", reason="paths are text there")
def test_a_path_that_cannot_be_one(mux):
    with contextlib.suppress(URLError):
        mux.connect("unix:///tmp/\ud800")
        assert kinds(take(mux, 3)) == ["error", "closing", "closed"]
    assert mux.handles() == []


def resolve_to(monkeypatch, *addresses):
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    def getaddrinfo(host, *_, flags=0, **__):
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} is a name")
        return entries

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("refused", [1, 3])
def test_a_name_with_several_addresses_is_tried_until_one_answers(mux, monkeypatch, refused):
    # "localhost" is ::1 first nearly everywhere, and a server often on 127.0.0.1 only.
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = unused_url().rpartition(":")[2]
        bad = [("127.0.0.1", int(closed))] * refused
        resolve_to(monkeypatch, *bad, server.getsockname())
        fh = mux.connect("tcp://localhost:80")
        mux.send(fh, b"hello")
        assert until(mux, "sent") == [Ready(fh), Sent(fh)]
        peer, _ = server.accept()
        with peer:
            assert peer.recv(10) == b"hello"
            peer.send(b"world")
            assert mux.mux(PATIENCE) == Read(fh, b"world")
        assert not fh.getblocking()
        assert not os.get_blocking(fh.fileno())
        assert fh.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_name_none_of_whose_addresses_answers(mux, monkeypatch):
    closed = int(unused_url().rpartition(":")[2])
    resolve_to(monkeypatch, *[("127.0.0.1", closed)] * 3)
    fh = mux.connect("tcp://localhost:80")
    events = take(mux, 3)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno == errno.ECONNREFUSED
    assert mux.mux() is None
    assert fh.fileno() == -1


@pytest.mark.parametrize("url", ["tcp://127.0.0.1", "http://x:1", "unix://"])
def test_a_url_that_is_not_understood_is_raised(mux, url):
    for method in (mux.connect, mux.listen):
        with pytest.raises(URLError, match="cannot parse"):
            method(url)
    assert mux.handles() == []


def test_listen_raises_what_the_kernel_says(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with pytest.raises(OSError, match="in use"):
        mux.listen(url_of(listener))
    assert mux.handles() == [listener]


def test_listen_passes_the_backlog_on(mux):
    url = f"unix://@eventmux-{uuid.uuid4()}"
    mux.listen(url, backlog=0)
    mux.connect(url)
    second = mux.connect(url)
    event = next(event for event in take(mux, 3) if event.fh is second)
    assert event.errno == errno.EAGAIN


# The end: by the peer


def test_a_reset_is_an_error(mux):
    _, fh, accepted = meet(mux)
    mux.remove(accepted)
    reset(accepted)
    error, closing, closed = take(mux, 3)
    assert (error.type, error.fh, error.errno) == ("error", fh, errno.ECONNRESET)
    assert closing == Closing(fh, error.error)
    assert closed == Closed(fh, 0, error.error)


def test_a_peer_that_is_gone_before_it_is_accepted(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    reset(socket.create_connection(listener.getsockname()))
    connect, *rest = until(mux, "closed")
    assert connect.type == "connect"
    assert {event.fh for event in rest} == {connect.fh}
    assert kinds(rest)[-2:] == ["closing", "closed"]
    assert mux.handles() == [listener]


def test_queued_output_is_sent_although_the_peer_has_finished(mux, watched):
    fh, peer = watched
    assert mux.send(fh, HUGE) > 0
    peer.send(b"that was all")
    peer.shutdown(socket.SHUT_WR)
    events, data = exchange(mux, fh, peer)
    assert events == [Read(fh, b"that was all"), Closing(fh), Sent(fh), Closed(fh, 0)]
    assert data == HUGE


@pytest.mark.parametrize("when", ["read", "closing"])
@pytest.mark.parametrize("reply", [b"reply", HUGE], ids=["small", "huge"])
def test_a_reply_after_the_peer_has_finished(mux, watched, when, reply):
    fh, peer = watched
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    until(mux, when)
    mux.send(fh, reply)
    events, data = exchange(mux, fh, peer)
    order = [kind for kind in kinds(events) if kind != "sent"]
    assert order == (["closing", "closed"] if when == "read" else ["closed"])
    assert events[-1].missing == 0
    assert data == reply
    assert mux.mux() is None


def test_a_peer_that_goes_while_output_is_queued(mux, watched):
    fh, peer = watched
    unsent = mux.send(fh, HUGE)
    peer.close()
    events = drain(mux)
    assert kinds(events) in (["error", "closing", "closed"], ["closing", "closed"])
    assert 0 < events[-1].missing <= unsent
    assert events[-1].reason
    assert mux.mux() is None


def test_a_reply_to_a_peer_that_has_gone_is_missing(mux, watched):
    fh, peer = watched
    peer.close()
    assert mux.mux() == Closing(fh)
    mux.send(fh, b"reply")
    assert drain(mux) == [Closed(fh, 5, os.strerror(errno.EPIPE))]


def test_the_last_words_of_a_peer_that_went_before_we_were_ready(mux, pair):
    fh, peer = pair()
    peer.send(b"bye")
    peer.close()
    mux.add(fh)
    mux.send(fh, b"request")
    events = drain(mux)
    assert Read(fh, b"bye") in events
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert events[-1].missing == 7


def test_the_last_words_of_a_peer_are_read_although_sending_fails(mux, watched):
    fh, peer = watched
    peer.send(b"no such procedure")
    peer.close()
    mux.send(fh, b"request")
    events = drain(mux)
    assert Read(fh, b"no such procedure") in events
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert events[-1].missing == 7


@pytest.mark.parametrize(
    ("buffered", "kind"), [(Split(), Read), (Size("B"), ReadLast)], ids=["split", "size"]
)
def test_what_is_left_at_the_end(mux, pair, buffered, kind):
    fh, peer = pair()
    mux.add(fh, buffered=buffered)
    peer.send(b"\5ab")
    peer.close()
    assert drain(mux) == [Ready(fh), kind(fh, b"\5ab"), Closing(fh), Closed(fh)]


def test_a_record_over_the_limit(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split(max_size=3))
    peer.send(b"abc\ndefgh\ni\n")
    ready, read, error, closing, closed = drain(mux)
    assert (ready, read) == (Ready(fh), Read(fh, b"abc"))
    assert (error.type, error.fh, error.errno, error.data) == ("error", fh, None, b"defgh\ni\n")
    assert "5 bytes" in error.error
    assert "limit is 3" in error.error
    assert isinstance(error.exception, BufferOverflow)
    assert closing == Closing(fh, error.error)
    assert closed == Closed(fh, 0, error.error)


def test_one_bad_peer_does_not_hurt_another(mux):
    listener = mux.listen("tcp://127.0.0.1:0", buffered=Size("!I", max_size=100))
    with (
        socket.create_connection(listener.getsockname()) as good,
        socket.create_connection(listener.getsockname()) as bad,
    ):
        good.send(b"\0\0\0\5hel")
        bad.send(b"\xff" * 20)
        assert until(mux, "closed")[-1].fh.getsockname is not None
        good.send(b"lo")
        assert until(mux, "read")[-1].data == b"hello"


# The end: by us


def test_close_without_output(mux, watched):
    fh, peer = watched
    mux.close(fh)
    mux.close(fh)
    assert mux.mux() == Closing(fh, None)
    assert mux.meta(fh) is None
    assert mux.mux() == Closed(fh, 0, None)
    assert mux.mux() is None
    assert peer.recv(1) == b""


def test_close_sends_first(mux, watched):
    fh, peer = watched
    mux.send(fh, HUGE)
    mux.close(fh)
    events, data = exchange(mux, fh, peer)
    assert events == [Closing(fh), Closed(fh, 0)]
    assert data == HUGE
    assert mux.mux() is None


def test_close_sends_what_was_put_off(mux, watched):
    fh, peer = watched
    mux.send(fh, b"hello", later=True)
    mux.close(fh)
    assert drain(mux) == [Closing(fh), Closed(fh, 0)]
    assert receive(peer) == b"hello"


def test_after_close_nothing_is_taken_and_nothing_read(mux, watched):
    fh, peer = watched
    mux.close(fh)
    assert mux.send(fh, b"more") == 0
    peer.send(b"late")
    assert drain(mux) == [Closing(fh), Closed(fh)]
    assert receive_or_reset(peer) == b""


def receive_or_reset(sock):
    """A socket closed with unread input resets its peer on Linux."""
    with contextlib.suppress(ConnectionResetError):
        return receive(sock)
    return b""


def test_what_was_read_before_close_still_comes(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    mux.mux()
    peer.send(b"one\ntwo\nthree\n")
    assert mux.mux() == Read(fh, b"one")
    mux.close(fh)
    assert drain(mux) == [Read(fh, b"two"), Read(fh, b"three"), Closing(fh), Closed(fh)]


def test_a_peer_that_goes_while_we_drain_is_the_reason(mux, watched):
    fh, peer = watched
    unsent = mux.send(fh, HUGE)
    mux.close(fh)
    assert mux.mux() == Closing(fh)
    peer.close()
    closed = mux.mux()
    assert (closed.type, closed.fh) == ("closed", fh)
    assert 0 < closed.missing <= unsent
    assert closed.reason == os.strerror(errno.EPIPE)
    assert mux.mux() is None


def test_close_of_a_connection_that_is_being_made(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(url_of(server))
        mux.send(fh, b"hello", later=True)
        mux.close(fh)
        assert kinds(until(mux, "closed")) == ["closing", "closed"]
        peer, _ = server.accept()
        with peer:
            assert peer.recv(10) == b"hello"


def test_close_of_a_listener(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    address = listener.getsockname()
    mux.close(listener)
    assert drain(mux) == [Closing(listener), Closed(listener)]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_kill_closes_now_and_only_says_so(mux, watched):
    fh, peer = watched
    peer.send(b"unread")
    unsent = mux.send(fh, HUGE)
    mux.kill(fh, "enough")
    assert fh.fileno() == -1
    assert mux.handles() == []
    assert mux.mux() == Closed(fh, unsent, "enough")
    assert mux.mux() is None


def test_kill_without_a_reason_has_none(mux, watched):
    mux.kill(watched[0])
    assert mux.mux() == Closed(watched[0], 0, None)


def test_kill_after_a_failure_knows_why(mux):
    fh = mux.connect(unused_url())
    error = mux.mux()
    mux.kill(fh)
    assert mux.mux() == Closed(fh, 0, error.error)


def test_kill_drops_what_is_queued(mux, pair):
    fh, peer = pair()
    other, remote = pair()
    mux.add(fh, buffered=Split())
    mux.add(other)
    assert kinds(take(mux, 2)) == ["ready", "ready"]
    peer.send(b"one\ntwo\nthree\n")
    remote.send(b"hello")
    events = [mux.mux()]
    while events[-1] != Read(fh, b"one"):
        events.append(mux.mux())
    mux.kill(fh)
    events += drain(mux)
    assert [event for event in events if event.fh is fh] == [Read(fh, b"one"), Closed(fh)]
    assert Read(other, b"hello") in events


@pytest.mark.parametrize("method", ["kill", "remove"])
def test_a_handle_that_goes_in_the_turn_of_others(mux, pair, method):
    # All of them have events in the queue when the first one is handed out.
    pairs = [pair() for _ in range(4)]
    for fh, peer in pairs:
        mux.add(fh)
        peer.send(b"hello")
        peer.shutdown(socket.SHUT_WR)
    take(mux, 4)
    first = mux.mux()
    gone = [fh for fh, _ in pairs if fh is not first.fh][:2]
    for fh in gone:
        getattr(mux, method)(fh)
    events = drain(mux)
    for fh in gone:
        expected = [Closed(fh)] if method == "kill" else []
        assert [event for event in events if event.fh is fh] == expected
    stays = next(fh for fh, _ in pairs if fh not in gone and fh is not first.fh)
    expected = [Read(stays, b"hello"), Closing(stays), Closed(stays)]
    assert [event for event in events if event.fh is stays] == expected


def test_kill_between_closing_and_closed(mux, watched):
    fh, peer = watched
    peer.close()
    assert mux.mux() == Closing(fh)
    mux.kill(fh, "now")
    assert drain(mux) == [Closed(fh, 0, "now")]


def test_kill_before_closing_is_handed_out(mux, watched):
    fh, _ = watched
    mux.close(fh)
    mux.kill(fh)
    assert drain(mux) == [Closed(fh)]


def test_kill_of_a_connection_that_is_being_made(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(url_of(server))
        mux.kill(fh)
        assert drain(mux) == [Closed(fh)]


def test_kill_of_an_accepted_connection_that_was_not_told_yet(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with (
        socket.create_connection(listener.getsockname()),
        socket.create_connection(listener.getsockname()),
    ):
        assert mux.mux(PATIENCE).type == "connect"
        assert len(mux.handles()) == 3
        last = mux.handles()[-1]
        mux.kill(last)
        assert drain(mux) == [Closed(last)]


def test_kill_of_a_listener_leaves_what_it_accepted(mux):
    listener, fh, accepted = meet(mux)
    mux.kill(listener)
    assert mux.mux() == Closed(listener)
    mux.send(fh, b"hello")
    assert until(mux, "read")[-1] == Read(accepted, b"hello")


def test_a_descriptor_that_is_used_again_is_another_handle(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split(), meta="first")
    peer.send(b"one\ntwo\n")
    assert take(mux, 2) == [Ready(fh), Read(fh, b"one")]
    number = fh.fileno()
    mux.kill(fh)
    second, remote = pair()
    assert number in (second.fileno(), remote.fileno())
    mux.add(second)
    mux.add(remote)
    remote.send(b"hello")
    events = drain(mux)
    assert events[0] == Closed(fh)
    assert Read(second, b"hello") in events
    assert [event for event in events if event.fh is fh] == [Closed(fh)]


def test_remove_hands_it_back(mux, pair):
    fh, peer = pair()
    fh.settimeout(3.5)
    mux.add(fh)
    peer.send(b"unread")
    assert mux.mux() == Ready(fh)
    mux.remove(fh)
    assert mux.handles() == []
    assert drain(mux) == []
    assert fh.gettimeout() == 3.5
    assert fh.recv(10) == b"unread"


def test_remove_hands_back_a_tcp_socket_as_it_was(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = socket.create_connection(server.getsockname())
        with fh:
            before = fh.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            mux.add(fh)
            mux.remove(fh)
            assert fh.gettimeout() is None
            assert fh.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == before


def test_remove_hands_back_a_listener(mux):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mux.add(listener)
        mux.remove(listener)
        assert listener.gettimeout() is None
        assert mux.mux() is None


def test_remove_hands_back_what_was_accepted_blocking(mux):
    _, _, accepted = meet(mux)
    mux.remove(accepted)
    with accepted:
        assert accepted.gettimeout() is None


def test_a_removed_handle_can_be_added_again(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split(), meta="first")
    peer.send(b"one\ntwo\nthr")
    assert take(mux, 2) == [Ready(fh), Read(fh, b"one")]
    mux.remove(fh)
    mux.add(fh, meta="second")
    assert mux.has_events() == 0
    assert mux.meta(fh) == "second"
    peer.send(b"again")
    assert drain(mux) == [Ready(fh), Read(fh, b"again")]


def test_removed_added_and_removed_again(mux, pair):
    fh, peer = pair()
    peer.send(b"one\ntwo\n")
    for _ in range(3):
        mux.add(fh, buffered=Split())
        mux.push_event(Event(fh))
        mux.remove(fh)
    assert mux.has_events() == 0
    assert drain(mux) == []
    mux.add(fh, buffered=Split())
    assert drain(mux) == [Ready(fh), Read(fh, b"one"), Read(fh, b"two")]


def test_removed_added_and_killed(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    mux.push_event(Event(fh))
    mux.remove(fh)
    mux.add(fh)
    mux.push_event(Event(fh))
    mux.kill(fh)
    assert mux.has_events() == 1
    assert drain(mux) == [Closed(fh)]


def test_remove_forgets_what_was_put_off(mux, watched):
    fh, peer = watched
    mux.send(fh, b"hello", later=True)
    mux.remove(fh)
    assert mux.mux() is None
    assert receive(peer) == b""


@pytest.mark.parametrize("method", ["close", "kill", "remove"])
def test_a_handle_that_the_program_closed_already(mux, watched, method):
    fh, _ = watched
    fh.close()
    getattr(mux, method)(fh)
    events = drain(mux)
    expected = {"close": ["closing", "closed"], "kill": ["closed"], "remove": []}
    assert kinds(events) == expected[method]
    assert mux.handles() == []


def test_a_closed_listener_whose_descriptor_is_used_again(mux, pair):
    listener = mux.listen("tcp://127.0.0.1:0")
    number = listener.fileno()
    listener.close()
    fh, peer = pair()
    assert number in (fh.fileno(), peer.fileno())
    mux.add(fh)
    mux.add(peer)
    events = drain(mux)
    of_listener = [event for event in events if event.fh is listener]
    assert kinds(of_listener) == ["error", "closing", "closed"]
    assert of_listener[0].errno == errno.EBADF
    assert set(mux.handles()) == {fh, peer}


def test_a_killed_handle_is_forgotten(mux):
    # Not even the note about what to drop may keep it: that would grow with each client.
    fh, peer = socket.socketpair()
    with peer:
        mux.add(fh)
        mux.push_event(Event(fh), Event())
        mux.kill(fh)
        reference = weakref.ref(fh)
        del fh
        assert kinds(drain(mux)) == ["", "closed"]
        gc.collect()
        assert reference() is None


def test_a_descriptor_that_the_program_closed_is_used_again(mux, watched, pair):
    # The selector still knows the number; the new handle must not suffer for it.
    fh, _ = watched
    number = fh.fileno()
    fh.close()
    second, remote = pair()
    assert number in (second.fileno(), remote.fileno())
    mux.add(second)
    mux.add(remote)
    mux.send(remote, b"hello")
    events = drain(mux)
    assert kinds([event for event in events if event.fh is fh]) == ["error", "closing", "closed"]
    assert Read(second, b"hello") in events
    assert set(mux.handles()) == {second, remote}


# Sending


def test_send_returns_what_is_queued(mux, watched):
    fh, peer = watched
    unsent = mux.send(fh, HUGE)
    assert 0 < unsent < len(HUGE)
    assert mux.buflen(fh) == unsent
    assert mux.send(fh, b"abc", b"de") == unsent + 5
    assert mux.has_events() == 0
    data = b""
    while mux.buflen(fh):
        data += receive(peer)
        event = mux.mux(0)
    assert event == Sent(fh)
    assert data + receive(peer) == HUGE + b"abcde"
    assert drain(mux) == []


def test_sent_comes_once_for_many_writes(mux, watched):
    fh, peer = watched
    mux.send(fh, HUGE)
    mux.send(fh, b"more")
    events = []
    while mux.buflen(fh):
        receive(peer)
        events.append(mux.mux(0))
    assert [event for event in events if event.type != "timeout"] == [Sent(fh)]


def test_later_is_sent_before_the_mux_waits(mux, watched):
    fh, peer = watched
    assert mux.send(fh, b"one", later=True) == 3
    assert mux.send(fh, b"two", later=True) == 6
    assert mux.buflen(fh) == 6
    assert receive(peer) == b""
    assert mux.has_events() == 0
    assert mux.mux(0) == Timeout()  # what has left at once is not told of
    assert receive(peer) == b"onetwo"
    assert drain(mux) == []


def test_later_costs_one_system_call(mux, watched):
    fh, peer = watched
    for number in range(31):
        assert mux.send(fh, b"%02d," % number, later=True) == 3 * (number + 1)
    assert receive(peer) == b""
    drain(mux)
    assert receive(peer) == b"".join(b"%02d," % number for number in range(31))


def test_later_is_now_when_enough_pieces_have_come_together(mux, watched):
    fh, peer = watched
    for _ in range(31):
        mux.send(fh, b"a", later=True)
    assert mux.send(fh, b"b", later=True) == 0
    assert receive(peer) == b"a" * 31 + b"b"
    assert mux.send(fh, b"c", later=True) == 1  # from here on it waits again
    assert receive(peer) == b""
    assert drain(mux) == []  # all of it has left at once
    assert receive(peer) == b"c"


def test_what_has_left_is_nothing_to_wait_for(mux, watched):
    fh, peer = watched
    for _ in range(32 * 100):
        mux.send(fh, b"a", later=True)
    assert mux.buflen(fh) == 0
    assert mux.timeout() is None
    assert len(mux._loop.table.unflushed) == 1
    assert receive(peer) == b"a" * 3200


@pytest.mark.parametrize("first", [b"", b"x"])
def test_later_is_not_lost_behind_the_end_of_the_peer(mux, pair, first):
    fh, peer = pair()
    asking, asker = pair()
    mux.add(asking, meta_handler=lambda *_: mux.send(fh, first, later=True))
    mux.add(fh)
    take(mux, 2)
    asker.send(b"a question")
    peer.shutdown(socket.SHUT_WR)
    events = [mux.mux()]
    mux.send(fh, b"the answer", later=True)
    events += drain(mux)
    assert {"read", "closing", "closed"} <= set(kinds(events))
    assert [event.missing for event in events if event.type == "closed"] == [0]
    assert receive(peer) == first + b"the answer"


def test_later_is_now_when_enough_bytes_have_come_together(mux, watched):
    fh, peer = watched
    mux.send(fh, b"a", later=True)
    assert mux.send(fh, b"b" * (64 * 1024 - 1), later=True) == 0
    assert receive(peer) == b"a" + b"b" * (64 * 1024 - 1)


def test_what_does_not_leave_at_once_when_enough_has_come_together(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux() == Ready(fh)
    sent = b""
    for number in itertools.count(1):
        sent += b"%04d" % (number % 10_000) * 250
        left = mux.send(fh, sent[-1000:], later=True)
        if number % 32 == 0 and left:  # else all of them have left
            break
    assert left > 1000
    peer.send(b"a question")
    assert mux.mux(0) == Timeout()  # the peer is to read first
    received = b""
    for _ in range(1000):
        if not mux.buflen(fh):
            break
        received += receive(peer)
        mux.mux(0)
    assert received + receive(peer) == sent


def test_what_is_put_off_behind_a_full_queue_throttles_at_once(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1_000_000)
    assert mux.mux() == Ready(fh)
    unsent = mux.send(fh, b"x" * 900_000)
    assert 0 < unsent < 1_000_000
    while mux.buflen(fh) <= 1_000_000:
        mux.send(fh, b"x" * 1000, later=True)
    peer.send(b"a question")
    assert mux.mux(0) == Timeout()


def test_more_than_enough_for_a_peer_that_does_not_listen(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux() == Ready(fh)
    mux.send(fh, HUGE, later=True)
    left = mux.send(fh, b"more", later=True)
    assert 1000 < left < len(HUGE)
    assert mux.send(fh, b"most", later=True) == left + 4  # it has to wait, and so does what follows
    peer.send(b"a question")
    assert drain(mux) == []  # the answers are to be read first
    data = b""
    while mux.buflen(fh):
        data += receive(peer)
        event = mux.mux(0)
    assert data + receive(peer) == HUGE + b"moremost"
    assert kinds(sorted([event, *drain(mux)], key=lambda event: event.type)) == ["read", "sent"]


def test_later_is_sent_with_what_is_sent_now(mux, watched):
    fh, peer = watched
    mux.send(fh, b"one", later=True)
    assert mux.send(fh, b"two") == 0
    assert receive(peer) == b"onetwo"
    assert drain(mux) == [Sent(fh)]


def test_later_waits_for_the_queue(mux, watched):
    fh, peer = watched
    mux.push_event(Event(), Event())
    mux.send(fh, b"one", later=True)
    mux.mux()
    assert receive(peer) == b""
    mux.mux()
    mux.mux(0)
    assert receive(peer) == b"one"


def test_later_than_the_kernel_can_take(mux, watched):
    fh, peer = watched
    unsent = mux.send(fh, HUGE)
    assert mux.send(fh, b"end", later=True) == unsent + 3
    data = b""
    while mux.buflen(fh):
        data += receive(peer)
        mux.mux(0)
    assert data + receive(peer) == HUGE + b"end"


def test_more_is_put_off_than_the_kernel_can_take(mux, watched):
    fh, peer = watched
    assert 0 < mux.send(fh, HUGE, later=True) < len(HUGE)  # so much waits for no turn
    assert drain(mux) == []
    data = b""
    while mux.buflen(fh):
        unsent = mux.buflen(fh)
        data += receive(peer)
        mux.mux(0)
        assert mux.buflen(fh) < unsent
    assert data + receive(peer) == HUGE


def test_later_to_a_peer_that_has_gone(mux, watched):
    fh, peer = watched
    mux.send(fh, b"hello", later=True)
    peer.close()
    events = drain(mux)
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert events[-1].missing == 5


def test_a_peer_that_does_not_listen_is_not_read_from(mux, pair):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux() == Ready(fh)
    assert mux.send(fh, HUGE) > 1000
    peer.send(b"more questions")
    assert drain(mux) == []
    while mux.buflen(fh):
        receive(peer)
        event = mux.mux(0)
        if mux.buflen(fh) > 1000:
            assert isinstance(event, Timeout)
    assert event in (Sent(fh), Read(fh, b"more questions"))
    assert Read(fh, b"more questions") in [event, *drain(mux)]


def test_accepted_connections_inherit_high_water(mux):
    _, fh, accepted = meet(mux, high_water=1000)
    mux.kill(fh)
    until(mux, "closed", accepted)
    listener = mux.listen("tcp://127.0.0.1:0", high_water=1000)
    with socket.create_connection(listener.getsockname()) as peer:
        accepted = until(mux, "connect")[-1].fh
        mux.send(accepted, b"x" * 20_000_000)
        assert mux.buflen(accepted) > 1000
        peer.send(b"more questions")
        assert "read" not in kinds(drain(mux))


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_only_bytes_can_be_sent(mux, watched, wrong):
    with pytest.raises(TypeError, match=f"cannot send {type(wrong).__name__}, only bytes"):
        mux.send(watched[0], wrong)
    assert mux.buflen(watched[0]) == 0


def test_sending_to_a_listener_is_refused(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with pytest.raises(TypeError, match="it is a listener"):
        mux.send(listener, b"hello")


# Selective receive


def test_only_leaves_the_others_in_order(mux, pair):
    fh, peer = pair()
    other, remote = pair()
    mux.add(other, buffered=Split())
    mux.add(fh, buffered=Split())
    take(mux, 2)
    remote.send(b"a\nb\n")
    peer.send(b"1\n2\n")
    assert mux.mux(only=fh) == Read(fh, b"1")
    remote.send(b"c\n")
    assert mux.mux(only=fh) == Read(fh, b"2")
    assert mux.mux(0, only=fh) == Timeout()
    assert [event.data for event in drain(mux)] == [b"a", b"b", b"c"]


def test_only_lets_the_others_write(mux, pair):
    fh, _ = pair()
    other, remote = pair()
    mux.add(fh)
    mux.add(other)
    take(mux, 2)
    mux.send(other, HUGE)
    mux.close(other)
    data = b""
    while mux.buflen(other):
        data += receive(remote)
        assert mux.mux(0, only=fh) == Timeout()
    assert data + receive(remote) == HUGE
    assert drain(mux) == [Closing(other), Closed(other)]
    assert mux.has_events() == 0


def test_only_sees_a_handle_to_its_end(mux, pair):
    fh, peer = pair()
    other, _ = pair()
    mux.add(fh)
    mux.add(other)
    peer.send(b"hello")
    peer.close()
    events = [mux.mux(only=fh) for _ in range(5)]
    assert events == [Ready(fh), Read(fh, b"hello"), Closing(fh), Closed(fh), None]
    assert drain(mux) == [Ready(other)]


def test_only_and_kill(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    take(mux, 1)
    peer.send(b"1\n2\n")
    mux.push_event(Event())
    mux.mux(0)
    assert mux.mux(only=fh) == Read(fh, b"1")
    mux.push_event(Event())
    mux.kill(fh)
    assert mux.mux(only=fh) == Closed(fh)
    assert mux.mux(only=fh) is None
    assert mux.mux() == Event()


def test_only_and_remove(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    take(mux, 1)
    peer.send(b"1\n2\n")
    assert mux.mux() == Read(fh, b"1")
    mux.remove(fh)
    assert mux.mux(only=fh) is None
    assert mux.mux(0, only=fh) is None


def test_only_passes_over_what_concerns_no_handle(mux, watched):
    fh, peer = watched
    mux.push_event(Event())
    peer.send(b"hello")
    assert mux.mux(only=fh) == Read(fh, b"hello")
    assert mux.mux() == Event()


def test_only_of_a_stranger(mux, pair, watched):
    stranger, _ = pair()
    assert mux.mux(only=stranger) is None
    assert mux.mux(1000, only=stranger) is None


def test_only_is_for_one_handle_of_the_same_turn(mux, pair):
    pairs = [pair() for _ in range(5)]
    for fh, peer in pairs:
        mux.add(fh)
        peer.send(b"hello")
    for fh, _ in reversed(pairs):
        assert mux.mux(only=fh) == Ready(fh)
        assert mux.mux(only=fh) == Read(fh, b"hello")
    assert drain(mux) == []


# Time


def test_the_lowest_timeout_counts(timed, clock):
    assert timed.mux(None, 5, 0.25, None, 3) == Timeout()
    assert clock.now == 1000.25


def test_a_timeout_has_no_handle(timed):
    event = timed.mux(0)
    assert event == Timeout()
    assert event.fh is None
    assert event.type == "timeout"


def test_zero_asks_without_waiting(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    peer.send(b"hello")
    assert [timed.mux(0), timed.mux(0), timed.mux(0)] == [
        Ready(fh),
        Read(fh, b"hello"),
        Timeout(),
    ]
    assert clock.now == 1000
    assert selector.timeouts == [0, 0, 0]


@pytest.mark.parametrize("timeouts", [(), (None,), (None, None)])
def test_no_timeout_is_for_ever(timed, selector, pair, timeouts):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    selector.meanwhile.append((1e6, lambda: peer.send(b"at last")))
    assert timed.mux(*timeouts) == Read(fh, b"at last")
    assert selector.timeouts[-1] is None


@pytest.mark.parametrize("timeouts", [(), (None,)])
def test_nothing_to_wait_for_is_none(timed, selector, timeouts):
    assert timed.mux(*timeouts) is None
    assert selector.timeouts == []


def test_with_a_timeout_there_is_always_something_to_wait_for(timed, clock):
    assert timed.mux(2) == Timeout()
    assert clock.now == 1002


@pytest.mark.parametrize(
    "timeouts",
    [
        (-1,),
        (-0.001, 5),
        (None, 5, -1),
        (math.nan,),
        (math.nan, 1),
        (1, math.nan),
        (None, math.nan),
        (-math.inf,),
    ],
)
def test_a_wrong_timeout_is_refused(timed, timeouts):
    timed.push_event(Event())
    with pytest.raises(ValueError, match=r"timeout is (-|nan)"):
        timed.mux(*timeouts)
    assert timed.has_events() == 1


def test_a_timeout_that_is_no_number_is_refused(timed):
    with pytest.raises(TypeError):
        timed.mux("1")


@pytest.mark.parametrize("timeout", [30 * 86400, 1e10, 1e300, math.inf])
def test_a_timeout_may_be_long(mux, watched, timeout):
    # epoll and poll cannot wait for more than 24 days at once, and not for infinity.
    fh, peer = watched
    peer.send(b"hello")
    assert mux.mux(timeout) == Read(fh, b"hello")


def test_a_queued_event_needs_no_time(timed, clock, selector):
    timed.push_event(Event())
    assert timed.mux(5) == Event()
    assert clock.now == 1000
    assert selector.timeouts == []


def test_one_deadline_although_half_records_keep_arriving(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh, buffered=Split())
    timed.mux()
    selector.meanwhile.extend([(0.75, lambda: peer.send(b"x"))] * 10)
    assert timed.mux(3) == Timeout()
    assert clock.now == 1003
    assert selector.timeouts[1:] == [3, 2.25, 1.5, 0.75]


def test_one_deadline_although_others_keep_talking(timed, clock, selector, pair):
    fh, _ = pair()
    other, peer = pair()
    timed.add(fh)
    timed.add(other)
    take(timed, 2)
    selector.meanwhile.extend([(0.5, lambda: peer.send(b"x"))] * 10)
    assert timed.mux(2, only=fh) == Timeout()
    assert clock.now == 1002
    assert len(drain(timed)) == 4


def test_a_clock_that_runs_past_the_deadline(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh, buffered=Split())
    timed.mux()

    def late():
        clock.advance(100)
        peer.send(b"x")

    selector.meanwhile.append((0, late))
    assert timed.mux(1) == Timeout()
    assert len(selector.timeouts) == 2


def test_an_event_at_the_deadline_is_not_a_timeout(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()

    def late():
        clock.advance(100)
        peer.send(b"x")

    selector.meanwhile.append((0, late))
    assert timed.mux(1) == Read(fh, b"x")


def test_waiting_is_not_a_busy_loop(timed, clock, selector, pair):
    # Streams in every state in which they want nothing, or what cannot come.
    idle, _keep = pair()
    draining, _deaf = pair()
    half, finished = pair()
    full, _mute = pair()
    for fh in (idle, draining, half, full):
        timed.add(fh, high_water=1)
    take(timed, 4)
    timed.listen("tcp://127.0.0.1:0")
    timed.send(draining, HUGE)
    timed.close(draining)
    timed.send(half, HUGE)
    finished.shutdown(socket.SHUT_WR)
    timed.send(full, HUGE)
    drain(timed)
    del selector.timeouts[:]
    assert timed.mux(60) == Timeout()
    assert clock.now == 1060
    assert len(selector.timeouts) == 2  # once it looks after handles that were closed meanwhile


# Listeners without descriptors


@contextlib.contextmanager
def no_descriptors():
    """No more descriptors for this process: the kernel says EMFILE."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        one, two = socket.socketpair()  # the lowest that are free; all below are in use
        lowest = min(one.fileno(), two.fileno())
        one.close()
        two.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        yield


def test_a_listener_without_descriptors_waits_a_second(timed, clock, selector):
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()):
        with no_descriptors():
            error = timed.mux()
            assert (error.type, error.fh, error.errno) == ("error", listener, errno.EMFILE)
            assert error.error == os.strerror(errno.EMFILE)
            del selector.timeouts[:]
            assert timed.mux(0.25) == Timeout()
            assert timed.mux(0.5) == Timeout()
            assert selector.timeouts == [0.25, 0.5]
            again = timed.mux()
            assert (again.type, again.errno) == ("error", errno.EMFILE)
            assert clock.now == 1001
        assert timed.mux().type == "connect"
        assert clock.now == 1002
        assert timed.mux(5) == Timeout()
    assert len(selector.timeouts) < 10


@pytest.mark.parametrize("how", ["kill", "close"])
def test_a_listener_without_descriptors_goes_on_when_one_is_free(timed, clock, pair, how):
    fh, _ = pair()
    timed.add(fh)
    timed.mux()
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()), no_descriptors():
        assert timed.mux().type == "error"
        getattr(timed, how)(fh)
        # Linux says EMFILE for the last descriptor + 1 even if no one waits for it.
        events = [kind for kind in kinds(drain(timed)) if kind != "error"]
        assert events[-2:] == ["closed", "connect"]
        assert clock.now == 1000


def test_two_listeners_without_descriptors(timed, clock, selector):
    listeners = [timed.listen("tcp://127.0.0.1:0") for _ in range(2)]
    with (
        socket.create_connection(listeners[0].getsockname()),
        socket.create_connection(listeners[1].getsockname()),
    ):
        with no_descriptors():
            for _ in range(3):
                assert {event.fh for event in take(timed, 2)} == set(listeners)
            assert clock.now == 1002
        assert {event.parent_fh for event in take(timed, 2)} == set(listeners)
        assert clock.now == 1003


@pytest.mark.parametrize("method", ["kill", "remove", "close"])
def test_a_paused_listener_can_go(timed, clock, selector, method):
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()), no_descriptors():
        assert timed.mux().type == "error"
        getattr(timed, method)(listener)
        drain(timed)
        assert timed.mux() is None
        assert len(selector.get_map()) == 1  # the mux's own bell
    listener.close()
    assert clock.now == 1000


def test_a_paused_listener_lets_the_others_go_on(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()), no_descriptors():
        assert timed.mux().type == "error"
        selector.meanwhile.append((0.5, lambda: peer.send(b"hello")))
        assert timed.mux() == Read(fh, b"hello")
        assert clock.now == 1000.5


def test_a_connection_that_cannot_be_watched_is_an_error_of_the_listener(pair):
    # epoll has a limit of its own (ENOSPC). That the peer came is no reason for mux() to raise.
    selector = RefusingSelector()
    with EventMux(selector=selector) as mux:
        fh, _ = pair()
        mux.add(fh)
        mux.mux()
        listener = mux.listen("tcp://127.0.0.1:0")
        with socket.create_connection(listener.getsockname()) as peer:
            selector.refuse = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            event = mux.mux(PATIENCE)
            assert event.type == "error"
            assert event.errno == errno.ENOSPC
            selector.refuse = None
            assert listener in mux.handles()
            peer.settimeout(PATIENCE)
        gc.collect()  # an accepted socket that was dropped would warn


# Iteration and events of the program's own


def test_iteration_ends_when_nothing_is_left(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    peer.send(b"hello")
    peer.close()
    assert list(mux) == [Ready(fh), Read(fh, b"hello"), Closing(fh), Closed(fh)]
    assert list(mux) == []


def test_iteration_can_be_left_and_taken_up(mux):
    mux.push_event(*(Read(None, bytes([number])) for number in range(3)))
    for _ in mux:
        break
    assert [event.data for event in mux] == [b"\1", b"\2"]


@dataclass(slots=True)
class Tick(Event):
    type: ClassVar[str] = "tick"
    count: int = 0


def test_events_of_the_programs_own(mux, watched):
    fh, peer = watched
    peer.send(b"hello")
    mux.push_event(Tick(count=1), Tick(fh, 2))
    assert mux.has_events() == 2
    assert mux.mux() == Tick(None, 1)
    assert mux.mux() == Tick(fh, 2)
    assert mux.mux() == Read(fh, b"hello")


def test_own_events_keep_their_place(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    mux.mux()
    peer.send(b"1\n2\n")
    assert mux.mux() == Read(fh, b"1")
    mux.push_event(Tick())
    assert take(mux, 2) == [Read(fh, b"2"), Tick()]


def test_own_events_of_a_killed_handle_are_dropped(mux, watched):
    fh, _ = watched
    mux.push_event(Tick(fh), Tick())
    mux.kill(fh)
    assert drain(mux) == [Tick(), Closed(fh)]


def test_an_own_closed_closes_nothing(mux, watched):
    fh, peer = watched
    mux.push_event(Closed(fh))
    assert mux.mux() == Closed(fh)
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")


def test_own_events_after_the_end_of_a_handle_are_handed_out(mux, watched):
    fh, _ = watched
    mux.push_event(Tick(fh))
    mux.kill(fh)
    mux.push_event(Tick(fh, 2))
    assert mux.has_events() == 2
    assert drain(mux) == [Closed(fh), Tick(fh, 2)]


@pytest.mark.parametrize("wrong", [None, "read", {"type": "read"}, Event])
def test_only_events_can_be_pushed_and_all_or_nothing(mux, wrong):
    name = type(wrong).__name__
    with pytest.raises(TypeError, match=f"cannot queue {name}, only events"):
        mux.push_event(Event(), wrong)
    assert mux.has_events() == 0


def test_events_match_patterns(mux, watched):
    fh, peer = watched
    peer.send(b"hello")
    match mux.mux():
        case Read(handle, data):
            assert (handle, data) == (fh, b"hello")
        case _:
            pytest.fail("no read")


def test_every_type_of_event_is_a_plain_string():
    types = {
        kind.type: kind
        for kind in (Timeout, Connect, Ready, Read, ReadLast, Sent, Closing, Closed, Error)
    }
    assert set(types) == {
        "timeout",
        "connect",
        "ready",
        "read",
        "read_last",
        "sent",
        "closing",
        "closed",
        "error",
    }
    assert all(kind().fh is None for kind in types.values())


def test_has_events_counts_what_comes_without_waiting(mux, pair):
    fh, peer = pair()
    other, remote = pair()
    mux.add(fh, buffered=Split())
    mux.add(other, buffered=Split())
    assert mux.has_events() == 0
    mux.mux()
    assert mux.has_events() == 1
    drain(mux)
    peer.send(b"1\n2\n3\n")
    remote.send(b"1\n2\n3\n")
    mux.mux()
    assert mux.has_events() == 5
    mux.kill(fh)
    mux.remove(other)
    assert mux.has_events() == 1
    mux.push_event(Event())
    assert mux.has_events() == 2
    assert len(drain(mux)) == 2
    assert mux.has_events() == 0


def test_has_events_at_the_end_of_a_handle(mux, watched):
    mux.close(watched[0])
    for left in (2, 1, 0):
        assert mux.has_events() == left
        mux.mux(0)


def test_has_events_of_a_handle_that_drains(mux, watched):
    # A program that asks first and then calls mux() without a timeout would hang.
    fh, peer = watched
    mux.send(fh, HUGE)
    mux.close(fh)
    assert mux.has_events() == 1
    assert mux.mux() == Closing(fh)
    assert mux.has_events() == 0
    assert mux.mux(0) == Timeout()
    assert len(exchange(mux, fh, peer)[0]) == 1
    assert mux.has_events() == 0


def test_has_events_of_a_handle_that_drained_meanwhile(mux, watched, pair):
    fh, peer = watched
    other, _ = pair()
    mux.add(other)
    mux.mux(only=other)
    mux.send(fh, HUGE)
    mux.close(fh)
    while mux.buflen(fh):
        receive(peer)
        mux.mux(0, only=other)
    receive(peer)
    for left in (2, 1, 0):
        assert mux.has_events() == left
        mux.mux(0)


def test_has_events_after_a_reply_to_a_peer_that_has_finished(mux, watched):
    fh, peer = watched
    peer.send(b"request")
    peer.shutdown(socket.SHUT_WR)
    until(mux, "read")
    drained = mux.mux()
    assert drained == Closing(fh)
    mux.send(fh, b"reply")
    for left in (1, 0):
        assert mux.has_events() == left
        mux.mux(0)


# Adding


def test_adding_twice_is_refused(mux, watched):
    with pytest.raises(ValueError, match="is watched already"):
        mux.add(watched[0])
    watched[1].send(b"hello")
    assert mux.mux() == Read(watched[0], b"hello")


def test_adding_a_descriptor_twice_is_refused(mux, watched):
    fh, peer = watched
    twin = socket.socket(fileno=fh.fileno())
    try:
        with pytest.raises(ValueError, match="watched already"):
            mux.add(twin)
        assert mux.handles() == [fh]
        assert not os.get_blocking(fh.fileno())
    finally:
        twin.detach()
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")


@pytest.mark.parametrize("wrong", [None, "socket", True, 5.0, object(), b""])
def test_only_handles_can_be_added(mux, wrong):
    with pytest.raises(TypeError, match="cannot watch"):
        mux.add(wrong)
    assert mux.handles() == []


def test_a_closed_socket_is_not_one(mux):
    sock = socket.socket()
    sock.close()
    for listen in (None, False, True):
        with pytest.raises((OSError, ValueError)):
            mux.add(sock, listen=listen)
    assert mux.handles() == []


@pytest.mark.parametrize("option", ["read_size", "high_water"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True])
def test_sizes_are_positive(mux, pair, option, value):
    fh, _ = pair()
    with pytest.raises(ValueError, match=f"{option} is {value!r}, must be a positive int"):
        mux.add(fh, **{option: value})
    assert_untouched(mux, fh)


def assert_untouched(mux, fh):
    assert mux.handles() == []
    assert fh.gettimeout() is None
    assert mux.mux() is None
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)


@pytest.mark.parametrize("option", ["buffer", "time", "typ"])
def test_an_unknown_option_is_refused(mux, pair, option):
    fh, _ = pair()
    with pytest.raises(TypeError, match=option):
        mux.add(fh, **{option: 1})
    assert_untouched(mux, fh)
    with pytest.raises(TypeError, match=option):
        EventMux(**{option: 1})
    for url in (unused_url(), "unix:///no/such/dir/x"):
        with pytest.raises(TypeError, match=option):
            mux.connect(url, **{option: 1})
    with pytest.raises(TypeError, match=option):
        mux.listen("tcp://127.0.0.1:0", **{option: 1})
    assert mux.handles() == [fh]


@pytest.mark.parametrize("wrong", [Split, "\n", b"\n", object()], ids=lambda wrong: repr(wrong)[:9])
def test_what_is_no_buffer_is_refused_at_once(mux, pair, wrong):
    fh, _ = pair()
    with pytest.raises(TypeError, match="buffer"):
        mux.add(fh, buffered=wrong)
    assert_untouched(mux, fh)


@pytest.mark.parametrize("wrong", [Split, "\n", b"\n", object()], ids=lambda wrong: repr(wrong)[:9])
def test_what_is_no_buffer_is_refused_before_anybody_connects(mux, wrong):
    with pytest.raises(TypeError, match="buffer"):
        mux.listen("tcp://127.0.0.1:0", buffered=wrong)
    assert mux.handles() == []


def test_what_the_selector_refuses_is_not_added(pair):
    selector = RefusingSelector()
    with EventMux(selector=selector) as mux:
        selector.refuse = OSError(errno.ENOSPC, "No space left on device")
        fh, _ = pair()
        with pytest.raises(OSError, match="No space left"):
            mux.add(fh)
        with pytest.raises(OSError, match="No space left"):
            mux.listen("tcp://127.0.0.1:0")
        with pytest.raises(OSError, match="No space left"):
            mux.connect(unused_url())
        gc.collect()  # a socket that was made and dropped would warn
        selector.refuse = None
        assert_untouched(mux, fh)


@pytest.mark.parametrize("option", ["read_size", "reads_per_turn"])
@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_options_of_the_mux_are_positive(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value!r}, must be a positive int"):
        EventMux(**{option: value})


def test_options_are_keywords_only(mux, pair):
    with pytest.raises(TypeError):
        EventMux(selectors.DefaultSelector())
    with pytest.raises(TypeError):
        mux.add(pair()[0], True)


def test_read_size_of_the_mux_and_of_the_handle(pair):
    with EventMux(read_size=4) as mux:
        fh, peer = pair()
        other, remote = pair()
        mux.add(fh)
        mux.add(other, read_size=2)
        take(mux, 2)
        peer.send(b"abcdef")
        remote.send(b"abcdef")
        events = drain(mux)
    assert [event.data for event in events if event.fh is fh] == [b"abcd", b"ef"]
    assert [event.data for event in events if event.fh is other] == [b"ab", b"cd", b"ef"]


def test_whether_it_listens_can_be_told(mux, pair):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for listen in (None, True):
            mux.add(listener, listen=listen)
            with socket.create_connection(listener.getsockname()):
                event = mux.mux(PATIENCE)
            assert event.type == "connect"
            mux.kill(event.fh)
            mux.remove(listener)
            drain(mux)
    fh, _ = pair()
    mux.add(fh, listen=False)
    assert mux.mux(PATIENCE) == Ready(fh)


def test_a_handle_is_read_from_in_turn_with_the_others(mux, pair):
    loud, talker = pair()
    quiet, whisperer = pair()
    mux.add(loud, read_size=10)
    mux.add(quiet, read_size=10)
    take(mux, 2)
    talker.send(b"x" * 1000)
    whisperer.send(b"y")
    assert Read(quiet, b"y") in take(mux, 2)


def test_writing_comes_before_reading(mux, watched):
    fh, peer = watched
    mux.send(fh, HUGE)
    unsent = mux.buflen(fh)
    receive(peer)
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")
    assert mux.buflen(fh) < unsent


# Meta


def test_meta_is_kept(mux, pair):
    fh, peer = pair()
    mux.add(fh, meta={"a": 1})
    assert mux.meta(fh) == {"a": 1}
    assert mux.meta(fh, "other") == "other"
    assert mux.meta(fh) == "other"
    assert mux.meta(fh, None) is None
    assert mux.meta(fh) is None
    mux.meta(fh, "last")
    peer.close()
    assert [(event.type, mux.meta(fh)) for event in take(mux, 2)] == [
        ("ready", "last"),
        ("closing", "last"),
    ]
    mux.mux()
    with pytest.raises(KeyError):
        mux.meta(fh)


def test_meta_is_none_unless_given(mux, watched):
    assert mux.meta(watched[0]) is None


def test_meta_is_copied_to_what_is_accepted(mux):
    inner = []
    listener, fh, accepted = meet(mux, meta={"inner": inner})
    mux.meta(accepted)["own"] = 1
    assert mux.meta(listener) == {"inner": inner}
    assert mux.meta(accepted) == {"inner": inner, "own": 1}
    assert mux.meta(accepted)["inner"] is inner
    assert mux.meta(fh) is None


class Uncopyable:
    def __copy__(self):
        raise RuntimeError("there can be only one")


def test_meta_that_cannot_be_copied_does_not_break_the_mux(mux):
    # Anybody who connects could otherwise end the program of a server with a lock in its meta.
    listener = mux.listen("tcp://127.0.0.1:0", meta=Uncopyable())
    with socket.create_connection(listener.getsockname()):
        assert mux.mux(PATIENCE).type in ("connect", "error")
        gc.collect()
    assert listener in mux.handles()


def test_each_accepted_connection_has_a_buffer_of_its_own(mux):
    pattern = Split()
    pattern.write(b"left over")
    listener = mux.listen("tcp://127.0.0.1:0", buffered=pattern)
    with (
        socket.create_connection(listener.getsockname()) as one,
        socket.create_connection(listener.getsockname()) as two,
    ):
        connects = take(mux, 2)
        handles = {event.address: event.fh for event in connects}
        one.send(b"from one part")
        two.send(b"from two\n")
        assert mux.mux(PATIENCE) == Read(handles[two.getsockname()], b"from two")
        one.send(b" and the rest\n")
        expected = Read(handles[one.getsockname()], b"from one part and the rest")
        assert mux.mux(PATIENCE) == expected


# Strangers


@pytest.mark.parametrize(
    "call",
    [
        lambda mux, fh: mux.send(fh, b"x"),
        lambda mux, fh: mux.send(fh, b"x", later=True),
        lambda mux, fh: mux.close(fh),
        lambda mux, fh: mux.kill(fh),
        lambda mux, fh: mux.remove(fh),
        lambda mux, fh: mux.buflen(fh),
        lambda mux, fh: mux.meta(fh),
        lambda mux, fh: mux.meta(fh, 1),
    ],
    ids=["send", "later", "close", "kill", "remove", "buflen", "meta", "set meta"],
)
@pytest.mark.parametrize("how", ["stranger", "removed", "closed"])
def test_a_stranger_is_a_key_error(mux, pair, call, how):
    fh, _ = pair()
    if how != "stranger":
        mux.add(fh)
        getattr(mux, "remove" if how == "removed" else "kill")(fh)
        drain(mux)
    with pytest.raises(KeyError, match="is not watched"):
        call(mux, fh)
    assert mux.handles() == []
    assert mux.mux() is None


# Context manager


@pytest.mark.parametrize("kind", SELECTORS, ids=lambda kind: kind.__name__)
def test_the_end_closes_everything(pair, kind):
    fh, peer = pair()
    with EventMux(selector=kind()) as mux:
        listener = mux.listen("tcp://127.0.0.1:0")
        outgoing = mux.connect(url_of(listener))
        until(mux, "connect")
        mux.add(fh)
        handles = mux.handles()
        assert len(handles) == 4
        mux.close(outgoing)
        mux.push_event(Event())
    assert [handle.fileno() for handle in handles] == [-1] * 4
    assert peer.recv(10) == b""
    assert mux.handles() == []
    assert mux.has_events() == 0
    assert mux.mux() is None
    del mux, handles, outgoing, listener
    gc.collect()  # no ResourceWarning


@pytest.mark.parametrize("ready", [True, False])
def test_the_end_sends_what_was_put_off(pair, ready):
    fh, peer = pair()
    with EventMux() as mux:
        mux.add(fh)
        if ready:
            mux.mux()
        mux.send(fh, b"last words", later=True)
    assert peer.recv(100) == b"last words"


def test_the_end_closes_a_selector_of_the_programs_own():
    selector = selectors.DefaultSelector()
    with EventMux(selector=selector):
        pass
    assert selector.get_map() is None


def test_an_exception_passes_through(pair):
    fh, _ = pair()
    mux = EventMux()
    mux.add(fh)
    with pytest.raises(ZeroDivisionError), mux:
        raise ZeroDivisionError
    assert fh.fileno() == -1


def test_two_muxes_know_nothing_of_each_other(mux, pair):
    fh, peer = pair()
    with EventMux() as other:
        mux.add(fh)
        other.add(peer)
        assert drain(mux) == [Ready(fh)]
        other.send(peer, b"hello")
        assert drain(mux) == [Read(fh, b"hello")]
        assert drain(other) == [Ready(peer), Sent(peer)]


def test_the_fake_selector_notices_a_wait_that_cannot_end(timed, pair):
    timed.add(pair()[0])
    timed.mux()
    with pytest.raises(WouldWaitForEver):
        timed.mux()


def test_what_others_send_does_not_fill_the_memory_while_one_is_waited_for(mux, watched, pair):
    fh, peer = watched
    other, flood = pair()
    mux.add(other)
    assert mux.mux(only=other) == Ready(other)
    flood.setblocking(False)
    sent = 0
    for _ in range(3000):
        with contextlib.suppress(BlockingIOError):
            sent += flood.send(b"x" * 1000)
        assert mux.mux(0, only=fh) == Timeout()
    assert mux.has_events() < 300
    peer.send(b"hello")
    assert mux.mux(PATIENCE, only=fh) == Read(fh, b"hello")
    received = 0
    while (event := mux.mux(0)).type != "timeout":
        assert event.fh is other
        received += len(event.data)
    assert received == sent


def test_a_handle_that_was_held_can_be_waited_for(mux, watched, pair):
    fh, _ = watched
    other, peer = pair()
    mux.add(other)
    assert mux.mux(only=other) == Ready(other)
    mux.push_event(*[Event()] * 300)
    peer.send(b"hello")
    assert mux.mux(0, only=fh) == Timeout()
    assert mux.mux(PATIENCE, only=other) == Read(other, b"hello")
    assert mux.has_events() == 300


def assert_listens(mux, server):
    with pytest.raises(ValueError, match="listen is False, but .* listens"):
        mux.add(server, listen=False)


def test_what_listens_and_what_does_not(mux, pair):
    fh, _ = pair()
    with pytest.raises(ValueError, match="listen is True, but .* does not listen"):
        mux.add(fh, listen=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert_listens(mux, server)
    assert mux.handles() == []


# What a review found


@pytest.mark.parametrize("watch", ["timer", "signal", "child"])
def test_a_mux_that_has_ended_watches_nothing_more(mux, watch):
    argument = {"timer": 1, "signal": signal.SIGUSR1, "child": 1}[watch]
    with mux:
        pass
    with pytest.raises(RuntimeError, match="this mux is closed"):
        getattr(mux, watch)(argument)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_mux_that_has_ended_does_not_wait(mux):
    with mux:
        pass
    with pytest.raises(RuntimeError, match="this mux is closed"):
        mux.mux(0)


@pytest.mark.parametrize("url", [7007, ("127.0.0.1", 7007), None, b"tcp://x:1"])
def test_a_url_is_text(mux, url):
    for method in (mux.connect, mux.listen):
        with pytest.raises(TypeError, match="url is .*, must be a str such as"):
            method(url)


class HalfABuffer:
    def fresh(self):
        return self


def test_half_a_buffer_is_refused_at_once(mux, pair):
    fh, _ = pair()
    with pytest.raises(TypeError, match="must be a buffer"):
        mux.add(fh, buffered=HalfABuffer())
    assert_untouched(mux, fh)


def test_a_connection_that_is_gone_leaves_no_deadline(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    fh = mux.connect(url_of(listener), timeout=1000)
    take(mux, 2)
    mux.kill(fh)
    drain(mux)
    assert mux.timeout() is None


def test_half_a_record_costs_no_look_at_all_handles(timed, selector, pair, monkeypatch):
    pairs = [pair() for _ in range(20)]
    for fh, _ in pairs:
        timed.add(fh, buffered=Split())
    drain(timed)
    looks = []
    monkeypatch.setattr(
        timed._loop.table, "look_after_all", lambda: looks.append(selector.clock.now)
    )
    _, peer = pairs[0]
    peer.send(b"half a")
    selector.meanwhile.append((0.05, lambda: peer.send(b" record\n")))
    assert timed.mux().data == b"half a record"
    assert looks == []
    assert timed.mux(1) == Timeout()
    assert len(looks) == 1
