"""Connecting to a name: the look-up in a thread, and its addresses one after the other.

The resolver is a fake, and so is a connection that hangs: a UNIX socket that nobody reads is as
little writable as a TCP socket whose peer does not answer. What refuses or answers is real.
"""

import contextlib
import errno
import gc
import os
import socket
import threading

import pytest
from support.fakes import ClockedSelector, RefusingSelector
from support.processes import open_descriptors
from support.pump import PATIENCE, drain, kinds, receive, take

from eventmux import Closed, Closing, Error, EventMux, Read, Ready, Sent, Timeout, sockets

URL = "tcp://name.test:80"
LOOPBACK = "127.0.0.1"


class Resolver:
    """Stands for the one of the system: names are answered by `answer`, perhaps not at once."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.error = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.names = []

    def getaddrinfo(self, host, port, *_, type=0, flags=0, **__):
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} is a name")
        self.names.append((host, port))
        assert self.may_answer.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return [(socket.AF_INET, type, 0, "", address) for address in self.addresses]

    def hang(self):
        self.may_answer.clear()

    def answer(self):
        """Let the threads that look names up end."""
        self.may_answer.set()
        for thread in threading.enumerate():
            if thread.name.startswith("look up"):
                thread.join(PATIENCE)


@pytest.fixture
def resolver(monkeypatch):
    resolver = Resolver([])
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.answer()


@pytest.fixture
def server():
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server


@pytest.fixture
def refusing():
    """An address where nobody listens, and nobody will meanwhile."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        yield sock.getsockname()


class Starter:
    """Stands for `sockets.start()`: some addresses hang until they are told to go on."""

    def __init__(self):
        self.targets = []  # what was tried, in order
        self.socks = []
        self.peers = {}  # by address, of those that hang
        self.errors = {}  # by address, what fails at once
        self._start = sockets.start

    def hang(self, *addresses):
        self.peers.update(dict.fromkeys(addresses))

    def start(self, target, source=None):
        address = target[2]
        self.targets.append(address)
        if address in self.errors:
            raise self.errors[address]
        if address not in self.peers:
            sock = self._start(target, source)
        else:
            sock, self.peers[address] = socket.socketpair()
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while sock.send(b"x" * 100_000):
                    pass
        self.socks.append(sock)
        return sock

    def go_on(self, address):
        """Let a connection that hangs be up."""
        receive(self.peers[address])

    def close(self):
        for peer in self.peers.values():
            if peer is not None:
                peer.close()


@pytest.fixture
def starter(monkeypatch):
    starter = Starter()
    monkeypatch.setattr(sockets, "start", starter.start)
    yield starter
    starter.close()


def addresses(count):
    """Return addresses that only a starter is to try."""
    return [(LOOPBACK, port) for port in range(1, count + 1)]


def look_up(mux, resolver):
    """Let the mux have what was looked up, and nothing more."""
    resolver.answer()
    return mux.mux(0)


@pytest.fixture
def no_leaks():
    """The test leaves no descriptor behind."""
    gc.collect()
    before = open_descriptors()
    yield
    gc.collect()
    assert open_descriptors() == before


# Looking up


def test_a_name_is_looked_up_and_connected_to(mux, resolver, server):
    resolver.addresses = [server.getsockname()]
    fh = mux.connect(URL)
    assert mux.mux(PATIENCE) == Ready(fh)
    assert resolver.names == [("name.test", 80)]
    assert fh.getpeername() == server.getsockname()
    peer, _ = server.accept()
    with peer:
        peer.send(b"hello")
        assert mux.mux(PATIENCE) == Read(fh, b"hello")


def test_the_loop_goes_on_while_a_look_up_hangs(mux, resolver, server, pair):
    other, peer = pair()
    mux.add(other)
    assert mux.mux(PATIENCE) == Ready(other)
    resolver.hang()
    resolver.addresses = [server.getsockname()]
    fh = mux.connect(URL)
    assert mux.handles() == [other, fh]
    for _ in range(3):
        peer.send(b"hello")
        assert mux.mux(PATIENCE) == Read(other, b"hello")
        assert mux.mux(0) == Timeout()
    resolver.answer()
    assert mux.mux() == Ready(fh)


