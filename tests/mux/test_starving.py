"""What the program does with an event may bring the next: even so the handles have their turn."""

import contextlib
import os
import socket

import pytest
from support.fakes import ClockedSelector, FakeClock
from support.pump import SELECTORS_IN_TURN, drain, take

from eventmux import CanRead, Event, EventMux, Read, Sent, Timeout, Timer
from eventmux.buffers import Split

pytestmark = pytest.mark.skipif(os.name == "nt", reason="socket pairs and selectors as of POSIX")

SLOW = 0.025  # seconds that a handler of the program's takes
MANY = 300  # events without a look at the handles are too many


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=SELECTORS_IN_TURN, ids=lambda kind: kind.__name__)
def mux(request, clock):
    selector = ClockedSelector(clock, selector=request.param(), most_calls=100_000)
    with EventMux(selector=selector, clock=clock, spin=0) as mux:
        yield mux


@pytest.fixture
def up(mux, pair):
    """Handles that are up, and something to read from each."""
    pairs = [pair() for _ in range(5)]
    for fh, _ in pairs:
        mux.add(fh)
    drain(mux)
    for _, peer in pairs:
        peer.send(b"hello")
    return [Read(fh, b"hello") for fh, _ in pairs]


def events_until(mux, awaited, handle, most=MANY):
    """Handle each event until all that is awaited has come; return how many came before that."""
    awaited = list(awaited)
    for number in range(most):
        event = mux.mux()
        if event in awaited:
            awaited.remove(event)
            if not awaited:
                return number
        else:
            handle(event)
    pytest.fail(f"{len(awaited)} did not come")


# Timers


@pytest.mark.parametrize("count", [1, 3])
def test_a_timer_that_repeats_and_takes_longer_than_its_interval(mux, clock, up, count):
    for _ in range(count):
        mux.timer(0.02, repeat=True)
    assert events_until(mux, up, lambda event: clock.advance(SLOW)) < 2 * count + 5


@pytest.mark.parametrize("seconds", [0, 0.001, 0.02])
@pytest.mark.parametrize("count", [1, 3])
def test_a_timer_that_is_set_again_from_its_own_event(mux, clock, up, seconds, count):
    def handle(event):
        clock.advance(SLOW)
        mux.timer(seconds)

    for _ in range(count):
        mux.timer(0)
    assert events_until(mux, up, handle) < 2 * count + 5


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_a_timer_that_is_set_before_what_takes_long(mux, clock, up, seconds):
    def handle(event):
        clock.advance(0.000001)
        mux.timer(seconds)
        clock.advance(SLOW)

    mux.timer(0)
    assert events_until(mux, up, handle) < 7


def test_no_more_than_one_round_before_the_others(mux, clock, up):
    # Three timers, each of which sets two more: the round does not grow.
    def handle(event):
        mux.timer(0)
        mux.timer(0)

    for _ in range(3):
        mux.timer(0)
    assert events_until(mux, up, handle) <= 3 + 6 + 5


def test_what_a_look_brings_comes_before_the_next_round(mux, clock, up):
    mux.timer(0.02, repeat=True)
    clock.advance(SLOW)
    kinds = []
    for _ in range(7):
        kinds.append(mux.mux().type)
        clock.advance(SLOW)
    assert kinds == ["timer", *["read"] * 5, "timer"]


def test_traffic_does_not_put_late_timers_off_for_long(mux, clock, pair):
    # Two that are late are not to starve either.
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    drain(mux)
    mux.timer(0.02, repeat=True)
    timers = reads = 0
    for _ in range(400):
        with contextlib.suppress(BlockingIOError):
            peer.send(b"x\n" * 3, socket.MSG_DONTWAIT)
        event = mux.mux()
        clock.advance(SLOW)
        timers += event == Timer()
        reads += isinstance(event, Read)
    assert timers >= 400 // 65 - 1
    assert reads >= 300


