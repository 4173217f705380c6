"""What can be read is read, whether or not it can be written to."""

import fcntl
import os
import select
import socket
import struct
import subprocess

import pytest
from support.network import linux_only
from support.pump import PATIENCE, drain, kinds, receive, take

from eventmux import CanRead, EventMux, Read, Ready, Timeout
from eventmux.buffers import Split

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and socket pairs of POSIX")


def fill(sock):
    """Send until the kernel takes no more."""
    sock.setblocking(False)
    try:
        while sock.send(b"x" * 65536):
            pass
    except BlockingIOError:
        pass


def tcp_pair(closing):
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = closing(socket.create_connection(server.getsockname()))
        return one, closing(server.accept()[0])


@pytest.fixture
def full(pair, closing):
    """Make a connected socket whose peer has not read for long."""

    def make(kind):
        fh, peer = tcp_pair(closing) if kind == "tcp" else pair(kind)
        fill(fh)
        return fh, peer

    return make


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, "tcp"])
def test_a_connection_that_is_full(mux, full, kind):
    fh, peer = full(kind)
    mux.add(fh)
    peer.send(b"hello")
    assert mux.mux(PATIENCE) == Read(fh, b"hello")
    assert mux.mux(0) == Timeout()
    while not isinstance(event := mux.mux(0), Ready):
        assert event == Timeout()
        receive(peer)
    assert event.fh is fh


def test_records(mux, full):
    fh, peer = full(socket.SOCK_STREAM)
    mux.add(fh, buffered=Split())
    peer.send(b"one\ntwo\n")
    assert take(mux, 2) == [Read(fh, b"one"), Read(fh, b"two")]


def test_manual_read(mux, full):
    fh, peer = full(socket.SOCK_STREAM)
    mux.add(fh, manual_read=True)
    peer.send(b"hello")
    assert mux.mux(PATIENCE) == CanRead(fh)


def test_the_end_of_a_peer_that_never_read(mux, full):
    fh, peer = full(socket.SOCK_STREAM)
    mux.add(fh)
    peer.send(b"last words")
    peer.shutdown(socket.SHUT_WR)
    assert kinds(take(mux, 3)) == ["read", "closing", "closed"]


def test_one_that_becomes_full_once_it_is_added(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    fill(fh)
    peer.send(b"hello")
    assert mux.mux(PATIENCE) == Read(fh, b"hello")


def test_one_that_is_full_because_of_its_own_mux(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.send(fh, b"x" * 3_000_000)
    peer.send(b"hello")
    assert take(mux, 2) == [Ready(fh), Read(fh, b"hello")]


def test_what_is_sent_to_a_full_one_waits(mux, full):
    fh, peer = full(socket.SOCK_STREAM)
    mux.add(fh)
    assert mux.send(fh, b"later") == 5
    assert mux.mux(0) == Timeout()
    received = b""
    while not received.endswith(b"later"):
        received += receive(peer)
        mux.mux(0)


def test_nothing_is_read_before_the_program_has_heard_of_ready(mux, pair):
    fh, peer = pair()
    peer.send(b"hello")
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    assert mux.has_events() == 0
    mux.set(fh, buffered=Split(b"l"))
    assert drain(mux) == [Read(fh, b"he"), Read(fh, b"")]


def test_a_fifo_that_is_full(mux, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(fd, getattr(fcntl, "F_SETPIPE_SZ", 1031), 4096)
    os.write(fd, b"x" * 4096)
    mux.add(fd)
    assert mux.mux(PATIENCE) == Read(fd, b"x" * 4096)
    assert mux.mux(PATIENCE) == Ready(fd)
    mux.kill(fd)


# Descriptors that can be read, and never written to


@linux_only
def test_an_eventfd_that_is_full(mux):
    eventfd = getattr(os, "eventfd", None)
    if eventfd is None:
        pytest.skip("this Python has no eventfd")
    fd = eventfd(0, os.EFD_NONBLOCK)
    os.write(fd, struct.pack("=Q", 2**64 - 2))
    mux.add(fd)
    assert mux.mux(PATIENCE) == Read(fd, struct.pack("=Q", 2**64 - 2))
    assert mux.mux(PATIENCE) == Ready(fd)
    mux.kill(fd)


@linux_only
def test_a_pidfd(mux):
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this Python has no pidfds")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        fd = os.pidfd_open(child.pid)
        mux.add(fd, manual_read=True)
        assert mux.mux(0) == Timeout()
        child.stdin.close()
        assert mux.mux(PATIENCE) == CanRead(fd)
        mux.kill(fd)


@linux_only
def test_the_descriptor_of_an_epoll(mux, pair):
    fh, peer = pair()
    with select.epoll() as inner:
        inner.register(fh, select.EPOLLIN)
        mux.add(inner, manual_read=True)
        assert mux.mux(0) == Timeout()
        peer.send(b"x")
        assert mux.mux(PATIENCE) == CanRead(inner)
        mux.remove(inner)


@linux_only
def test_a_timerfd_and_a_signalfd(mux):
    # Python has no names for them before 3.13.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    timerfd = libc.timerfd_create(1, os.O_NONBLOCK)
    signalfd = libc.signalfd(-1, ctypes.create_string_buffer(b"\x00\x02" + bytes(126)), 0)
    assert min(timerfd, signalfd) >= 0
    mux.add(timerfd)
    mux.add(signalfd)
    assert mux.mux(0) == Timeout()
    libc.timerfd_settime(timerfd, 0, struct.pack("=4q", 0, 0, 0, 1), None)
    event = mux.mux(PATIENCE)
    assert event == Read(timerfd, struct.pack("=Q", 1))
    mux.kill(timerfd)
    mux.kill(signalfd)


# A connection that is not up yet


def test_one_that_is_still_connecting_is_not_read_from(closing):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = closing(socket.socket())
        fh.setblocking(False)
        with EventMux() as mux:
            fh.connect_ex(server.getsockname())
            mux.add(fh)
            assert mux.mux(PATIENCE) == Ready(fh)


def test_one_that_was_refused_says_so(mux, closing):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        fh = closing(socket.socket())
        fh.setblocking(False)
        fh.connect_ex(unused.getsockname())
        mux.add(fh)
        assert kinds(take(mux, 3)) == ["error", "closing", "closed"]


def test_waiting_for_ready_does_not_spin(timed, selector, full):
    fh, peer = full(socket.SOCK_STREAM)
    timed.add(fh)
    peer.send(b"hello")
    assert timed.mux(60) == Read(fh, b"hello")
    assert timed.mux(60) == Timeout()
    assert len(selector.timeouts) == 2
