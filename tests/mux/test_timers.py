"""Timers: the heap by itself, and the mux on a fake clock."""

import math
import signal
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import ClockedSelector, FakeClock
from support.pump import PATIENCE, drain, kinds, take

from eventmux import Event, EventMux, Read, Ready, Timeout, Timer
from eventmux._watching.timers import Timers
from eventmux.buffers import Split

# The heap


def no_action():
    pass


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 200)),
        st.tuples(st.just("run"), st.integers(0, 50)),
    ),
    max_size=200,
)


@given(STEPS)
def test_what_is_due_is_done_in_order_whatever_came_before(steps):
    timers = Timers()
    done, entries, waiting = [], [], {}
    for step, number in steps:
        if step == "add":
            index = len(entries)
            entries.append(timers.add(number, lambda index=index: done.append(index)))
            waiting[index] = number
        elif step == "cancel" and entries:
            timers.cancel(entries[number % len(entries)])
            waiting.pop(number % len(entries), None)
        elif step == "run":
            del done[:]
            due = sorted((at, index) for index, at in waiting.items() if at <= number)
            timers.run(number)
            assert done == [index for _, index in due]
            for index in done:
                del waiting[index]
        assert len(timers) == len(waiting)
        assert timers.next_due() == (min(waiting.values()) if waiting else None)


@pytest.mark.slow
@given(st.lists(st.integers(0, 1000), max_size=100), st.randoms())
def test_the_heap_does_not_grow_with_what_was_cancelled(lasting, random):
    timers = Timers()
    for due in lasting:
        timers.add(due, no_action)
    for _ in range(1000):
        timers.cancel(timers.add(random.randrange(1000), no_action))
        assert len(timers.heap) <= 2 * len(lasting) + 200
    assert len(timers) == len(lasting)


def test_what_was_done_cannot_be_cancelled():
    timers = Timers()
    entry = timers.add(1, no_action)
    timers.add(2, no_action)
    timers.run(1)
    timers.cancel(entry)
    assert len(timers) == 1


def test_an_action_may_add_and_cancel():
    timers = Timers()
    done = []

    def first():
        done.append("first")
        timers.add(1, lambda: done.append("at once"))
        timers.cancel(second)

    timers.add(1, first)
    second = timers.add(1, lambda: done.append("second"))
    timers.run(1)
    assert done == ["first", "at once"]
    assert len(timers) == 0


def test_what_was_cleared_can_be_cancelled_and_run_no_more():
    timers = Timers()
    done = []
    entry = timers.add(1, lambda: done.append(1))
    timers.clear()
    timers.cancel(entry)
    assert len(timers) == 0
    timers.run(5)
    assert done == []
    assert timers.next_due() is None


# One timer


def test_a_timer_comes_when_it_is_due(timed, clock):
    timed.timer(2.5, "tea")
    assert timed.mux() == Timer(data="tea")
    assert clock.now == 1002.5
    assert timed.mux() is None


def test_a_timer_has_no_handle_and_no_data_unless_given(timed):
    timed.timer(0)
    event = timed.mux()
    assert event.type == "timer"
    assert event.fh is None
    assert event.data is None


def test_timers_come_in_the_order_in_which_they_are_due(timed, clock):
    for seconds in (3, 1, 2, 1):
        timed.timer(seconds, (seconds, clock.now))
        clock.advance(0.25)
    times = [(event.data[0], clock.now) for event in timed]
    assert times == [(1, 1001.25), (1, 1001.75), (2, 1002.5), (3, 1003)]


def test_timers_due_at_once_come_in_the_order_in_which_they_were_made(timed):
    for number in range(10):
        timed.timer(1, number)
    assert [event.data for event in timed] == list(range(10))


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("repeat", [False, True])
def test_a_time_that_cannot_be_is_refused(timed, seconds, repeat):
    with pytest.raises(ValueError, match=f"seconds is {seconds!r}"):
        timed.timer(seconds, repeat=repeat)
    assert timed.mux() is None


