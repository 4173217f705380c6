"""A mux in another mux, a mux in asyncio, and what `timeout()`, `fileno()` and `trace()` tell."""

import asyncio
import errno
import io
import logging
import os
import selectors
import socket

import pytest
from support.fakes import ClockedSelector
from support.pump import PATIENCE, drain, kinds, take

from eventmux import CanRead, Closed, Error, Event, EventMux, Read, Ready, Timeout, Timer
from eventmux.buffers import Split

needs_descriptor = pytest.mark.skipif(
    not hasattr(selectors.DefaultSelector, "fileno"), reason="the selector has no descriptor"
)


@pytest.fixture
def outer(mux):
    """A mux with each selector; what is in it is always of the default one."""
    return mux


@pytest.fixture
def inner():
    with EventMux() as inner:
        yield inner


@pytest.fixture
def timed_inner(clock):
    """A mux that goes into `timed`, on the same clock."""
    with EventMux(clock=clock) as inner:
        yield inner


# A mux in a mux


@needs_descriptor
def test_what_happens_in_the_inner_mux_wakes_the_outer(outer, inner, pair):
    fh, peer = pair()
    inner.add(fh)
    outer.add(inner)
    assert outer.mux(PATIENCE) == CanRead(inner)
    assert drain(inner) == [Ready(fh)]
    assert outer.mux(0) == Timeout()
    peer.send(b"hello")
    assert outer.mux() == CanRead(inner)
    assert inner.mux(0) == Read(fh, b"hello")
    assert outer.mux(0) == Timeout()


@needs_descriptor
def test_can_read_comes_as_long_as_the_inner_mux_has_something(outer, inner):
    outer.add(inner)
    inner.push_event(Event(), Event())
    for _ in range(2):
        assert outer.mux(PATIENCE) == CanRead(inner)
        assert outer.mux(PATIENCE) == CanRead(inner)
        assert inner.mux(0) == Event()
    assert drain(outer) == []


@needs_descriptor
def test_can_read_comes_once_in_a_turn(outer, inner, pair):
    # The program may wait in the inner mux for what it was told of, so once too often is a hang.
    fh, peer = pair()
    inner.add(fh)
    assert inner.mux(PATIENCE) == Ready(fh)
    outer.add(inner)
    peer.send(b"hello")
    inner.push_event(Event())
    assert outer.mux(PATIENCE) == CanRead(inner)
    assert outer.has_events() == 0


@needs_descriptor
def test_no_ready_and_no_can_write_comes_of_a_mux(outer, inner):
    outer.add(inner)
    assert drain(outer) == []
    assert outer.type(inner) == "stream"
    assert outer.class_(inner) == "other"


@needs_descriptor
def test_what_is_posted_to_the_inner_mux_wakes_the_outer(outer, inner):
    outer.add(inner)
    inner.post(Event())
    assert outer.mux(PATIENCE) == CanRead(inner)
    assert inner.mux(0) == Event()
    assert drain(outer) == []


@needs_descriptor
def test_a_timer_of_the_inner_mux_wakes_the_outer(timed, timed_inner, clock, selector):
    timed.add(timed_inner)
    timed_inner.timer(3, "inner")
    timed.timer(5, "outer")
    assert timed.mux() == CanRead(timed_inner)
    assert clock.now == 1003
    assert timed_inner.mux(0) == Timer(data="inner")
    assert timed.mux() == Timer(data="outer")
    assert clock.now == 1005
    assert len(selector.timeouts) < 10


@needs_descriptor
def test_a_timeout_of_the_outer_mux_comes_before_a_timer_of_the_inner(timed, timed_inner, clock):
    timed.add(timed_inner)
    timed_inner.timer(3)
    assert timed.mux(2) == Timeout()
    assert clock.now == 1002


@needs_descriptor
def test_output_that_was_put_off_in_the_inner_mux_wakes_the_outer(timed, timed_inner, pair):
    fh, peer = pair()
    timed_inner.add(fh)
    assert timed_inner.mux(PATIENCE) == Ready(fh)
    timed.add(timed_inner)
    timed_inner.send(fh, b"hello", later=True)
    assert timed.mux() == CanRead(timed_inner)
    assert timed_inner.mux(0).type == "timeout"
    assert peer.recv(10) == b"hello"
    assert timed.mux(1) == Timeout()


@needs_descriptor
def test_three_muxes_in_each_other(timed, timed_inner, clock):
    with EventMux(clock=clock) as middle:
        middle.add(timed_inner)
        timed.add(middle)
        timed_inner.timer(3)
        assert timed.mux() == CanRead(middle)
        assert clock.now == 1003
        assert middle.mux(0) == CanRead(timed_inner)
        assert timed_inner.mux(0) == Timer()
        assert timed.mux(1) == Timeout()