def test_a_look_up_is_something_to_wait_for_and_no_busy_loop(timed, clock, selector, resolver):
    resolver.hang()
    resolver.error = socket.gaierror(socket.EAI_NONAME, "unknown")
    timed.connect(URL)
    assert timed.mux(60) == Timeout()
    assert clock.now == 1060
    assert len(selector.timeouts) <= 2
    selector.meanwhile.append((5, resolver.answer))
    assert timed.mux().type == "error"


def test_a_name_that_is_unknown(mux, resolver, no_leaks):
    resolver.error = socket.gaierror(socket.EAI_NONAME, "name.test is unknown")
    fh = mux.connect(URL, meta="mine")
    error, closing, closed = take(mux, 3)
    assert error == Error(fh, "name.test is unknown", socket.EAI_NONAME, resolver.error)
    assert (closing, closed) == (Closing(fh, error.error), Closed(fh, 0, error.error))
    assert mux.mux() is None


def test_a_name_without_addresses(mux, resolver, no_leaks):
    fh = mux.connect(URL)
    assert take(mux, 3)[0].error == "no address"
    assert fh.fileno() == -1
    assert mux.mux() is None


def test_no_thread_for_the_look_up(mux, resolver, monkeypatch, no_leaks):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    mux.connect(URL)
    events = take(mux, 3)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].error == "can't start new thread"
    assert mux.mux() is None


def test_many_names_at_once(mux, resolver, server):
    resolver.addresses = [server.getsockname()]
    handles = [mux.connect(f"tcp://name{number}.test:80") for number in range(20)]
    assert {event.fh for event in take(mux, 20)} == set(handles)
    assert drain(mux) == []


def test_the_look_up_ends_after_the_mux(resolver, no_leaks):
    resolver.hang()
    with EventMux() as mux:
        fh = mux.connect(URL)
    resolver.answer()
    assert fh.fileno() == -1
    assert mux.has_events() == 0
    assert mux.mux() is None


# Trying addresses


def test_addresses_are_tried_in_order_until_one_answers(mux, resolver, starter, server, refusing):
    resolver.addresses = [refusing, (LOOPBACK, 1), server.getsockname()]
    starter.errors[LOOPBACK, 1] = OSError(errno.ENETUNREACH, "unreachable")
    fh = mux.connect(URL)
    assert mux.mux(PATIENCE) == Ready(fh)
    assert starter.targets == resolver.addresses
    assert drain(mux) == []


def test_the_next_address_is_tried_when_one_hangs(timed, clock, resolver, starter, selector):
    resolver.addresses = addresses(3)
    starter.hang(*resolver.addresses)
    timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    assert starter.targets == resolver.addresses[:1]
    assert timed.mux(0.24) == Timeout()
    assert starter.targets == resolver.addresses[:1]
    assert timed.mux(0.02) == Timeout()
    assert starter.targets == resolver.addresses[:2]
    assert timed.mux(0.3) == Timeout()
    assert starter.targets == resolver.addresses
    del selector.timeouts[:]
    assert timed.mux(100) == Timeout()
    assert starter.targets == resolver.addresses
    assert len(selector.timeouts) <= 2


def test_after_one_that_fails_the_next_does_not_wait(timed, clock, resolver, starter):
    resolver.addresses = addresses(4)
    starter.hang(*resolver.addresses)
    starter.errors[resolver.addresses[0]] = OSError(errno.ENETUNREACH, "unreachable")
    starter.errors[resolver.addresses[2]] = OSError(errno.ENETUNREACH, "unreachable")
    timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    assert starter.targets == resolver.addresses[:2]
    assert timed.mux(0.25) == Timeout()
    assert starter.targets == resolver.addresses