def test_a_timer_cannot_repeat_without_a_pause(timed):
    with pytest.raises(ValueError, match="must be more than 0"):
        timed.timer(0, repeat=True)
    assert timed.mux() is None


# Timers that repeat


def test_a_timer_that_repeats_comes_every_so_often(timed, clock):
    timed.timer(0.5, "tick", repeat=True)
    for number in range(1, 6):
        assert timed.mux() == Timer(data="tick")
        assert clock.now == 1000 + number / 2


def test_a_slow_program_does_not_move_the_beat(timed, clock):
    timed.timer(1, repeat=True)
    for due in (1001, 1002, 1003):
        timed.mux()
        assert clock.now == due
        clock.advance(0.75)


def test_what_the_program_was_too_busy_for_is_left_out(timed, clock):
    timed.timer(1, "tick", repeat=True)
    clock.advance(5.5)
    assert timed.mux(0) == Timer(data="tick")
    assert timed.mux(0) == Timeout()
    assert timed.mux() == Timer(data="tick")
    assert clock.now == 1006


def test_a_timer_that_nobody_takes_is_queued_once(timed, clock, pair):
    fh, _ = pair()
    timed.add(fh)
    timed.mux()
    timed.timer(1, repeat=True)
    assert timed.mux(100.5, only=fh) == Timeout()
    assert timed.has_events() == 1
    assert timed.mux(0) == Timer()
    assert timed.mux(0) == Timeout()
    assert timed.mux() == Timer()
    assert clock.now == 1101


@pytest.mark.parametrize("seconds", [1e-20, 5e-324])
def test_a_beat_that_is_too_fast_for_the_clock_does_not_stop_the_mux(timed, clock, seconds):
    timed.timer(seconds, repeat=True)
    for _ in range(3):
        clock.advance(1)
        assert timed.mux(0) == Timer()


# Cancelling


def test_cancel_before_it_is_due(timed, clock):
    watch = timed.timer(1)
    watch.cancel()
    assert timed.mux() is None
    assert timed.mux(5) == Timeout()
    assert clock.now == 1005


def test_cancel_while_it_is_queued(timed, clock):
    first = timed.timer(1, "first")
    second = timed.timer(1, "second")
    assert timed.mux() == Timer(data="first")
    assert timed.has_events() == 1
    second.cancel()
    assert timed.has_events() == 0
    assert timed.mux() is None
    first.cancel()


def test_cancel_drops_its_own_event_and_no_equal_one(timed):
    watches = [timed.timer(1) for _ in range(3)]
    own = Timer()
    timed.push_event(own)
    watches[1].cancel()
    events = list(timed)
    assert events == [Timer()] * 3
    assert any(event is own for event in events)


def test_cancel_after_it_has_come_does_nothing(timed):
    watch = timed.timer(1, "first")
    timed.timer(2, "second")
    timed.mux()
    watch.cancel()
    assert timed.mux() == Timer(data="second")


@pytest.mark.parametrize("repeat", [False, True])
def test_cancel_twice_is_once(timed, repeat):
    watch = timed.timer(1, repeat=repeat)
    timed.timer(2, "other")
    watch.cancel()
    watch.cancel()
    assert list(timed) == [Timer(data="other")]


def test_cancel_ends_the_repetition(timed):
    watch = timed.timer(1, repeat=True)
    assert take(timed, 3) == [Timer()] * 3
    watch.cancel()
    assert timed.mux() is None


def test_cancel_of_a_repeating_one_that_is_queued(timed):
    timed.timer(1, "other")
    watch = timed.timer(1, repeat=True)
    assert timed.mux() == Timer(data="other")
    assert timed.has_events() == 1
    watch.cancel()
    assert timed.mux() is None


def test_cancel_after_the_mux_has_ended_does_nothing():
    with EventMux() as mux:
        watch = mux.timer(1)
    watch.cancel()
    assert mux.mux() is None


# Starting anew


def test_restart_counts_from_now(timed, clock):
    watch = timed.timer(10, "quiet")
    for _ in range(5):
        clock.advance(9)
        assert timed.mux(0) == Timeout()
        watch.restart()
    assert timed.mux() == Timer(data="quiet")
    assert clock.now == 1055
    assert timed.mux() is None