@needs_descriptor
def test_an_inner_mux_that_nobody_wants_to_hear_of(timed, timed_inner):
    timed.add(timed_inner)
    timed_inner.push_event(Event())
    timed.want_read(timed_inner, False)
    assert timed.mux(1) == Timeout()
    timed.want_read(timed_inner, True)
    assert timed.mux() == CanRead(timed_inner)


@needs_descriptor
def test_only_leaves_an_inner_mux_for_later(timed, timed_inner, pair, selector):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    timed.add(timed_inner)
    timed_inner.push_event(Event())
    selector.meanwhile.append((1, lambda: peer.send(b"x")))
    assert timed.mux(only=fh) == Read(fh, b"x")
    assert len(selector.timeouts) < 10
    assert timed.mux() == CanRead(timed_inner)


@needs_descriptor
def test_removing_an_inner_mux_leaves_it_alone(outer, inner):
    outer.add(inner)
    outer.remove(inner)
    assert outer.handles() == []
    inner.push_event(Event())
    assert outer.mux() is None
    assert inner.mux() == Event()
    outer.add(inner)
    inner.push_event(Event())
    assert outer.mux(PATIENCE) == CanRead(inner)


@needs_descriptor
@pytest.mark.parametrize("method", ["close", "kill"])
def test_closing_an_inner_mux_leaves_it_alone(outer, inner, pair, method):
    fh, peer = pair()
    inner.add(fh)
    outer.add(inner)
    getattr(outer, method)(inner)
    assert kinds(outer)[-1] == "closed"
    assert outer.handles() == []
    peer.send(b"hello")
    assert take(inner, 2) == [Ready(fh), Read(fh, b"hello")]


@needs_descriptor
def test_the_end_of_the_outer_mux_leaves_the_inner_alone(inner, pair):
    fh, peer = pair()
    inner.add(fh)
    with EventMux() as outer:
        outer.add(inner)
        assert outer.mux(PATIENCE) == CanRead(inner)
    peer.send(b"hello")
    assert take(inner, 2) == [Ready(fh), Read(fh, b"hello")]


@needs_descriptor
def test_an_inner_mux_that_has_ended_is_closed_in_the_outer(outer):
    with EventMux() as inner:
        outer.add(inner)
        assert outer.mux(0) == Timeout()
    events = take(outer, 3)
    assert kinds(events) == ["error", "closing", "closed"]
    assert isinstance(events[0], Error)
    assert outer.mux() is None


@needs_descriptor
def test_a_mux_cannot_be_in_itself(inner):
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        inner.add(inner)
    assert inner.handles() == []
    assert inner.mux() is None


@needs_descriptor
def test_an_inner_mux_again_after_it_was_killed(timed, timed_inner):
    for _ in range(2):
        timed.add(timed_inner)
        timed_inner.push_event(Event())
        assert timed.mux() == CanRead(timed_inner)
        timed.push_event(Event(timed_inner))
        timed.kill(timed_inner)
        timed.add(timed_inner)
        timed.remove(timed_inner)
        assert timed.mux() == Closed(timed_inner)
        assert timed.mux() is None
        timed_inner.mux(0)


# A mux in another loop


@needs_descriptor
def test_a_mux_in_asyncio(pair):
    fh, peer = pair()
    seen = []

    async def main():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        alarm = None

        def turn():
            nonlocal alarm
            while not isinstance(event := mux.mux(0), Timeout):
                seen.append(event)
                if event == Ready(fh):
                    peer.send(b"hello")
                elif event == Read(fh, b"hello"):
                    mux.timer(0.01, "soon")
                elif event == Timer(data="soon"):
                    done.set_result(None)
            if alarm is not None:
                alarm.cancel()
            wait = mux.timeout()
            alarm = None if wait is None else loop.call_later(wait, turn)

        loop.add_reader(mux.fileno(), turn)
        try:
            await asyncio.wait_for(done, PATIENCE)
        finally:
            loop.remove_reader(mux.fileno())

    with EventMux() as mux:
        mux.add(fh)
        asyncio.run(main())
    assert seen == [Ready(fh), Read(fh, b"hello"), Timer(data="soon")]


# fileno() and timeout()


@needs_descriptor
def test_the_descriptor_is_that_of_the_selector():
    with selectors.DefaultSelector() as selector, EventMux(selector=selector) as mux:
        assert mux.fileno() == selector.fileno()


@pytest.mark.parametrize("kind", [selectors.SelectSelector, selectors.PollSelector])
def test_some_selectors_have_no_descriptor(outer, kind):
    with EventMux(selector=kind()) as mux:
        with pytest.raises(io.UnsupportedOperation, match=kind.__name__):
            mux.fileno()
        with pytest.raises(io.UnsupportedOperation, match=kind.__name__):
            outer.add(mux)
        assert outer.handles() == []


def test_there_is_no_need_to_call_an_empty_mux(mux):
    assert mux.timeout() is None