def test_one_that_is_refused_later_makes_the_next_start_at_once(timed, clock, resolver, starter):
    first, second, third = resolver.addresses = addresses(3)
    starter.hang(first, second, third)
    timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    assert timed.mux(0.25) == Timeout()
    starter.peers[second].close()  # with what it has not read: a reset
    assert timed.mux(0) == Timeout()
    assert starter.targets == [first, second, third]
    # The beat starts anew with each attempt.
    assert timed.mux(1) == Timeout()
    assert starter.socks[1].fileno() == -1
    assert starter.socks[0].fileno() >= 0


@pytest.mark.parametrize("winner", [0, 1, 2])
def test_the_first_to_answer_wins_and_the_others_are_closed(
    timed, clock, resolver, starter, winner
):
    resolver.addresses = addresses(3)
    starter.hang(*resolver.addresses)
    fh = timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    assert timed.mux(0.5) == Timeout()
    assert len(starter.socks) == 3
    starter.go_on(resolver.addresses[winner])
    assert timed.mux() == Ready(fh)
    assert [sock.fileno() for sock in starter.socks] == [-1] * 3
    peer = starter.peers[resolver.addresses[winner]]
    peer.send(b"hello")
    assert timed.mux() == Read(fh, b"hello")
    timed.send(fh, b"answer")
    assert receive(peer).endswith(b"answer")
    assert drain(timed) == [Sent(fh)]
    for index, address in enumerate(resolver.addresses):
        if index != winner:
            assert closed_by_peer(starter.peers[address])


def closed_by_peer(sock):
    receive(sock)
    return sock.recv(1) == b""


def test_two_that_answer_in_the_same_turn(timed, clock, resolver, starter, no_leaks):
    resolver.addresses = addresses(3)
    starter.hang(*resolver.addresses)
    fh = timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    assert timed.mux(0.5) == Timeout()
    for address in resolver.addresses:
        starter.go_on(address)
    assert timed.mux() == Ready(fh)
    assert drain(timed) == []
    assert [sock.fileno() for sock in starter.socks] == [-1] * 3
    timed.kill(fh)
    starter.close()


def test_an_answer_stops_the_beat(timed, clock, resolver, starter):
    resolver.addresses = addresses(2)
    starter.hang(*resolver.addresses)
    fh = timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    starter.go_on(resolver.addresses[0])
    assert timed.mux() == Ready(fh)
    assert timed.mux(5) == Timeout()
    assert starter.targets == resolver.addresses[:1]


def test_when_none_answers_the_error_is_of_the_last(mux, resolver, starter, refusing, no_leaks):
    resolver.addresses = [refusing, (LOOPBACK, 1), (LOOPBACK, 2)]
    starter.errors[LOOPBACK, 1] = OSError(errno.ENETUNREACH, "unreachable")
    starter.errors[LOOPBACK, 2] = OSError(errno.EHOSTUNREACH, "no route")
    fh = mux.connect(URL)
    mux.send(fh, b"hello")
    error, closing, closed = take(mux, 3)
    assert (error.errno, error.error) == (errno.EHOSTUNREACH, "no route")
    assert closing == Closing(fh, "no route")
    assert closed == Closed(fh, 5, "no route")
    assert mux.mux() is None


def test_one_that_is_under_way_is_waited_for_although_the_last_failed(
    timed, clock, resolver, starter
):
    first, second = resolver.addresses = addresses(2)
    starter.hang(first)
    starter.errors[second] = OSError(errno.ENETUNREACH, "unreachable")
    fh = timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    assert timed.mux(10) == Timeout()
    assert starter.targets == [first, second]
    starter.go_on(first)
    assert timed.mux() == Ready(fh)


def test_what_the_selector_refuses_has_failed(resolver, starter, server, no_leaks):
    selector = RefusingSelector()
    with EventMux(selector=selector) as mux:
        resolver.hang()
        resolver.addresses = [server.getsockname()] * 2
        mux.connect(URL)
        selector.refuse = OSError(errno.ENOSPC, "no space")
        resolver.answer()
        events = take(mux, 3)
        assert kinds(events) == ["error", "closing", "closed"]
        assert events[0].errno == errno.ENOSPC
        selector.refuse = None
        assert mux.mux() is None