def test_restart_moves_the_beat(timed, clock):
    watch = timed.timer(10, repeat=True)
    clock.advance(9)
    watch.restart()
    due = []
    for _ in range(3):
        timed.mux()
        due.append(clock.now)
    assert due == [1019, 1029, 1039]


@pytest.mark.parametrize("repeat", [False, True])
def test_restart_drops_what_is_queued(timed, clock, repeat):
    timed.timer(1, "other")
    watch = timed.timer(1, "quiet", repeat=repeat)
    assert timed.mux() == Timer(data="other")
    assert timed.has_events() == 1
    watch.restart()
    assert timed.has_events() == 0
    assert timed.mux(0.5) == Timeout()
    assert timed.mux() == Timer(data="quiet")
    assert clock.now == 1002


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("repeat", [False, True])
def test_restart_of_one_that_is_over(timed, clock, cancelled, repeat):
    watch = timed.timer(1, "again", repeat=repeat)
    assert timed.mux() == Timer(data="again")
    if cancelled:
        watch.cancel()
    clock.advance(0.5)
    watch.restart()
    assert timed.mux() == Timer(data="again")
    assert clock.now == 1002.5
    watch.cancel()
    assert timed.mux() is None


def test_restart_of_one_that_was_cancelled_before_it_was_due(timed, clock):
    watch = timed.timer(1)
    watch.cancel()
    watch.restart()
    watch.restart()
    assert timed.mux() == Timer()
    assert timed.mux() is None


def test_cancel_after_restart(timed):
    watch = timed.timer(1)
    watch.restart()
    watch.cancel()
    assert timed.mux() is None
    assert timed.mux(5) == Timeout()


def test_the_heap_does_not_grow_with_restarts(timed, clock):
    watches = [timed.timer(10, number) for number in range(10)]
    for number in range(10_000):
        watches[number % 10].restart()
        clock.advance(0.001)
        if number % 100 == 0:
            timed.mux(0)
    assert len(timed._timers.heap) == 10
    timed.mux(9.9)
    assert len(timed._timers.heap) == 10
    assert [timed.mux(1).data for _ in watches] == list(range(10))


