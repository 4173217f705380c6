"""What goes wrong outside: the kernel refuses, peers die, the program closes handles itself.

Each test runs with each selector, since each is silent about other things. Whatever happens, it
is an event of the handle that it concerns, `mux()` raises nothing, and the others go on.
"""

import contextlib
import errno
import fcntl
import io
import os
import selectors
import signal
import socket
import struct

import pytest
from support.fakes import ClockedSelector, FakeClock
from support.pump import PATIENCE, SELECTORS, SELECTORS_IN_TURN, drain, kinds, take, until

from eventmux import BufferOverflow, Event, EventMux, OutputOverflow, Read, ReadLast, Ready, Timeout
from eventmux import sockets as eventmux_sockets
from eventmux.buffers import HTTP, Size, Split

BROKEN = ["error", "closing", "closed"]
HUGE = b"x" * 3_000_000  # more than a kernel buffers
CROWD = 300  # handles: only a few are looked after at each turn; select() takes no more than 1024

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and descriptors as of POSIX")


@pytest.fixture(params=SELECTORS_IN_TURN, ids=lambda kind: kind.__name__)
def clock(request):
    clock = FakeClock()
    clock.selector = ClockedSelector(clock, selector=request.param())
    return clock


@pytest.fixture
def mux(clock):
    """A mux on a fake clock: it never waits, and waiting for ever is an error."""
    with EventMux(selector=clock.selector, clock=clock, spin=0) as mux:
        yield mux


@pytest.fixture(params=SELECTORS_IN_TURN, ids=lambda kind: kind.__name__)
def real(request):
    """A mux on the real clock, for TCP, which may take a moment."""
    with EventMux(selector=request.param()) as mux:
        yield mux


@pytest.fixture
def ends(pair):
    """Make pairs of sockets, as `pair` does, whose peer's end does not block."""

    def make(kind=socket.SOCK_STREAM):
        one, two = pair(kind)
        two.setblocking(False)
        return one, two

    return make


@pytest.fixture
def pipe():
    """Make pipes, as file objects; the test may close both ends."""
    with contextlib.ExitStack() as stack:

        def make():
            reader, writer = os.pipe()
            ends = io.FileIO(reader, "rb"), io.FileIO(writer, "wb")
            for end in ends:
                stack.enter_context(end)
            return ends

        yield make


def crowd(mux, ends, count=CROWD):
    """Watch so many handles that one which is closed is not looked after at once."""
    for _ in range(count):
        mux.add(ends()[0])
    assert kinds(take(mux, count)) == ["ready"] * count


def of(fh, events):
    return [event for event in events if event.fh is fh]


def receive(sock):
    """Read all that is there now."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := sock.recv(1_000_000):
            data += chunk
    return data


def reset(sock):
    """Close a TCP socket so that the peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def meet(mux, **options):
    """Connect a plain socket over TCP; return the listener, what was accepted and the socket."""
    listener = mux.listen("tcp://127.0.0.1:0", **options)
    peer = socket.create_connection(listener.getsockname())
    accepted = until(mux, "connect")[-1].fh
    return listener, accepted, peer


class Stubborn(socket.socket):
    """A socket whose kernel does as the test says: it `takes` so many bytes for a send."""

    takes = None

    def __init__(self, fileno):
        super().__init__(fileno=fileno)

    def send(self, data, *args):
        return super().send(memoryview(data)[: self.takes], *args)


@pytest.fixture
def stubborn(ends):
    one, two = ends()
    with Stubborn(one.detach()) as sock:
        yield sock, two


# Accepting


class Accepts:
    """Stands for `accept()`: raises one error for as long as it is set."""

    def __init__(self, monkeypatch):
        self.error = None
        self.calls = 0
        self._accept = eventmux_sockets.accept
        monkeypatch.setattr(eventmux_sockets, "accept", self)

    def __call__(self, listener):
        self.calls += 1
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        return self._accept(listener)


@pytest.fixture
def accepts(monkeypatch):
    return Accepts(monkeypatch)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_a_starved_listener_asks_once_a_second(mux, clock, accepts, number):
    listener = mux.listen("tcp://127.0.0.1:0")
    accepts.error = number
    with socket.create_connection(listener.getsockname()):
        (error,) = drain(mux)
        assert (error.type, error.fh, error.errno) == ("error", listener, number)
        for _ in range(50):  # a busy program is no reason to try more often
            assert drain(mux) == []
        assert mux.mux(0.9) == Timeout()
        assert accepts.calls == 1
        assert mux.mux(0.2).errno == number
        assert accepts.calls == 2
        accepts.error = None
        assert mux.mux(2).type == "connect"
        assert clock.now == 1002
        assert mux.mux(10) == Timeout()
    assert len(clock.selector.timeouts) < 250


