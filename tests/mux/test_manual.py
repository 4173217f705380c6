"""Handles that the program reads from or writes to itself, and those that it stops for a while."""

import contextlib
import os
import pty
import socket
import tty

import pytest
from support.pump import PATIENCE, drain, kinds, receive, take, until

from eventmux import (
    Accepting,
    CanRead,
    CanWrite,
    Closed,
    Closing,
    EventMux,
    Read,
    Ready,
    Sent,
)
from eventmux.buffers import Split


def turns(mux, count):
    """Return what a number of turns bring, where there is something at each of them."""
    return [mux.mux(0) for _ in range(count)]


def is_idle(mux):
    return mux.mux(0).type == "timeout"


# manual_read


def test_manual_read_reports_that_there_is_something(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_read=True)
    assert drain(mux) == [Ready(fh)]
    peer.send(b"hello")
    assert turns(mux, 3) == [CanRead(fh)] * 3  # at each turn while it lasts
    assert fh.recv(100) == b"hello"
    assert is_idle(mux)


def test_manual_read_leaves_writing_to_the_mux(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_read=True)
    mux.send(fh, b"hello")
    assert drain(mux) == [Ready(fh), Sent(fh)]
    assert peer.recv(100) == b"hello"


def test_manual_read_is_non_blocking(mux, pair):
    fh, _ = pair()
    mux.add(fh, manual_read=True)
    with pytest.raises(BlockingIOError):
        fh.recv(100)


def test_manual_read_reports_the_end_and_leaves_it_to_the_program(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_read=True)
    drain(mux)
    peer.close()
    assert turns(mux, 2) == [CanRead(fh)] * 2
    assert fh.recv(100) == b""
    mux.close(fh)
    assert drain(mux) == [Closing(fh), Closed(fh)]