# The timeout


@pytest.mark.parametrize("state", ["looking up", "trying", "trying several"])
def test_a_connection_that_takes_too_long_fails(timed, clock, resolver, starter, no_leaks, state):
    resolver.addresses = addresses(3)
    starter.hang(*resolver.addresses)
    resolver.hang()
    fh = timed.connect(URL, timeout=3)
    timed.send(fh, b"hello")
    if state != "looking up":
        assert look_up(timed, resolver) == Timeout()
    if state == "trying several":
        assert timed.mux(1) == Timeout()
        assert len(starter.socks) == 3
    error, closing, closed = take(timed, 3)
    assert clock.now == 1003
    assert error.errno == errno.ETIMEDOUT
    assert error.error == "no connection within 3 seconds"
    assert closing == Closing(fh, error.error)
    assert closed == Closed(fh, 5, error.error)
    resolver.answer()
    assert timed.mux(10) == Timeout()
    assert timed.mux() is None
    starter.close()


def test_a_numeric_address_that_takes_too_long_fails(timed, clock, starter):
    starter.hang((LOOPBACK, 7))
    fh = timed.connect(f"tcp://{LOOPBACK}:7", timeout=3)
    events = take(timed, 3)
    assert clock.now == 1003
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno == errno.ETIMEDOUT
    assert fh.fileno() == -1


def test_a_connection_in_time_does_not_fail_later(timed, clock, resolver, server):
    resolver.addresses = [server.getsockname()]
    resolver.hang()
    fh = timed.connect(URL, timeout=3)
    assert look_up(timed, resolver) in (Ready(fh), Timeout())
    drain(timed)
    assert timed.mux(10) == Timeout()
    assert timed.handles() == [fh]


def test_a_connection_that_has_gone_does_not_fail_later(timed, clock, resolver, server):
    resolver.hang()
    fh = timed.connect(URL, timeout=3)
    timed.kill(fh)
    assert timed.mux() == Closed(fh)
    assert timed.mux(10) == Timeout()


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_cannot_be_is_refused(timed, resolver, timeout, no_leaks):
    with pytest.raises(ValueError, match="timeout is"):
        timed.connect(URL, timeout=timeout)
    assert timed.handles() == []
    assert resolver.names == []


# Giving up


@pytest.mark.parametrize("state", ["looking up", "trying", "trying several"])
@pytest.mark.parametrize(
    ("method", "expected"),
    [("kill", ["closed"]), ("close", ["closing", "closed"]), ("remove", [])],
)
def test_a_connection_that_is_given_up(
    timed, clock, resolver, starter, no_leaks, state, method, expected
):
    resolver.addresses = addresses(3)
    starter.hang(*resolver.addresses)
    resolver.hang()
    fh = timed.connect(URL)
    if state != "looking up":
        assert look_up(timed, resolver) == Timeout()
    if state == "trying several":
        assert timed.mux(1) == Timeout()
    getattr(timed, method)(fh)
    assert kinds(timed) == expected
    assert timed.handles() == []
    assert all(sock.fileno() == -1 for sock in starter.socks)
    if method == "remove":
        assert fh.fileno() >= 0
        fh.close()
    tried = len(starter.targets)
    resolver.answer()
    assert timed.mux(10) == Timeout()
    assert timed.mux() is None
    assert len(starter.targets) == tried
    starter.close()


@pytest.mark.parametrize("state", ["looking up", "trying several"])
def test_the_end_of_the_mux_gives_up(clock, resolver, starter, no_leaks, state):
    resolver.addresses = addresses(3)
    starter.hang(*resolver.addresses)
    resolver.hang()
    with EventMux(selector=ClockedSelector(clock), clock=clock, spin=0) as mux:
        fh = mux.connect(URL)
        if state != "looking up":
            assert look_up(mux, resolver) == Timeout()
            assert mux.mux(1) == Timeout()
            assert len(starter.socks) == 3
    assert fh.fileno() == -1
    assert all(sock.fileno() == -1 for sock in starter.socks)
    resolver.answer()
    starter.close()