@pytest.mark.parametrize("method", ["kill", "remove", "close"])
def test_a_starved_listener_goes_on_when_any_handle_goes(mux, clock, accepts, ends, method):
    fh, _ = ends()
    mux.add(fh)
    mux.mux()
    listener = mux.listen("tcp://127.0.0.1:0")
    accepts.error = errno.EMFILE
    with socket.create_connection(listener.getsockname()):
        assert kinds(drain(mux)) == ["error"]
        accepts.error = None
        getattr(mux, method)(fh)
        assert kinds(drain(mux))[-1] == "connect"
        assert clock.now == 1000


def test_a_listener_at_the_limit_does_not_ask_more_and_more_often(mux, clock, accepts, ends):
    # Each handle that goes is a reason to try at once; it must not leave a reminder of its own.
    listener = mux.listen("tcp://127.0.0.1:0")
    crowd(mux, ends, 100)
    accepts.error = errno.EMFILE
    with socket.create_connection(listener.getsockname()):
        drain(mux)
        for fh in mux.handles():
            if fh is not listener:
                mux.kill(fh)
                drain(mux)
                clock.advance(0.005)
        accepts.calls = 0
        end = clock.now + 10
        while clock.now < end:
            mux.mux(end - clock.now)
        assert accepts.calls <= 11


def test_a_connection_that_was_aborted_does_not_concern_the_listener(mux, accepts, monkeypatch):
    listener = mux.listen("tcp://127.0.0.1:0")
    aborted = [ConnectionAbortedError(errno.ECONNABORTED, "aborted")] * 3

    def accept(sock):
        if aborted:
            raise aborted.pop()
        return accepts(sock)

    monkeypatch.setattr(eventmux_sockets, "accept", accept)
    with socket.create_connection(listener.getsockname()):
        assert kinds(drain(mux)) == ["connect"]
        assert aborted == []


# Reading and writing


def test_a_write_to_a_dead_peer(mux, ends):
    fh, peer = ends()
    mux.add(fh)
    mux.mux()
    peer.close()
    assert mux.send(fh, b"hello") == 0
    events = drain(mux)
    assert kinds(events) == BROKEN
    assert events[0].errno == errno.EPIPE
    assert events[-1].missing == 5


def test_a_pipe_that_nobody_reads(mux):
    reader, writer = os.pipe()
    mux.add(writer)
    assert mux.mux() == Ready(writer)
    os.close(reader)
    mux.send(writer, b"hello")
    events = drain(mux)
    assert kinds(events) == BROKEN
    assert events[0].errno == errno.EPIPE
    assert events[-1].missing == 5


def test_an_idle_pipe_that_nobody_reads(mux):
    reader, writer = os.pipe()
    mux.add(writer)
    assert mux.mux() == Ready(writer)
    os.close(reader)
    assert kinds(drain(mux)) == ["closing", "closed"]


def test_a_reset_while_data_is_unread(real):
    listener, fh, peer = meet(real)
    with socket.create_connection(listener.getsockname()) as other:
        second = until(real, "connect")[-1].fh
        real.want_read(fh, False)
        peer.sendall(b"unread" * 1000)
        reset(peer)
        other.sendall(b"fine")
        assert until(real, "read")[-1] == Read(second, b"fine")
        real.want_read(fh, True)
        events = of(fh, until(real, "closed"))
        assert kinds(events) == ["read", *BROKEN]  # Linux keeps what came before the reset
        assert events[1].errno == errno.ECONNRESET
        assert set(real.handles()) == {listener, second}


def test_a_reset_while_our_output_is_queued(real):
    _, fh, peer = meet(real)
    while not (queued := real.send(fh, HUGE)):
        pass
    reset(peer)
    events = [event for event in until(real, "closed") if event.type != "sent"]
    assert kinds(events) == BROKEN
    assert events[0].errno == errno.ECONNRESET
    assert 0 < events[-1].missing <= queued