def test_restart_wakes_the_mux_once_in_a_period(timed, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    watch = timed.timer(10)
    before = len(selector.timeouts)
    for _ in range(100):
        selector.meanwhile.append((1, lambda: peer.send(b"x")))
        assert timed.mux().type == "read"
        watch.restart()
    assert len(selector.timeouts) - before <= 100 + 100 / 10 + 1


def test_restart_of_a_timer_at_once_lets_others_have_their_turn(timed, pair):
    """As with `timer(0)` that is set again and again."""
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    watch = timed.timer(0)
    peer.send(b"x")
    for _ in range(10):
        event = timed.mux()
        if event.type == "read":
            return
        watch.restart()
    pytest.fail("the timer keeps the loop to itself")


@given(st.lists(st.tuples(st.sampled_from(["restart", "cancel", "wait"]), st.floats(0, 3))))
def test_a_timer_that_is_restarted_is_due_when_a_new_one_would_be(steps):
    clock = FakeClock()
    with EventMux(clock=clock, selector=ClockedSelector(clock)) as mux:
        watch = mux.timer(2)
        due = 1002.0
        for what, seconds in steps:
            if what == "restart":
                watch.restart()
                due = clock.now + 2
            elif what == "cancel":
                watch.cancel()
                due = math.inf
            else:
                end = clock.now + seconds
                event = mux.mux(seconds)
                assert (event == Timer()) == (due <= end)
                assert clock.now == min(due, end)
                due = math.inf if event == Timer() else due


def test_restart_is_for_timers(timed):
    with pytest.raises(TypeError, match="for timers"):
        timed.signal(signal.SIGUSR1).restart()


def test_restart_after_the_mux_has_ended():
    with EventMux() as mux:
        watch = mux.timer(1)
    with pytest.raises(RuntimeError, match="closed"):
        watch.restart()


# Timers and the rest


def test_a_pending_timer_is_something_to_wait_for(timed, selector):
    timed.timer(1000)
    assert timed.mux() == Timer()
    assert len(selector.timeouts) <= 2


def test_the_lowest_of_timers_and_timeouts_counts(timed, clock):
    timed.timer(2)
    assert timed.mux(None, 1, 5) == Timeout()
    assert clock.now == 1001
    assert timed.mux(5) == Timer()
    assert clock.now == 1002
    assert timed.mux(1) == Timeout()


def test_a_timer_comes_before_a_timeout_of_the_same_moment(timed):
    timed.timer(1)
    assert timed.mux(1) == Timer()
    assert timed.mux(0) == Timeout()


def test_waiting_for_timers_is_not_a_busy_loop(timed, clock, selector, pair):
    timed.add(pair()[0])
    timed.mux()
    for seconds in (10, 20, 30):
        timed.timer(seconds)
    timed.timer(15).cancel()
    del selector.timeouts[:]
    assert kinds([timed.mux(60) for _ in range(4)]) == ["timer", "timer", "timer", "timeout"]
    assert clock.now == 1090
    assert len(selector.timeouts) <= 8  # twice each: it looks after closed handles in between


def test_a_timer_that_is_due_is_found_without_waiting(timed, selector, clock):
    timed.timer(1)
    clock.advance(1)
    assert timed.mux() == Timer()
    assert selector.timeouts == []


def test_a_timer_far_off_is_no_trouble_for_the_selector(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.timer(1e12)
    peer.send(b"hello")
    assert take(mux, 2) == [Ready(fh), Read(fh, b"hello")]


def test_a_real_timer(mux):
    mux.timer(0.001, "soon")
    assert mux.mux(PATIENCE) == Timer(data="soon")


def test_traffic_does_not_put_a_timer_off(timed, clock, pair):
    fh, peer = pair()
    timed.add(fh, buffered=Split())
    timed.mux()
    peer.sendall(b"x\n" * 5000)
    timed.timer(1, "on time")
    assert timed.mux() == Read(fh, b"x")
    assert timed.has_events() > 1000
    clock.advance(1)
    assert timed.mux() == Timer(data="on time")
    assert timed.mux() == Read(fh, b"x")


def test_own_events_do_not_put_a_timer_off(timed, clock):
    timed.push_event(Event(), Event())
    timed.timer(1)
    clock.advance(1)
    assert list(timed) == [Timer(), Event(), Event()]


def test_a_timer_in_the_middle_of_a_wait_for_half_records(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh, buffered=Split())
    timed.mux()
    timed.timer(2)
    selector.meanwhile.extend([(0.75, lambda: peer.send(b"x"))] * 10)
    assert timed.mux(9) == Timer()
    assert clock.now == 1002


def test_only_leaves_timers_for_later(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    timed.timer(1, "due")
    selector.meanwhile.append((5, lambda: peer.send(b"x")))
    assert timed.mux(only=fh) == Read(fh, b"x")
    assert clock.now > 1001
    assert timed.mux() == Timer(data="due")
    assert len(selector.timeouts) < 10


def test_a_timer_does_not_end_the_wait_for_one_handle(timed, clock, pair):
    fh, _ = pair()
    timed.add(fh)
    timed.mux()
    timed.timer(1)
    assert timed.mux(3, only=fh) == Timeout()
    assert clock.now == 1003


def test_the_end_of_the_mux_is_the_end_of_its_timers():
    with EventMux() as mux:
        mux.timer(0)
        mux.timer(0)
        mux.mux()
    assert mux.has_events() == 0
    assert mux.mux() is None


def test_no_timer_is_left_of_a_connection_that_is_up(timed, clock):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = timed.connect("tcp://{}:{}".format(*server.getsockname()), timeout=5)
        assert timed.mux() == Ready(fh)
        clock.advance(10)
        assert drain(timed) == []
        assert timed.handles() == [fh]