def test_manual_read_waits_until_the_connection_is_up(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect("tcp://{}:{}".format(*server.getsockname()), manual_read=True)
        peer, _ = server.accept()
        with peer:
            peer.send(b"hello")
            assert take(mux, 2) == [Ready(fh), CanRead(fh)]


def test_manual_read_of_a_connection_that_is_refused(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    fh = mux.connect("tcp://{}:{}".format(*address), manual_read=True)
    assert kinds(until(mux, "closed", fh)) == ["error", "closing", "closed"]


def test_want_read_stops_and_starts_manual_read(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_read=True)
    drain(mux)
    peer.send(b"hello")
    mux.want_read(fh, False)
    assert is_idle(mux)
    mux.want_read(fh, True)
    assert mux.mux(0) == CanRead(fh)


def test_manual_read_of_a_pipe(mux):
    reader, writer = os.pipe()
    mux.add(reader, manual_read=True)
    assert is_idle(mux)
    os.write(writer, b"hello")
    assert mux.mux(0) == CanRead(reader)
    assert os.read(reader, 100) == b"hello"
    os.close(writer)
    assert mux.mux(0) == CanRead(reader)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_manual_read_of_packets(mux, kind):
    fh, peer = socket.socketpair(socket.AF_UNIX, kind)
    with peer:
        mux.add(fh, manual_read=True)
        mux.send(fh, b"world")
        peer.send(b"hello")
        events = until(mux, "can_read")
        assert kinds(events) == [
            *(["ready"] if kind == socket.SOCK_SEQPACKET else []),
            "sent",
            "can_read",
        ]
        assert fh.recv(100) == b"hello"
        assert peer.recv(100) == b"world"


# manual_write


def test_manual_write_reports_that_there_is_room(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_write=True)
    assert turns(mux, 3) == [CanWrite(fh)] * 3  # and no `Ready`
    fh.send(b"hello")
    assert peer.recv(100) == b"hello"


def test_manual_write_leaves_reading_to_the_mux(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_write=True, buffered=Split())
    mux.want_write(fh, False)
    peer.send(b"one\ntwo\n")
    assert drain(mux) == [Read(fh, b"one"), Read(fh, b"two")]
    peer.close()
    assert drain(mux) == [Closing(fh), Closed(fh)]


def test_want_write_stops_and_starts_manual_write(mux, pair):
    fh, _ = pair()
    mux.add(fh, manual_write=True)
    mux.want_write(fh, False)
    assert is_idle(mux)
    mux.want_write(fh, True)
    assert mux.mux(0) == CanWrite(fh)


def test_a_full_handle_cannot_be_written_to(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_write=True)
    with contextlib.suppress(BlockingIOError):
        while True:
            fh.send(b"x" * 100_000)
    assert is_idle(mux)
    receive(peer)
    assert mux.mux(PATIENCE) == CanWrite(fh)


@pytest.mark.parametrize("later", [False, True])
def test_send_is_refused_where_the_program_writes(mux, pair, later):
    fh, peer = pair()
    mux.add(fh, manual_write=True)
    with pytest.raises(TypeError, match="it has manual_write"):
        mux.send(fh, b"x", later=later)
    assert mux.buflen(fh) == 0
    assert receive(peer) == b""


def test_sendto_is_refused_where_the_program_writes(mux):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fh:
        fh.bind(("127.0.0.1", 0))
        mux.add(fh, manual_write=True)
        with pytest.raises(TypeError, match="it has manual_write"):
            mux.sendto(fh, fh.getsockname(), b"x")
        assert mux.mux(0) == CanWrite(fh)


def test_manual_write_of_a_pipe(mux):
    reader, writer = os.pipe()
    mux.add(writer, manual_write=True)
    assert turns(mux, 2) == [CanWrite(writer)] * 2
    mux.want_write(writer, False)
    assert is_idle(mux)
    os.close(reader)


# Both


def test_both_are_reported_each_turn(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_read=True, manual_write=True)
    peer.send(b"hello")
    assert turns(mux, 4) == [CanWrite(fh), CanRead(fh)] * 2


def test_a_handle_that_is_all_the_programs_is_left_blocking(mux, pair):
    fh, _ = pair()
    fh.settimeout(2.5)
    mux.add(fh, manual_read=True, manual_write=True)
    assert fh.gettimeout() == 2.5


@pytest.mark.parametrize("option", ["manual_read", "manual_write"])
def test_a_handle_that_is_half_the_programs_is_not_blocking(mux, pair, option):
    fh, _ = pair()
    mux.add(fh, **{option: True})
    blocking = fh.getblocking()
    mux.remove(fh)
    assert (blocking, fh.getblocking()) == (False, True)


def test_a_terminal_that_is_all_the_programs(mux):
    master, slave = pty.openpty()
    tty.setraw(slave)
    mux.add(slave, manual_read=True, manual_write=True)
    mux.want_write(slave, False)
    assert is_idle(mux)
    os.write(master, b"hello")
    assert mux.mux(PATIENCE) == CanRead(slave)
    assert os.read(slave, 100) == b"hello"
    assert os.get_blocking(slave)
    os.close(master)


# The end of manual handles


@pytest.mark.parametrize(
    "options",
    [{"manual_read": True}, {"manual_write": True}, {"manual_read": True, "manual_write": True}],
    ids=["read", "write", "both"],
)
class TestTheEnd:
    def test_close(self, mux, pair, options):
        fh, peer = pair()
        mux.add(fh, **options)
        peer.send(b"hello")
        mux.close(fh)
        assert drain(mux) == [Closing(fh), Closed(fh)]
        assert fh.fileno() == -1

    def test_kill(self, mux, pair, options):
        fh, peer = pair()
        mux.add(fh, **options)
        peer.send(b"hello")
        mux.mux(0)
        mux.kill(fh, "enough")
        assert drain(mux) == [Closed(fh, 0, "enough")]
        assert fh.fileno() == -1

    def test_remove(self, mux, pair, options):
        fh, peer = pair()
        mux.add(fh, **options)
        mux.mux(0)
        mux.remove(fh)
        assert mux.mux() is None
        assert fh.getblocking()
        peer.send(b"hello")
        assert fh.recv(100) == b"hello"

    def test_closed_by_the_program(self, mux, pair, options):
        fh, _ = pair()
        mux.add(fh, **options)
        mux.mux(0)
        fh.close()
        assert kinds(drain(mux)) == ["error", "closing", "closed"]


def test_closing_sends_what_is_queued_first_and_reports_nothing(mux, pair):
    fh, peer = pair()
    mux.add(fh, manual_read=True)
    while not mux.send(fh, b"x" * 100_000):
        pass
    drain(mux)
    peer.send(b"late")
    mux.close(fh)
    assert drain(mux) == [Closing(fh)]
    while (event := mux.mux(0)).type != "closed":
        assert event.type == "timeout"
        receive(peer)
    assert event == Closed(fh, 0)


# manual_accept


def test_manual_accept_reports_that_one_waits(mux):
    listener = mux.listen("tcp://127.0.0.1:0", manual_accept=True)
    assert is_idle(mux)
    with socket.create_connection(listener.getsockname()) as peer:
        assert [mux.mux(PATIENCE) for _ in range(3)] == [Accepting(listener)] * 3
        sock, address = listener.accept()
        with sock:
            assert address == peer.getsockname()
            assert is_idle(mux)
            assert mux.handles() == [listener]


def test_want_read_stops_and_starts_manual_accept(mux):
    listener = mux.listen("tcp://127.0.0.1:0", manual_accept=True)
    with socket.create_connection(listener.getsockname()):
        assert mux.mux(PATIENCE) == Accepting(listener)
        mux.want_read(listener, False)
        assert is_idle(mux)
        mux.want_read(listener, True)
        assert mux.mux(PATIENCE) == Accepting(listener)


def test_closing_a_listener_with_manual_accept(mux):
    listener = mux.listen("tcp://127.0.0.1:0", manual_accept=True)
    with socket.create_connection(listener.getsockname()):
        assert mux.mux(PATIENCE) == Accepting(listener)
        mux.close(listener)
        assert drain(mux) == [Closing(listener), Closed(listener)]


@pytest.mark.parametrize("manual", [False, True])
def test_nothing_can_be_sent_to_a_listener(mux, manual):
    listener = mux.listen("tcp://127.0.0.1:0", manual_accept=manual)
    with pytest.raises(TypeError, match="it is a listener"):
        mux.send(listener, b"x")
    assert mux.handles() == [listener]


def test_what_is_accepted_is_manual_like_its_listener(mux):
    listener = mux.listen("tcp://127.0.0.1:0", manual_read=True)
    with socket.create_connection(listener.getsockname()) as peer:
        fh = mux.mux(PATIENCE).fh
        peer.send(b"hello")
        assert mux.mux(PATIENCE) == CanRead(fh)


# Ordinary handles


def test_want_read_is_flow_control(mux, watched):
    fh, peer = watched
    mux.want_read(fh, False)
    peer.send(b"hello")
    assert is_idle(mux)
    mux.send(fh, b"world")
    assert drain(mux) == [Sent(fh)]
    assert peer.recv(100) == b"world"
    mux.want_read(fh, True)
    assert mux.mux(0) == Read(fh, b"hello")


def test_a_handle_that_is_not_read_from_has_no_end_yet(mux, watched):
    fh, peer = watched
    mux.want_read(fh, False)
    peer.send(b"hello")
    peer.close()
    assert is_idle(mux)
    mux.want_read(fh, True)
    assert drain(mux) == [Read(fh, b"hello"), Closing(fh), Closed(fh)]


def test_a_handle_that_is_not_read_from_can_be_closed(mux, watched):
    fh, _ = watched
    mux.want_read(fh, False)
    mux.close(fh)
    assert drain(mux) == [Closing(fh), Closed(fh)]


def test_want_read_twice_is_once(mux, watched):
    fh, peer = watched
    mux.want_read(fh, False)
    mux.want_read(fh, False)
    mux.want_read(fh, True)
    peer.send(b"hello")
    assert mux.mux(0) == Read(fh, b"hello")


def test_want_read_stops_a_listener(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    mux.want_read(listener, False)
    with socket.create_connection(listener.getsockname()):
        assert is_idle(mux)
        mux.want_read(listener, True)
        assert mux.mux(PATIENCE).type == "connect"


@pytest.mark.parametrize("options", [{}, {"manual_read": True}], ids=["ordinary", "manual_read"])
def test_want_write_is_for_manual_write(mux, pair, options):
    fh, _ = pair()
    mux.add(fh, **options)
    with pytest.raises(ValueError, match="has no manual_write"):
        mux.want_write(fh, True)
    assert drain(mux) == [Ready(fh)]


@pytest.mark.parametrize("call", [EventMux.want_read, EventMux.want_write])
def test_to_want_something_of_a_stranger(mux, pair, call):
    with pytest.raises(KeyError, match="is not watched"):
        call(mux, pair()[0], True)