@pytest.mark.parametrize("death", ["end", "reset"])
@pytest.mark.parametrize(
    ("buffered", "half", "last"),
    [(Size("!I"), b"\0\0\0\x09half", ReadLast), (Split(), b"half", None)],
    ids=["size", "split"],
)
def test_a_peer_that_dies_in_the_middle_of_a_record(real, buffered, half, last, death):
    _, fh, peer = meet(real, buffered=buffered)
    whole = b"\0\0\0\x04good" if last else b"good\n"
    peer.sendall(whole + half)
    assert until(real, "read") == [Read(fh, b"good")]
    peer.close() if death == "end" else reset(peer)
    events = until(real, "closed")
    is_record = last is None and death == "end"
    rest = Read(fh, half) if is_record else ReadLast(fh, half)
    assert rest in events
    assert kinds(events) == [*(["error"] if death == "reset" else []), rest.type, *BROKEN[1:]]


def test_one_byte_at_a_time_arrives_in_order(mux, stubborn):
    fh, peer = stubborn
    fh.takes = 1
    mux.add(fh)
    mux.mux()
    data = bytes(range(256)) * 2
    assert mux.send(fh, data[:300], data[300:]) == len(data) - 1
    received = b""
    while mux.buflen(fh):
        mux.mux(0)
        received += receive(peer)
    assert received + receive(peer) == data
    mux.close(fh)
    assert [event.missing for event in drain(mux) if event.type == "closed"] == [0]