def test_a_socket_that_the_program_closes_while_it_is_looked_up(timed, resolver, server, no_leaks):
    resolver.addresses = [server.getsockname()]
    resolver.hang()
    fh = timed.connect(URL)
    assert timed.mux(0) == Timeout()
    fh.close()
    resolver.answer()
    events = take(timed, 3)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno == errno.EBADF
    assert timed.mux() is None
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        server.accept()[0].close()


def test_a_socket_that_the_program_closes_while_addresses_are_tried(
    timed, clock, resolver, starter, no_leaks
):
    resolver.addresses = addresses(2)
    starter.hang(*resolver.addresses)
    fh = timed.connect(URL)
    assert look_up(timed, resolver) == Timeout()
    assert timed.mux(1) == Timeout()
    fh.close()
    starter.go_on(resolver.addresses[0])
    events = take(timed, 3)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno == errno.EBADF
    assert all(sock.fileno() == -1 for sock in starter.socks)
    assert timed.mux() is None
    starter.close()


@pytest.mark.parametrize("is_datagram", [False, True])
def test_a_socket_that_the_program_closes_while_the_last_step_is_waited_for(
    timed, clock, selector, resolver, starter, receiver, no_leaks, is_datagram
):
    # Too late to be noticed before the descriptor is to be put into it.
    resolver.hang()
    resolver.addresses = [receiver.getsockname() if is_datagram else (LOOPBACK, 1)]
    starter.hang((LOOPBACK, 1))
    fh = timed.connect("udp://name.test:9" if is_datagram else URL)
    if not is_datagram:
        assert look_up(timed, resolver) == Timeout()

    def close():
        fh.close()
        if is_datagram:
            resolver.answer()
        else:
            starter.go_on((LOOPBACK, 1))

    selector.meanwhile.append((0.01, close))
    events = take(timed, 3)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno == errno.EBADF
    assert starter.socks[0].fileno() == -1
    assert timed.mux() is None
    starter.close()


def test_a_descriptor_of_the_closed_socket_that_is_used_again(timed, resolver, pair):
    resolver.hang()
    fh = timed.connect(URL)
    fd = fh.fileno()
    fh.close()
    other, peer = pair()
    assert fd in (other.fileno(), peer.fileno())
    timed.add(other)
    timed.add(peer)
    resolver.error = socket.gaierror(socket.EAI_NONAME, "unknown")
    resolver.answer()
    events = drain(timed)
    assert [event.type for event in events if event.fh is fh] == ["error", "closing", "closed"]
    peer.send(b"hello")
    assert timed.mux(PATIENCE) == Read(other, b"hello")


# What is sent before


@pytest.mark.parametrize("later", [False, True])
def test_what_was_sent_before_goes_out_after(mux, resolver, server, later):
    resolver.hang()
    resolver.addresses = [server.getsockname()]
    fh = mux.connect(URL)
    assert mux.send(fh, b"hel", later=later) == 3
    assert mux.mux(0) == Timeout()
    assert mux.send(fh, b"lo") == 5
    assert mux.buflen(fh) == 5
    resolver.answer()
    assert take(mux, 2) == [Ready(fh), Sent(fh)]
    peer, _ = server.accept()
    with peer:
        assert peer.recv(100) == b"hello"


def test_what_was_sent_before_close_goes_out_after(mux, resolver, server):
    resolver.hang()
    resolver.addresses = [server.getsockname()]
    fh = mux.connect(URL)
    mux.send(fh, b"hello")
    mux.close(fh)
    assert mux.mux(PATIENCE) == Closing(fh)
    assert mux.mux(0) == Timeout()
    resolver.answer()
    assert mux.mux(PATIENCE) == Closed(fh)
    peer, _ = server.accept()
    with peer:
        peer.settimeout(PATIENCE)
        assert peer.recv(100) == b"hello"
        assert peer.recv(100) == b""


