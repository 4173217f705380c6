"""The end that the program wishes: `close()`, `kill()` and `remove()`."""

import contextlib
import errno
import gc
import os
import socket
import weakref

import pytest
from support.meeting import exchange, meet, unused_url, url_of
from support.pump import PATIENCE, drain, kinds, receive, take, until

from eventmux import (
    Closed,
    Closing,
    Event,
    Read,
    Ready,
)
from eventmux.buffers import Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers


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


@pytest.mark.parametrize("as_number", [False, True])
def test_closing_what_is_closed_is_once(mux, pair, as_number):
    fh, peer = pair()
    handle = fh.detach() if as_number else fh
    mux.add(handle)
    peer.close()
    until(mux, "closed")
    mux.close(handle)
    mux.close(handle)
    assert drain(mux) == []


def test_closing_what_is_open_and_not_watched_is_refused(mux, pair):
    fh, _ = pair()
    for handle in (fh, fh.fileno(), "no handle", 2**40):
        with pytest.raises(KeyError, match="is not watched"):
            mux.close(handle)