def test_a_signal_does_not_end_the_wait(real, ends):
    fh, peer = ends()
    real.add(fh)
    real.mux()
    before = signal.signal(signal.SIGALRM, lambda *_: peer.send(b"hello"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        assert real.mux(PATIENCE) == Read(fh, b"hello")
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_may_raise_out_of_the_wait(real, ends):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    fh, peer = ends()
    real.add(fh)
    real.mux()

    def wait():
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        real.mux(PATIENCE)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(Stop):
            wait()
    finally:
        signal.signal(signal.SIGALRM, before)
    peer.send(b"hello")
    assert real.mux(PATIENCE) == Read(fh, b"hello")


def test_a_packet_that_is_too_long_is_told_when_the_connection_is_up(mux, ends):
    fh, peer = ends(socket.SOCK_SEQPACKET)
    fh.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    mux.add(fh)
    assert mux.send(fh, HUGE, b"hello") == 0
    events = drain(mux)
    assert kinds(events) == ["ready", "error", "sent"]
    assert events[1].errno == errno.EMSGSIZE
    assert receive(peer) == b"hello"


# A handle that the program closed without telling


def test_closed_while_idle(mux, clock, ends):
    fh, _ = ends()
    mux.add(fh)
    mux.mux()
    fh.close()
    events = take(mux, 3)
    assert kinds(events) == BROKEN
    assert events[0].errno == errno.EBADF
    assert mux.mux() is None
    assert clock.now < 1001


def test_closed_while_many_others_are_watched(mux, clock, ends):
    crowd(mux, ends)
    fh = mux.handles()[CROWD // 2]
    fh.close()
    events = take(mux, 3)
    assert kinds(events) == BROKEN
    assert {event.fh for event in events} == {fh}
    assert clock.now < 1001
    assert len(mux.handles()) == CROWD - 1


@pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="Linux")
def test_closed_among_thousands(ends):
    clock = FakeClock()
    selector = ClockedSelector(clock, selector=selectors.EpollSelector())
    with EventMux(selector=selector, clock=clock, spin=0) as mux:
        crowd(mux, ends, 3000)
        fhs = mux.handles()[::1000]
        for fh in fhs:
            fh.close()
        events = take(mux, 3 * len(fhs))
        for fh in fhs:
            assert kinds(of(fh, events)) == BROKEN
        assert clock.now < 1001


def test_closed_among_others_that_keep_talking(mux, ends):
    # There is never a moment of idleness to look after all of them.
    crowd(mux, ends)
    talker, peer = ends()
    mux.add(talker)
    mux.mux()
    fh = mux.handles()[0]
    fh.close()
    for _ in range(CROWD):
        peer.send(b"x")
        event = mux.mux(0)
        if event.fh is fh:
            break
    assert kinds([event, *take(mux, 2)]) == BROKEN


@pytest.mark.parametrize("water", [None, 1])
def test_closed_while_output_is_queued(mux, ends, water):
    fh, _ = ends()
    mux.add(fh, high_water=water)
    mux.mux()
    queued = mux.send(fh, HUGE)
    fh.close()
    events = take(mux, 3)
    assert kinds(events) == BROKEN
    assert events[0].errno == errno.EBADF
    assert events[-1].missing == queued


@pytest.mark.parametrize("water", [None, 1])
def test_sending_on_it_is_told_by_an_event(mux, ends, water):
    crowd(mux, ends)
    fh, _ = ends()
    mux.add(fh, high_water=water)
    mux.mux()
    queued = mux.send(fh, HUGE)
    fh.close()
    mux.send(fh, b"more")
    events = of(fh, drain(mux) + ([] if fh not in mux.handles() else until(mux, "closed", fh)))
    assert kinds(events) == BROKEN
    assert events[0].errno == errno.EBADF
    assert events[-1].missing == queued + 4


def test_wanting_to_read_from_it_is_told_by_an_event(mux, ends):
    crowd(mux, ends)
    fh, _ = ends()
    mux.add(fh)
    mux.mux()
    mux.want_read(fh, False)
    fh.close()
    mux.want_read(fh, True)
    events = take(mux, 3)
    assert kinds(events) == BROKEN
    assert {event.fh for event in events} == {fh}


@pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="Linux")
def test_closed_while_a_duplicate_stays_open(ends, monkeypatch):
    # epoll goes on reporting it, by a number that is nobody's: that must not become a busy loop.
    calls = []
    wait = selectors.EpollSelector.select

    def select(selector, timeout=None):
        calls.append(timeout)
        return wait(selector, timeout)

    monkeypatch.setattr(selectors.EpollSelector, "select", select)
    with EventMux(selector=selectors.EpollSelector(), spin=0) as mux:
        fh, peer = ends()
        other, talker = ends()
        mux.add(fh)
        mux.add(other)
        take(mux, 2)
        with fh.dup():
            fh.close()
            peer.send(b"x")
            assert kinds(take(mux, 3)) == BROKEN
            calls.clear()
            assert mux.mux(0.02) == Timeout()
            assert len(calls) < 10, "busy loop"
            talker.send(b"hello")
            mux.send(other, HUGE)
            assert mux.mux(PATIENCE) == Read(other, b"hello")
            mux.kill(other)
            assert mux.mux().type == "closed"


# Its number is used by the next one


@pytest.fixture(params=["socket", "pipe", "paused socket", "paused pipe", "full socket"])
def stale(request, real, ends, pipe):
    """A handle, among many, that the program closes, and the number that gets free by that."""
    crowd(real, ends)
    fh, _ = pipe() if request.param.endswith("pipe") else ends()
    number = fh.fileno()
    if request.param.endswith("pipe"):
        real.add(fh)
    else:
        real.add(fh, high_water=1)
        real.mux()
    if request.param.startswith("paused"):
        real.want_read(fh, False)
    if request.param.startswith("full"):
        real.send(fh, HUGE)
    return fh, number


def assert_alone(mux, stale, fh, peer):
    """The new handle works, and the old one has ended without any of its data."""
    events = []
    peer.sendall(b"for the new one")
    while stale in mux.handles() or not any(event.type == "read" for event in events):
        event = mux.mux(PATIENCE)
        assert not isinstance(event, Timeout)
        events.append(event)
    assert kinds(of(stale, events)) == BROKEN
    assert of(stale, events)[0].errno == errno.EBADF
    assert [event for event in events if event.type == "read"] == [Read(fh, b"for the new one")]
    mux.send(fh, b"answer")
    peer.settimeout(PATIENCE)
    assert peer.recv(100) == b"answer"
    assert fh in mux.handles()


def test_the_number_is_used_by_a_socket_that_is_added(real, stale, ends):
    old, number = stale
    old.close()
    fh, peer = ends()
    assert fh.fileno() == number
    real.add(fh)
    assert_alone(real, old, fh, peer)


def test_the_number_is_used_by_a_socket_that_is_accepted(real, stale):
    old, number = stale
    listener = real.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()) as peer:
        old.close()
        events = until(real, "connect")
        fh = events[-1].fh
        assert fh.fileno() == number
        real.push_event(*events[:-1])
        assert_alone(real, old, fh, peer)


