"""`idle_timeout`: a handle on which nothing has come or gone for so long is closed."""

import errno
import os
import pickle
import selectors
import socket
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import client_context, server_context
from support.fakes import ClockedSelector, FakeClock
from support.meeting import meet
from support.pump import drain, kinds, receive, take
from support.tls_ends import HandClient

from eventmux import Closed, Closing, Error, EventMux, IdleTimeout, ReadLast, Timeout
from eventmux._channels.idling import Idling
from eventmux.buffers import HTTP, Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="destinations are told by Linux")
LATEST = 1 + 1 / 8  # in timeouts: when it is found at the latest


@pytest.fixture
def mux(timed):
    return timed


@pytest.fixture
def stream(mux, pair):
    """A handle with a timeout of 16 seconds, and its peer."""
    fh, peer = pair()
    mux.add(fh, idle_timeout=16)
    drain(mux)
    return fh, peer


def pass_by(mux, clock, seconds):
    """Let time pass, a second at a time, and return the events that come."""
    events = []
    for _ in range(seconds):
        clock.advance(1)
        events += drain(mux)
    return events


# What it is


def test_a_handle_that_is_quiet_is_closed(mux, clock, stream):
    fh, peer = stream
    start = clock.now
    error, closing, closed = list(mux)
    assert 16 <= clock.now - start <= 16 * LATEST
    text = "nothing has come or gone for 16 seconds (idle_timeout)"
    assert error == Error(fh, text, errno.ETIMEDOUT, error.exception)
    assert isinstance(error.exception, IdleTimeout)
    assert error.exception.seconds == 16
    assert closing == Closing(fh, text)
    assert closed == Closed(fh, 0, text)
    assert receive(peer) == b""


def test_the_error_is_a_timeout_and_can_be_pickled():
    error = IdleTimeout(2.5)
    assert isinstance(error, TimeoutError)
    assert error.errno == errno.ETIMEDOUT
    assert "2.5 seconds" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.seconds, str(again)) == (IdleTimeout, 2.5, str(error))


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_time_that_cannot_be(mux, pair, seconds):
    fh, _ = pair()
    with pytest.raises(ValueError, match="idle_timeout is"):
        mux.add(fh, idle_timeout=seconds)
    assert mux.handles() == []
    mux.add(fh)
    with pytest.raises(ValueError, match="idle_timeout is"):
        mux.set(fh, idle_timeout=seconds)