def test_handles_are_told_of_by_the_descriptor(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    assert mux.timeout() is None
    peer.send(b"hello")
    assert mux.timeout() is None


def test_what_is_queued_is_there_at_once(mux):
    mux.push_event(Event())
    assert mux.timeout() == 0
    mux.mux()
    assert mux.timeout() is None


def test_what_was_posted_is_there_at_once(mux):
    mux.post(Event())
    assert mux.timeout() == 0
    mux.mux()
    assert mux.timeout() is None


def test_what_was_put_off_is_to_be_sent_at_once(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.send(fh, b"hello", later=True)
    assert mux.timeout() == 0
    assert mux.mux(0).type == "timeout"
    assert mux.timeout() is None


def test_the_next_timer_is_due_in(timed, clock):
    timed.timer(5)
    first = timed.timer(2)
    assert timed.timeout() == 2
    clock.advance(0.5)
    assert timed.timeout() == 1.5
    clock.advance(10)
    assert timed.timeout() == 0
    first.cancel()
    assert timed.timeout() == 0
    assert timed.mux() == Timer()
    assert timed.timeout() is None


@pytest.mark.skipif(os.name == "nt", reason="files cannot be watched")
def test_a_file_is_always_ready(mux, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    with path.open("rb") as file:
        mux.add(file)
        if type(mux._poller._selector) is selectors.DefaultSelector:  # the others can wait for it
            assert mux.timeout() == 0
        assert [event.type for event in mux] == ["read", "closing", "closed"]
        assert mux.timeout() is None


@needs_descriptor
def test_the_timeout_of_an_inner_mux_counts(timed, timed_inner, clock):
    timed.add(timed_inner)
    assert timed.timeout() is None
    timed.timer(5)
    timed_inner.timer(2)
    assert timed.timeout() == 2
    timed_inner.push_event(Event())
    assert timed.timeout() == 0


def test_asking_for_the_timeout_changes_nothing(timed, clock, pair, selector):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    timed.timer(1, "due")
    timed.timer(0.5).cancel()
    timed.send(fh, b"hello", later=True)
    timed.push_event(Event())
    clock.advance(2)
    del selector.timeouts[:]
    for _ in range(5):
        assert timed.timeout() == 0
    assert selector.timeouts == []
    assert timed.has_events() == 1
    assert timed.buflen(fh) == 5
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(10)
    assert kinds(drain(timed)) == ["timer", ""]


# trace()


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, "mux-test")

    def lines():
        return [record.getMessage() for record in caplog.records if record.name == "mux-test"]

    return lines


def test_trace_logs_what_is_sent_and_handed_out(mux, pair, log):
    fh, peer = pair()
    mux.trace(logging.getLogger("mux-test"))
    mux.add(fh, buffered=Split())
    fd = fh.fileno()
    mux.mux(PATIENCE)
    mux.send(fh, b"hello", b"x" * 100)
    mux.mux(PATIENCE)
    assert len(peer.recv(1000)) == 105  # else its end would be a reset
    peer.send(b"hello\n" + b"y" * 100)
    peer.close()
    assert kinds(mux) == ["read", "read", "closing", "closed"]
    mux.timer(0)
    mux.mux()
    assert mux.mux(0) == Timeout()
    assert log() == [
        f"fd {fd} : ready",
        f"fd {fd} > b'hello'",
        f"fd {fd} > {b'x' * 60!r} and 40 more",
        f"fd {fd} : sent",
        f"fd {fd} < read b'hello'",
        f"fd {fd} < read {b'y' * 60!r} and 40 more",
        f"fd {fd} : closing",
        f"fd {fd} : closed",
        "mux : timer",
    ]


def test_trace_can_be_stopped(mux, log):
    mux.trace(logging.getLogger("mux-test"))
    mux.push_event(Event(), Event())
    mux.mux()
    mux.trace(None)
    mux.mux()
    assert len(log()) == 1


def test_trace_logs_packets_and_where_they_go(mux, log):
    mux.trace(logging.getLogger("mux-test"))
    fh = mux.listen("udp://127.0.0.1:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        mux.sendto(fh, peer.getsockname(), b"packet", bytearray(b"other"))
    assert log()[:2] == [f"fd {fh.fileno()} > b'packet'", f"fd {fh.fileno()} > b'other'"]


def test_trace_logs_nothing_at_other_levels(mux, caplog):
    caplog.set_level(logging.INFO, "mux-test")
    mux.trace(logging.getLogger("mux-test"))
    mux.push_event(Event())
    mux.mux()
    assert caplog.records == []


def test_the_fake_selector_waits_for_an_inner_mux(clock, inner):
    # What the tests above rely on: it sees what is in a real mux.
    selector = ClockedSelector(clock)
    with EventMux(selector=selector, clock=clock, spin=0) as mux:
        mux.add(inner)
        selector.meanwhile.append((1, lambda: inner.post(Event())))
        assert mux.mux() == CanRead(inner)
        assert clock.now == 1001