def test_the_number_is_used_by_a_socket_that_connects(real, stale):
    old, number = stale
    with socket.create_server(("127.0.0.1", 0)) as server:
        old.close()
        fh = real.connect("tcp://127.0.0.1:{}".format(*server.getsockname()[1:]))
        assert fh.fileno() == number
        peer, _ = server.accept()
        with peer:
            assert_alone(real, old, fh, peer)


def test_the_number_is_used_by_a_connection_to_a_name(real, stale, monkeypatch):
    old, number = stale
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = (socket.AF_INET, socket.SOCK_STREAM, server.getsockname())
        monkeypatch.setattr(eventmux_sockets, "look_up", lambda _: [target])
        fh = real.connect("tcp://name.invalid:1")
        old.close()
        events = until(real, "ready", fh)
        assert fh.fileno() == number
        real.push_event(*(event for event in events if event.fh is old))
        peer, _ = server.accept()
        with peer:
            assert_alone(real, old, fh, peer)


def test_the_number_is_used_by_one_that_is_not_watched(real, stale, ends):
    # Nobody may read its data, nor write to it.
    old, number = stale
    old.close()
    fh, peer = ends()
    assert fh.fileno() == number
    peer.send(b"private")
    if real.has_events() == 0 and old in real.handles():
        real.want_read(old, True)
    events = [] if old not in real.handles() else until(real, "closed", old)
    assert kinds(of(old, events)) == BROKEN
    assert fh.recv(100) == b"private"
    assert receive(peer) == b""


@pytest.mark.parametrize("kind", SELECTORS[1:])  # epoll forgets what is closed
def test_a_closed_pipe_does_not_read_from_another(kind, ends, pipe):
    old, _ = pipe()
    number = old.fileno()
    with EventMux(selector=kind()) as mux:
        crowd(mux, ends)
        mux.add(old)
        old.close()
        fh, peer = ends()
        assert fh.fileno() == number
        peer.send(b"private")
        events = until(mux, "closed", old)
    assert kinds(of(old, events)) == BROKEN
    assert fh.recv(100) == b"private"


def test_what_is_sent_to_a_closed_pipe_does_not_reach_another(mux, ends, pipe):
    _, old = pipe()
    number = old.fileno()
    mux.add(old)
    mux.mux()
    old.close()
    fh, peer = ends()
    assert fh.fileno() == number
    mux.send(old, b"secret")
    assert receive(peer) == b""
    assert kinds(of(old, drain(mux))) == BROKEN


def test_an_idle_pipe_that_nobody_reads_while_one_handle_is_waited_for(mux, clock, ends):
    fh, _ = ends()
    mux.add(fh)
    reader, writer = os.pipe()
    mux.add(writer)
    take(mux, 2)
    os.close(reader)
    mux.push_event(*(Event() for _ in range(1000)))  # so many that others are not read from
    clock.selector.timeouts.clear()
    assert mux.mux(5, only=fh) == Timeout()
    assert len(clock.selector.timeouts) < 10
    mux.kill(writer)
    take(mux, 1001)
    assert mux.handles() == [fh]


# A handle that goes in the middle of a turn


@pytest.fixture(params=["socket", "pipe"])
def victim(request, mux, ends, pipe):
    """A handle that is watched and has something to read, and its number."""
    fh, peer = ends() if request.param == "socket" else pipe()
    mux.add(fh)
    os.write(peer.fileno(), b"of the victim")
    return fh, fh.fileno()


@pytest.mark.parametrize("method", ["kill", "remove"])
def test_it_goes_before_its_turn_to_be_read(mux, ends, victim, method):
    # What reads `first` is the program's own code, and the victim is known to be readable by then.
    fh, number = victim
    others = []

    def handle(*_):
        if fh in mux.handles():
            getattr(mux, method)(fh)
            others.append(ends())  # takes the number, if that is free
            others[0][1].send(b"of another")

    mouths = [ends() for _ in range(2)]
    for mouth, _ in mouths:  # one of them comes before the victim, whatever the order
        mux.add(mouth, meta_handler=handle)
    until(mux, "ready", mouths[-1][0])
    for _, peer in mouths:
        peer.send(b"x")
    events = of(fh, drain(mux))
    got = [event for event in events if event.type == "read"]
    if got:  # it was before them in that turn
        assert got == [Read(fh, b"of the victim")]
    after = events[events.index(got[0]) + 1 :] if got else events
    assert [kind for kind in kinds(after) if kind != "ready"] in ([], ["closed"])
    assert fh not in mux.handles()
    other, _ = others[0]
    if method == "kill":
        assert other.fileno() == number
    assert other.recv(100) == b"of another"
    if method == "remove":
        fh.close()