def test_a_timer_on_time_comes_first_though_another_was_late(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    drain(mux)
    peer.send(b"x\n" * 1000)
    mux.timer(0)
    assert mux.mux() == Timer()
    clock.advance(SLOW)
    for _ in range(20):
        assert mux.mux().type == "read"
        mux.timer(0.01, "on time")
        clock.advance(0.01)
        assert mux.mux() == Timer(data="on time")


def test_timers_alone_come_one_after_the_other(mux, clock):
    watch = mux.timer(0.02, repeat=True)
    for _ in range(10):
        assert mux.mux() == Timer()
        clock.advance(SLOW)
    watch.cancel()
    assert mux.mux() is None


def test_waiting_for_one_handle_alone_while_timers_are_late(mux, clock, pair):
    fh, peer = pair()
    mux.add(fh)
    drain(mux)
    mux.timer(0)
    mux.timer(0.02, repeat=True)
    clock.advance(1)
    calls = len(mux._poller._selector.timeouts)
    assert mux.mux(1, only=fh) == Timeout()
    assert len(mux._poller._selector.timeouts) - calls < 60  # no busy loop
    peer.send(b"x")
    assert mux.mux(only=fh) == Read(fh, b"x")


# Events of the program's own


@pytest.mark.parametrize("method", ["push_event", "post"])
@pytest.mark.parametrize("count", [1, 3])
def test_events_of_the_programs_own_that_push_themselves(mux, up, method, count):
    push = getattr(mux, method)
    push(*[Event()] * count)
    assert events_until(mux, up, push) <= 3 * count + 5


def test_what_is_behind_a_pushed_event_comes_though_a_handle_is_lost(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    mux.push_event(Event())
    other, _ = pair()
    mux.add(other)
    mux.close(other)
    fh.close()  # without telling, and before the look that is behind the pushed event
    seen = []
    while mux.has_events():
        seen.append(mux.mux(0).type)
    assert "timeout" not in seen
    assert seen.count("closed") == 2


def test_push_event_and_a_late_timer_together(mux, clock, up):
    def handle(event):
        clock.advance(SLOW)
        if event == Event():
            mux.push_event(Event())

    mux.push_event(Event())
    mux.timer(0.02, repeat=True)
    assert events_until(mux, up, handle) < 30


def test_they_do_not_put_a_late_timer_off(mux, clock):
    def handle(event):
        clock.advance(SLOW)
        mux.push_event(Event())

    mux.push_event(Event())
    mux.timer(0.02, "late", repeat=True)
    for _ in range(5):
        events_until(mux, [Timer(data="late")], handle, 5)


def test_they_do_not_keep_what_other_threads_post(mux):
    class Posted(Event):
        pass

    mux.push_event(Event())
    mux.post(Posted())
    assert events_until(mux, [Posted()], mux.push_event) < 5


def test_they_do_not_keep_an_inner_mux(mux):
    with EventMux() as inner:
        mux.add(inner)
        inner.push_event(Event())
        mux.push_event(Event())
        assert events_until(mux, [CanRead(inner)], mux.push_event) < 5


def test_events_of_one_handle_alone(mux, pair, up):
    fh = up[0].fh
    mux.push_event(Event(fh))
    for _ in range(5):
        event = mux.mux(only=fh)
        if event == up[0]:
            break
        mux.push_event(event)
    else:
        pytest.fail("what there was to read did not come")
    assert mux.mux() in up[1:]


def test_order_is_kept(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    drain(mux)
    mux.push_event(Event(), Event(1))
    peer.send(b"x")
    mux.push_event(Event(2))
    assert take(mux, 4) == [Event(), Event(1), Event(2), Read(fh, b"x")]


def test_what_is_pushed_at_the_end_is_the_end(mux):
    mux.push_event(Event(1))
    assert mux.mux() == Event(1)
    mux.push_event(Event(2))
    assert mux.mux() == Event(2)
    assert mux.mux() is None
    assert mux.has_events() == 0
    mux.push_event(Event(3))
    assert mux.has_events() == 1
    assert mux.timeout() == 0
    assert list(mux) == [Event(3)]


# What is sent


class Drain(socket.socket):
    """A socket that takes all at once."""

    def send(self, data, flags=0):
        return len(data)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_each_sent_is_a_reason_to_send_more(mux, up, kind):
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    with two, Drain(fileno=one.detach()) as out:
        mux.add(out)

        def handle(event):
            if event == Sent(out):
                mux.send(out, b"x")

        mux.send(out, b"x")
        assert events_until(mux, up, handle) < 60
        mux.post(Event())
        assert events_until(mux, [Event()], handle) < 60


def test_a_file_that_is_written_piece_by_piece(mux, up):
    with open(os.devnull, "wb", buffering=0) as out:
        mux.add(out)

        def handle(event):
            if event in (Sent(out),):
                mux.send(out, b"x" * 1000)

        mux.send(out, b"x")
        assert events_until(mux, up, handle) < 60
        mux.remove(out)


def test_a_connection_that_is_made_again_whenever_it_is_refused(mux, up, tmp_path):
    url = f"unix://{tmp_path}/nobody"

    def handle(event):
        if event.type == "closed":
            mux.connect(url)

    mux.connect(url)
    assert events_until(mux, up, handle) < 60


# A deadline is not put off


def test_a_deadline_though_timers_are_always_late(mux, clock):
    mux.timer(0.02, repeat=True)
    for _ in range(10):
        assert mux.mux(0) in (Timer(), Timeout())
        clock.advance(SLOW)
    start = clock.now
    assert mux.mux(0) == Timer()
    assert clock.now == start