def test_what_was_sent_before_close_is_missing_if_the_name_is_unknown(mux, resolver):
    resolver.hang()
    resolver.error = socket.gaierror(socket.EAI_NONAME, "unknown")
    fh = mux.connect(URL)
    mux.send(fh, b"hello")
    mux.close(fh)
    assert mux.mux(PATIENCE) == Closing(fh)
    resolver.answer()
    assert mux.mux(PATIENCE) == Closed(fh, 5, "unknown")


def test_options_and_meta_of_a_connection_to_a_name(mux, resolver, server):
    resolver.addresses = [server.getsockname()]
    fh = mux.connect(URL, meta="mine", read_size=3)
    assert mux.meta(fh) == "mine"
    assert mux.mux(PATIENCE) == Ready(fh)
    assert mux.meta(fh) == "mine"
    assert not os.get_blocking(fh.fileno())
    assert not fh.get_inheritable()
    peer, _ = server.accept()
    with peer:
        peer.send(b"abcdef")
        assert take(mux, 2) == [Read(fh, b"abc"), Read(fh, b"def")]


def test_the_placeholder_is_removed_and_can_be_added(mux, resolver, server):
    resolver.hang()
    fh = mux.connect(URL)
    mux.remove(fh)
    resolver.answer()
    fh.setblocking(False)
    fh.connect_ex(server.getsockname())
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.kill(fh)


# Datagrams


@pytest.fixture
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((LOOPBACK, 0))
        receiver.settimeout(PATIENCE)
        yield receiver


def test_a_datagram_socket_with_a_name(mux, resolver, receiver):
    resolver.hang()
    resolver.addresses = [receiver.getsockname()]
    fh = mux.connect("udp://name.test:9")
    assert mux.send(fh, b"one", b"two") == 2
    assert mux.mux(0) == Timeout()
    resolver.answer()
    assert mux.mux(PATIENCE) == Sent(fh)
    assert [receiver.recv(10), receiver.recv(10)] == [b"one", b"two"]
    receiver.sendto(b"answer", fh.getsockname())
    assert mux.mux(PATIENCE) == Read(fh, b"answer", receiver.getsockname())


def test_a_datagram_socket_takes_the_next_address_if_one_fails_at_once(
    mux, resolver, starter, receiver
):
    resolver.addresses = [(LOOPBACK, 1), receiver.getsockname(), (LOOPBACK, 2)]
    starter.errors[LOOPBACK, 1] = OSError(errno.ENETUNREACH, "unreachable")
    fh = mux.connect("udp://name.test:9")
    mux.send(fh, b"hello")
    assert mux.mux(PATIENCE) == Sent(fh)
    assert receiver.recv(10) == b"hello"
    assert starter.targets == resolver.addresses[:2]


def test_a_datagram_socket_whose_name_is_unknown(mux, resolver, no_leaks):
    resolver.error = socket.gaierror(socket.EAI_NONAME, "unknown")
    fh = mux.connect("udp://name.test:9")
    mux.send(fh, b"one", b"two")
    error, closing, closed = take(mux, 3)
    assert error.error == "unknown"
    assert closing == Closing(fh, "unknown")
    assert closed == Closed(fh, 2, "unknown")
    assert mux.mux() is None


def test_a_datagram_socket_whose_look_up_takes_too_long(timed, clock, resolver):
    resolver.hang()
    timed.connect("udp://name.test:9", timeout=3)
    assert kinds(take(timed, 3)) == ["error", "closing", "closed"]
    assert clock.now == 1003


def test_a_datagram_socket_that_is_up_does_not_fail_later(timed, clock, receiver):
    fh = timed.connect("udp://{}:{}".format(*receiver.getsockname()), timeout=3)
    assert timed.mux(10) == Timeout()
    assert timed.handles() == [fh]