def test_without_it_nobody_is_looked_at(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    drain(mux)
    assert mux.timeout() is None
    assert mux.mux(1e6) == Timeout()
    assert mux.handles() == [fh]


# What comes and goes


def test_what_comes_puts_it_off(mux, clock, stream):
    _, peer = stream
    for _ in range(10):
        assert pass_by(mux, clock, 15) == []
        peer.send(b"x")
        assert kinds(drain(mux)) == ["read"]
    assert kinds(pass_by(mux, clock, 18)) == ["error", "closing", "closed"]


def test_a_part_of_a_record_puts_it_off(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh, idle_timeout=16, buffered=Split())
    drain(mux)
    for _ in range(5):
        peer.send(b"x")
        assert pass_by(mux, clock, 15) == []
    error, *rest = pass_by(mux, clock, 18)
    assert isinstance(error.exception, IdleTimeout)
    assert rest[0] == ReadLast(fh, b"xxxxx")
    assert kinds(rest[1:]) == ["closing", "closed"]


@pytest.mark.parametrize("later", [False, True])
def test_what_goes_puts_it_off(mux, clock, stream, later):
    fh, _ = stream
    for _ in range(5):
        assert pass_by(mux, clock, 15) == []
        mux.send(fh, b"x", later=later)
        drain(mux)
    assert kinds(pass_by(mux, clock, 18)) == ["error", "closing", "closed"]


def test_what_the_peer_takes_little_by_little_puts_it_off(mux, clock, stream):
    fh, peer = stream
    mux.send(fh, HUGE)
    peer.setblocking(False)
    while mux.buflen(fh) > 1_000_000:
        assert pass_by(mux, clock, 15) == []
        before = mux.buflen(fh)
        while mux.buflen(fh) == before:
            peer.recv(100_000)
            drain(mux)


@pytest.mark.parametrize("options", [{}, {"high_water": 1}])
def test_a_peer_that_reads_nothing_is_idle(mux, clock, pair, options):
    fh, peer = pair()
    mux.add(fh, idle_timeout=16, **options)
    drain(mux)
    mux.send(fh, HUGE)
    unsent = mux.buflen(fh)
    error, _, closed = pass_by(mux, clock, 18)
    assert isinstance(error.exception, IdleTimeout)
    assert closed.missing == unsent > 0
    del peer


def test_sending_to_a_peer_that_takes_nothing_is_not_going(mux, clock, stream):
    fh, _ = stream
    mux.send(fh, HUGE)
    drain(mux)
    events = []
    while not events:
        mux.send(fh, b"more")
        events = pass_by(mux, clock, 1)
        assert clock.now < 1100
    assert isinstance(events[0].exception, IdleTimeout)


# What the peer is not to blame for


def test_no_time_passes_while_the_program_does_not_read(mux, clock, stream):
    fh, _ = stream
    pass_by(mux, clock, 10)
    mux.want_read(fh, False)
    assert pass_by(mux, clock, 100) == []
    mux.want_read(fh, True)
    assert pass_by(mux, clock, 15) == []
    assert kinds(pass_by(mux, clock, 3)) == ["error", "closing", "closed"]


def test_time_passes_for_a_peer_that_reads_nothing_and_is_not_read_from(mux, clock, stream):
    fh, _ = stream
    mux.send(fh, HUGE)
    mux.want_read(fh, False)
    assert kinds(pass_by(mux, clock, 18)) == ["error", "closing", "closed"]


def test_no_time_passes_while_a_body_is_not_asked_for(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh, idle_timeout=16, buffered=HTTP(header_only=True))
    peer.send(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
    assert kinds(drain(mux)) == ["ready", "read"]
    assert pass_by(mux, clock, 100) == []
    mux.recvdata(fh, 4)
    assert kinds(drain(mux)) == ["read"]
    assert kinds(pass_by(mux, clock, 18))[0] == "error"


def test_no_time_passes_while_another_handle_is_waited_for_alone(mux, clock, stream, pair):
    fh, peer = stream
    other, _ = pair()
    mux.add(other)
    drain(mux)
    peer.send(b"it is here, and cannot be seen")
    for _ in range(300):  # many events are queued, so that others are held
        mux.push_event(Closing(fh))
    assert mux.mux(100, only=other) == Timeout()
    events = drain(mux)
    assert kinds(events) == ["closing"] * 300 + ["read"]
    assert kinds(pass_by(mux, clock, 18))[0] == "error"


def test_connecting_has_a_time_of_its_own(mux, clock):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = "tcp://{}:{}".format(*full.getsockname())
        first = mux.connect(url, idle_timeout=16)
        second = mux.connect(url, idle_timeout=16)  # the queue has room for one, and one waits
        third = mux.connect(url, idle_timeout=16)
        up = {event.fh for event in drain(mux) if event.type == "ready"}
        waiting = {first, second, third} - up
        assert waiting
        quiet = {event.fh for event in pass_by(mux, clock, 100)}
        assert quiet == up


def test_it_begins_when_the_connection_is_up(mux, clock):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect("tcp://{}:{}".format(*server.getsockname()), idle_timeout=16)
        clock.advance(100)
        assert kinds(take(mux, 1)) == ["ready"]
        assert pass_by(mux, clock, 15) == []
        assert kinds(pass_by(mux, clock, 3)) == ["error", "closing", "closed"]
        assert fh not in mux.handles()


def test_what_is_closing_has_another_time(mux, clock, stream):
    fh, _ = stream
    mux.send(fh, HUGE)
    mux.close(fh)
    assert kinds(pass_by(mux, clock, 80)) == ["closing"]
    closed = pass_by(mux, clock, 20)[0]
    assert "90 seconds without progress" in closed.reason


def test_a_look_that_comes_late_counts_once(mux, clock, stream):
    fh, peer = stream
    clock.advance(1000)  # the program was busy, and nobody could see what came
    peer.send(b"x")
    assert kinds(drain(mux)) == ["read"]
    assert fh in mux.handles()
    clock.advance(1000)
    assert drain(mux) == []


# Handles of other kinds


def test_what_is_accepted_inherits_it(mux, clock):
    listener, fh, accepted = meet(mux, idle_timeout=16)
    assert {event.fh for event in pass_by(mux, clock, 18)} >= {accepted}
    assert listener in mux.handles()
    del fh


@pytest.mark.parametrize("options", [{}, {"receive_fds": 1}])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_packets_and_what_brings_more_than_data(mux, clock, pair, kind, options):
    fh, peer = pair(kind)
    mux.add(fh, idle_timeout=16, **options)
    drain(mux)
    for _ in range(3):
        assert pass_by(mux, clock, 15) == []
        peer.send(b"packet")
        assert kinds(drain(mux)) == ["read"]
        assert pass_by(mux, clock, 15) == []
        mux.send(fh, b"packet")
        assert kinds(drain(mux)) == ["sent"]
    error, closing, closed = pass_by(mux, clock, 18)
    assert isinstance(error.exception, IdleTimeout)
    assert closing.reason == closed.reason == error.error


@linux_only
def test_packets_with_their_destination(mux, clock, closing):
    fh = mux.listen("udp://127.0.0.1:0", destination=True, idle_timeout=16)
    peer = closing(socket.socket(type=socket.SOCK_DGRAM))
    for _ in range(3):
        assert pass_by(mux, clock, 15) == []
        peer.sendto(b"packet", fh.getsockname())
        assert kinds(drain(mux)) == ["read"]
    assert kinds(pass_by(mux, clock, 18)) == ["error", "closing", "closed"]


def test_pipes(mux, clock):
    for end in (0, 1):
        ends = os.pipe()
        mux.add(ends[end], idle_timeout=16)
        drain(mux)
        for _ in range(3):
            assert pass_by(mux, clock, 15) == []
            if end == 0:
                os.write(ends[1], b"x")
            else:
                mux.send(ends[1], b"x")
            drain(mux)
        assert kinds(pass_by(mux, clock, 18)) == ["error", "closing", "closed"]
        os.close(ends[1 - end])


@pytest.mark.parametrize("mode", ["manual_read", "manual_write"])
def test_what_the_program_reads_or_writes_itself_is_not_seen(mux, pair, mode):
    fh, _ = pair()
    with pytest.raises(ValueError, match=rf"has {mode}: use a timer, and its restart\(\)"):
        mux.add(fh, idle_timeout=16, **{mode: True})
    mux.add(fh, **{mode: True})
    with pytest.raises(ValueError, match=mode):
        mux.set(fh, idle_timeout=16)
    mux.set(fh, idle_timeout=None)


def test_another_mux_has_none(mux):
    with EventMux() as inner:
        with pytest.raises(ValueError, match="is a mux"):
            mux.add(inner, idle_timeout=16)
        mux.add(inner)
        with pytest.raises(ValueError, match="is a mux"):
            mux.set(inner, idle_timeout=16)


# Changing it


@pytest.mark.parametrize("before", [None, 16, 160])
def test_it_can_be_changed(mux, clock, pair, before):
    fh, peer = pair()
    mux.add(fh, idle_timeout=before)
    drain(mux)
    pass_by(mux, clock, 10)
    mux.set(fh, idle_timeout=32)
    assert pass_by(mux, clock, 31) == []
    assert kinds(pass_by(mux, clock, 5)) == ["error", "closing", "closed"]
    del peer


def test_it_can_be_taken_away(mux, clock, stream):
    fh, _ = stream
    mux.set(fh, idle_timeout=None)
    assert pass_by(mux, clock, 100) == []
    assert fh in mux.handles()
    mux.set(fh, idle_timeout=16)
    assert kinds(pass_by(mux, clock, 18)) == ["error", "closing", "closed"]


def test_a_listener_hands_on_another(mux, clock):
    listener = mux.listen("tcp://127.0.0.1:0")
    mux.set(listener, idle_timeout=16)
    fh = mux.connect("tcp://{}:{}".format(*listener.getsockname()))
    accepted = next(event.fh for event in take(mux, 2) if event.type == "connect")
    assert isinstance(pass_by(mux, clock, 18)[0].exception, IdleTimeout)
    assert accepted not in mux.handles()
    mux.set(listener, idle_timeout=None)
    del fh


def test_changing_the_buffer_leaves_it(mux, clock, stream):
    fh, _ = stream
    mux.set(fh, buffered=Split())
    assert kinds(pass_by(mux, clock, 18)) == ["error", "closing", "closed"]


def test_both_at_once(mux, clock, stream):
    fh, peer = stream
    mux.set(fh, buffered=Split(), idle_timeout=160)
    peer.send(b"one\ntwo\n")
    assert [event.data for event in drain(mux)] == [b"one", b"two"]
    assert pass_by(mux, clock, 100) == []


def test_nothing_to_change(mux, stream):
    with pytest.raises(TypeError, match="something to change"):
        mux.set(stream[0])
    with pytest.raises(KeyError, match="is not watched"):
        mux.set(stream[1], idle_timeout=5)


# Coming and going


@pytest.mark.parametrize("end", ["kill", "remove"])
def test_nothing_stays_of_a_handle_that_has_gone(mux, clock, stream, end):
    fh, _ = stream
    mux.set(fh, idle_timeout=17)
    getattr(mux, end)(fh)
    drain(mux)
    idling = mux._loop.table.idling
    assert all(not group.channels for group in idling.groups.values())
    assert not idling._own
    assert mux.mux(100) == Timeout()
    assert not idling.groups
    assert mux.timeout() is None


def test_a_handle_that_is_added_again_begins_anew(mux, clock, stream):
    fh, _ = stream
    pass_by(mux, clock, 15)
    mux.remove(fh)
    mux.add(fh, idle_timeout=16)
    assert kinds(pass_by(mux, clock, 15)) == ["ready"]
    assert kinds(pass_by(mux, clock, 3)) == ["error", "closing", "closed"]


def test_the_mux_does_not_wake_up_for_it_more_often_than_it_has_to(mux, clock, selector, stream):
    before = len(selector.timeouts)
    assert kinds([mux.mux()]) == ["error"]
    assert len(selector.timeouts) - before <= 18


def test_another_loop_is_told_when_to_come(mux, clock, stream):
    start = clock.now
    events = []
    while not events:
        seconds = mux.timeout()
        assert 0 < seconds <= 1
        clock.advance(seconds)
        events = drain(mux)
    assert 16 <= clock.now - start <= 16 * LATEST


def test_it_is_found_while_one_handle_alone_is_waited_for(mux, clock, stream, pair):
    fh, _ = stream
    other, _ = pair()
    mux.add(other)
    drain(mux)
    assert mux.mux(20, only=other) == Timeout()
    assert kinds(drain(mux)) == ["error", "closing", "closed"]
    assert fh not in mux.handles()


def test_it_is_found_for_the_handle_that_is_waited_for_alone(mux, stream):
    assert mux.mux(only=stream[0]).type == "error"


@pytest.mark.parametrize("pause", [0.02, 0.5])
def test_traffic_does_not_put_it_off(mux, clock, stream, pair, pause):
    fh, _ = stream
    busy, peer = pair()
    mux.add(busy)
    drain(mux)
    start = clock.now
    while fh in mux.handles():
        peer.send(b"x")
        event = mux.mux()
        clock.advance(pause)
        assert event.fh is busy or event.type != "read"
        assert clock.now - start <= 16 * LATEST + 17 * pause
    assert clock.now - start >= 16


def test_a_signal_handler_that_raises_costs_no_time(mux, clock, stream, monkeypatch):
    """What is interrupted is looked at the next time, and not twice."""
    fh, _ = stream
    group = mux._loop.table.idling.groups[16]
    look = type(group).look
    raising = [True]

    def interrupted(self):
        found = look(self)
        if raising.pop():
            raise KeyboardInterrupt
        raising.append(False)
        return found

    monkeypatch.setattr(type(group), "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mux.mux()
    raising.append(False)
    start = 1000
    assert kinds([mux.mux()]) == ["error"]
    assert 16 <= clock.now - start <= 16 * LATEST
    del fh


# The looks by themselves: any times, any activity


class Handle:
    """What `Idling` sees of a channel, and when something last moved."""

    def __init__(self, seconds, now, gone):
        self.options = SimpleNamespace(idle_timeout=seconds)
        self.quiet = self.muted = self.unsent = 0
        self.closing = False
        self.is_up = True
        self.seconds, self.since, self.gone = seconds, now, gone

    def fail(self, error):
        assert error.seconds == self.seconds
        self.closing = True
        self.gone.append(self)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0.001, 40)),
        st.tuples(st.just("turn"), st.floats(0, 2)),
        st.tuples(st.just("add"), st.sampled_from([1, 5, 16, 60.5])),
        st.tuples(st.just("move"), st.integers(0, 20)),
        st.tuples(st.just("change"), st.sampled_from([2, 16, None])),
        st.tuples(st.just("forget"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=300)
def test_nobody_is_found_before_his_time_and_everybody_soon_after(steps):
    clock = FakeClock()
    idling = Idling(clock, lambda channel: None)
    gone = []
    handles = []

    def check():
        for handle in gone:
            if handle in handles:
                handles.remove(handle)
                assert clock.now - handle.since >= handle.seconds - 1e-6
            idling.forget(handle)
        gone.clear()

    for what, value in steps:
        if what == "add":
            handles.append(Handle(value, clock.now, gone))
            idling.watch(handles[-1])
        elif what == "move" and handles:
            handle = handles[value % len(handles)]
            handle.quiet, handle.since = 0, clock.now
        elif what == "change" and handles:
            handles[0].seconds, handles[0].since = value or 1e9, clock.now
            idling.change(handles[0], value)
        elif what == "forget" and handles:
            idling.forget(handles.pop(value % len(handles)))
        elif what == "turn":  # something is ready
            clock.advance(value)
            if idling.groups:
                idling.turns_left -= 1
                if idling.turns_left <= 0:
                    idling.look()
        elif what == "wait":  # until nothing is, or for as long
            end = clock.now + value
            while clock.now < end:
                limit = end - clock.now
                if idling.groups:
                    limit = min(limit, idling.longest_wait)
                    idling.turns_left -= 1
                clock.advance(max(limit, 1e-6))
                if idling.groups:
                    idling.look()
                check()
        check()
    # And now nothing moves any more.
    since = clock.now
    while any(handle.seconds < 1e9 for handle in handles):
        clock.advance(max(idling.until_due(), 1e-6))
        idling.look()
        check()
        assert clock.now - since < 60.5 * LATEST + 1
    for handle in handles:
        idling.forget(handle)
    while idling.groups:
        clock.advance(max(idling.until_due(), 1e-6))
        idling.look()
    assert idling.until_due() is None
    assert not idling._own


def test_many_timeouts_of_one_handle_each():
    """Programs that add some jitter to each timeout have as many groups as handles."""
    clock = FakeClock()
    mux = EventMux(clock=clock, selector=ClockedSelector(clock, most_calls=100_000))
    with mux:
        ends = [socket.socketpair() for _ in range(200)]
        for number, (fh, _) in enumerate(ends):
            mux.add(fh, idle_timeout=10 + number / 100)
        start = clock.now
        errors = [event for event in mux if event.type == "error"]
        assert len(errors) == 200
        assert clock.now - start <= 12 * LATEST
        for _, peer in ends:
            peer.close()


def test_with_a_real_clock():
    with EventMux(selector=selectors.DefaultSelector()) as mux:
        fh, peer = socket.socketpair()
        with peer:
            mux.add(fh, idle_timeout=0.01)
            assert kinds(mux) == ["ready", "error", "closing", "closed"]


def test_the_timeout_is_kept_when_tls_begins(mux, clock, stream):
    fh, peer = stream
    mux.add(peer)
    mux.start_tls(fh, server_context(), server_side=True)
    mux.start_tls(peer, client_context(), server_hostname="localhost")
    ready = {event.fh for event in drain(mux) if event.type == "ready"}
    assert ready == {fh, peer}
    error = next(event for event in mux if event.type == "error")
    assert error.fh is fh
    assert isinstance(error.exception, IdleTimeout)
    assert error.exception.seconds == 16


@pytest.fixture
def secure(mux, pair):
    """A handle with TLS and a timeout of 16 seconds, and its peer."""
    fh, sock = pair()
    fh.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    mux.add(fh, idle_timeout=16, tls=server_context(), server_side=True)
    return fh, HandClient(mux, sock)


def test_records_that_go_put_it_off(mux, clock, secure):
    fh, _ = secure
    for _ in range(5):
        assert pass_by(mux, clock, 15) == []
        mux.send(fh, b"x")
        drain(mux)
    assert kinds(pass_by(mux, clock, 18))[:2] == ["error", "closing"]


def test_a_part_of_what_goes_as_records_puts_it_off(mux, clock, secure):
    """What was encrypted at once takes long to leave."""
    fh, peer = secure
    size = 100_000
    mux.send(fh, bytes(size))
    assert mux.buflen(fh) == size
    taken = 0
    while mux.buflen(fh):
        events = pass_by(mux, clock, 15)
        assert "error" not in kinds(events), f"with {taken} bytes read"
        taken += len(peer.take())
        drain(mux)
    assert taken + len(peer.take()) == size


def test_a_part_of_a_record_of_tls_puts_it_off(mux, clock, secure):
    _, peer = secure
    record = peer.say(b"hello")
    for at in range(5):
        peer.sock.send(record[at : at + 1])
        assert pass_by(mux, clock, 15) == []
    peer.sock.send(record[5:])
    assert kinds(pass_by(mux, clock, 15)) == ["read"]
    assert kinds(pass_by(mux, clock, 18))[:2] == ["error", "closing"]


def test_it_begins_when_the_handshake_is_through(mux, clock, pair):
    fh, sock = pair()
    mux.add(fh, idle_timeout=16, tls=server_context(), server_side=True, handshake_timeout=100)
    assert pass_by(mux, clock, 50) == []
    events = []
    HandClient(mux, sock, events)
    assert kinds(events) == ["ready"]
    assert pass_by(mux, clock, 15) == []
    assert kinds(pass_by(mux, clock, 3))[:2] == ["error", "closing"]