@pytest.mark.parametrize("method", ["kill", "remove"])
@pytest.mark.parametrize(
    "data",
    [
        b"one\n",
        b"one\ntwo\n",
    ],
    ids=["last", "not last"],
)
def test_it_goes_while_it_is_read(mux, ends, method, data):
    fh, peer = ends()

    def handle(*_):
        if fh in mux.handles():
            getattr(mux, method)(fh)

    mux.add(fh, buffered=Split(), meta_handler=handle)
    mux.mux()
    peer.send(data)
    events = drain(mux)
    assert kinds(events) in ([], ["closed"])
    assert mux.handles() == []
    assert mux.mux() is None


@pytest.mark.parametrize("method", ["kill", "remove"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_it_goes_while_its_events_are_queued(mux, ends, method, index):
    pairs = [ends() for _ in range(3)]
    for fh, _ in pairs:
        mux.add(fh, buffered=Split())
    take(mux, 3)
    for _, peer in pairs:
        peer.send(b"one\ntwo\n")
        peer.close()
    first = mux.mux()
    fh = pairs[index][0]
    getattr(mux, method)(fh)
    events = drain(mux)
    assert kinds(of(fh, events)) == (["closed"] if method == "kill" else [])
    for other, _ in pairs:
        if other is not fh:
            assert kinds(of(other, [first, *events])) == ["read", "read", "closing", "closed"]


def test_a_number_that_was_killed_can_be_watched_and_killed_again(mux):
    # The handle is the number itself: each of its lives has an end.
    lives = []
    for _ in range(2):
        reader, writer = os.pipe()
        os.close(writer)
        mux.add(reader)
        mux.kill(reader)
        lives.append(reader)
    assert lives[0] == lives[1]
    assert kinds(drain(mux)) == ["closed", "closed"]


# Peers that never read


@pytest.mark.parametrize(
    ("kind", "limit", "chunk"),
    [
        (socket.SOCK_STREAM, 100_000, b"x" * 10_000),
        (socket.SOCK_SEQPACKET, 50, b"x" * 1000),
        (socket.SOCK_DGRAM, 50, b"x" * 1000),
    ],
    ids=["stream", "seqpacket", "dgram"],
)
@pytest.mark.parametrize("later", [False, True])
def test_a_peer_that_never_reads(mux, ends, kind, limit, chunk, later):
    fh, _ = ends(kind)
    mux.add(fh, max_outbuffer=limit)
    drain(mux)
    highest, events = 0, []
    while not events:
        assert mux.send(fh, chunk, later=later) == mux.buflen(fh)
        highest = max(highest, mux.buflen(fh))
        if mux.has_events():
            events = [event for event in drain(mux) if event.type != "sent"]
    unit = len(chunk) if kind == socket.SOCK_STREAM else 1
    assert limit - unit <= highest <= limit + unit
    assert kinds(events) == BROKEN
    assert isinstance(events[0].exception, OutputOverflow)
    assert limit < events[-1].missing <= limit + unit
    assert mux.handles() == []


def test_a_peer_that_has_finished_and_never_reads(mux, ends):
    fh, peer = ends()
    mux.add(fh, max_outbuffer=100_000)
    mux.mux()
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux().type == "closing"
    for _ in range(1000):
        mux.send(fh, b"x" * 10_000)
        assert mux.buflen(fh) <= 110_000
    (closed,) = drain(mux)
    assert closed.missing > 100_000
    assert closed.reason


def test_a_record_without_an_end(mux, ends):
    fh, peer = ends()
    other, talker = ends()
    mux.add(fh, buffered=Split(max_size=1000))
    mux.add(other)
    take(mux, 2)
    peer.send(b"x" * 5000)
    talker.send(b"fine")
    events = drain(mux)
    assert kinds(of(fh, events)) == BROKEN
    assert isinstance(of(fh, events)[0].exception, BufferOverflow)
    assert Read(other, b"fine") in events


# What select() cannot wait for


@pytest.fixture
def narrow():
    clock = FakeClock()
    selector = ClockedSelector(clock, selector=selectors.SelectSelector())
    with EventMux(selector=selector, clock=clock, spin=0) as mux:
        yield mux


@pytest.fixture
def high(ends):
    """Give a socket a descriptor over 1023."""
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1100:
        pytest.skip("the limit of descriptors is too low")

    def make():
        one, two = ends()
        fd = fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 1024)
        one.close()
        return socket.socket(fileno=fd), two

    return make


@pytest.mark.parametrize("count", [1, 3])
def test_a_descriptor_that_select_cannot_take(narrow, ends, high, count):
    fh, peer = ends()
    narrow.add(fh)
    assert narrow.mux() == Ready(fh)
    too_high = [high()[0] for _ in range(count)]
    for sock in too_high:
        narrow.add(sock)
    peer.send(b"hello")
    events = drain(narrow)
    for sock in too_high:
        assert kinds(of(sock, events)) == BROKEN
        assert sock.fileno() == -1
    assert of(fh, events) == [Read(fh, b"hello")]
    peer.send(b"again")
    assert narrow.mux() == Read(fh, b"again")


def test_closed_ones_among_those_that_select_waits_for(narrow, ends):
    crowd(narrow, ends)
    fh, peer = ends()
    narrow.add(fh)
    narrow.mux()
    closed = narrow.handles()[100:103]
    for sock in closed:
        sock.close()
    peer.send(b"hello")
    events = drain(narrow)
    for sock in closed:
        assert kinds(of(sock, events)) == BROKEN
    assert of(fh, events) == [Read(fh, b"hello")]
    assert len(narrow.handles()) == CROWD - 2


# A program whose code raises or forks in the middle of a turn


class Mistake(Exception):
    """What the program's code raises."""


def raise_mistake(*_):
    raise Mistake


def test_a_bell_that_rang_in_a_turn_that_raised_is_answered(mux, ends):
    fh, peer = ends()
    mux.add(fh, meta_handler=raise_mistake)
    mux.mux()
    mux.post(Event())
    peer.send(b"x")
    with pytest.raises(Mistake):
        mux.mux()
    assert sorted(kinds(take(mux, 2))) == ["", "read"]


def test_a_stream_goes_on_after_recvdata_raised(mux, ends):
    fh, peer = ends()
    heads = iter([None, Mistake, None])

    def handle(*_):
        if next(heads, None) is not None:
            raise Mistake

    mux.add(fh, buffered=HTTP(header_only=True), meta_handler=handle)
    mux.mux()
    peer.send(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
    mux.mux()
    with pytest.raises(Mistake):
        mux.recvdata(fh, 3)
    assert mux.mux().data == b"abc"
    peer.send(b"GET / HTTP/1.1\r\n\r\n")
    assert until(mux, "read")[-1].data == b"GET / HTTP/1.1\r\n\r\n"


# Handles of odd kinds


def test_an_object_that_raises_anything_once_it_is_closed(mux, pipe):
    class Wrapper:
        def __init__(self, inner):
            self.inner = inner

        def fileno(self):
            return self.inner.fileno()

        def close(self):
            self.inner.close()
            self.inner = None

    reader, _ = pipe()
    fh = Wrapper(reader)
    mux.add(fh)
    fh.close()
    assert kinds(drain(mux)) == BROKEN


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="only Linux has it")
def test_an_address_of_an_odd_family_harms_nothing_else(mux):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        mux.add(sock)
        with pytest.raises(TypeError):
            mux.sendto(sock, "bad", b"x")
        assert mux.buflen(sock) == 0
        mux.remove(sock)


class Hungry(socket.socket):
    """A socket with which memory runs out, unless it is only asked whether there is something."""

    def recv(self, size, flags=0):
        if not flags & socket.MSG_PEEK:
            raise MemoryError
        return super().recv(size, flags)

    def send(self, *args):
        raise MemoryError


@pytest.mark.parametrize("action", ["read", "write"])
def test_no_memory_for_one_stream_ends_that_one(mux, ends, action):
    one, peer = ends()
    other, other_peer = ends()
    hungry = Hungry(fileno=one.detach())
    for fh in (hungry, other):
        mux.add(fh)
    drain(mux)
    if action == "read":
        peer.send(b"x")
    else:
        mux.send(hungry, b"x", later=True)
    events = [event for event in drain(mux) if event.fh is hungry]
    assert kinds(events) == BROKEN
    assert events[0].errno == errno.ENOMEM
    other_peer.send(b"x")
    assert kinds(drain(mux)) == ["read"]
