"""Signals: real ones, sent to this process."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
from support.processes import handling
from support.pump import PATIENCE, drain

from eventmux import Event, EventMux, Read, Ready, Signal, Timeout

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2
WATCHED = (USR1, USR2, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


@pytest.fixture(autouse=True)
def handlers():
    """The handlers of before; each test must leave them as they were."""
    before = {signum: signal.getsignal(signum) for signum in WATCHED}
    yield before
    after = {signum: signal.getsignal(signum) for signum in WATCHED}
    for signum, handler in before.items():
        signal.signal(signum, handler)
    assert after == before


def send(*signums):
    for signum in signums:
        os.kill(os.getpid(), signum)


def in_a_thread(action):
    """Run something in a thread; return what it raised."""
    raised = []

    def run():
        try:
            action()
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


# The event


def test_a_signal_is_an_event(mux):
    mux.signal(USR1)
    send(USR1)
    event = mux.mux(PATIENCE)
    assert event == Signal(signum=USR1, count=1)
    assert event.type == "signal"
    assert event.fh is None
    assert mux.mux(0) == Timeout()


def test_signals_are_counted_until_they_are_handed_out(mux):
    mux.signal(USR1)
    send(USR1, USR1, USR1)
    assert mux.mux(PATIENCE) == Signal(signum=USR1, count=3)
    send(USR1)
    assert mux.mux(PATIENCE) == Signal(signum=USR1, count=1)
    assert mux.mux(0) == Timeout()


def test_signals_that_come_while_one_is_queued_are_counted_with_it(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.signal(USR1)
    for _ in range(3):
        send(USR1, USR1)
        assert mux.mux(0, only=fh) == Timeout()
    assert mux.has_events() == 1
    assert mux.mux(PATIENCE) == Signal(signum=USR1, count=6)
    assert mux.mux(0) == Timeout()


def test_several_signals_in_one_watch(mux):
    mux.signal(USR1, USR2)
    send(USR2, USR1, USR2)
    events = drain(mux)
    assert sorted((event.signum, event.count) for event in events) == [(USR1, 1), (USR2, 2)]


def test_a_signal_that_is_watched_twice_is_one_event(mux):
    mux.signal(USR1)
    mux.signal(USR1, USR1)
    send(USR1)
    assert drain(mux) == [Signal(signum=USR1)]


def test_a_watched_signal_is_something_to_wait_for(mux):
    watch = mux.signal(USR1)
    mux.push_event(Event())
    assert mux.mux() == Event()
    send(USR1)
    assert mux.mux() == Signal(signum=USR1)
    watch.cancel()
    assert mux.mux() is None


def test_a_signal_does_not_put_off_or_kill_what_else_is_waited_for(mux, pair):
    # EM-4: the Perl mux died of EINTR.
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.signal(USR1)

    def disturb():
        for _ in range(50):
            send(USR1)
        peer.send(b"hello")

    thread = threading.Thread(target=disturb)
    thread.start()
    while isinstance(event := mux.mux(PATIENCE), Signal):
        assert 1 <= event.count <= 50
    thread.join()
    assert event == Read(fh, b"hello")


def test_a_signal_that_is_not_watched_does_not_end_the_wait(mux, pair):
    # EM-4, too: with a handler of the program's own, and none of the mux.
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    seen = []

    def handler(signum, frame):
        seen.append(signum)
        peer.send(b"from the handler")

    with handling(USR1, handler):
        child = kill_when_told(USR1)
        assert mux.mux(PATIENCE) == Read(fh, b"from the handler")
        child.wait()
    assert seen == [USR1]


def kill_when_told(signum):
    """Start a process that sends us a signal."""
    program = f"import os; os.kill({os.getpid()}, {int(signum)})"
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", program])


@pytest.mark.parametrize("timeout", [PATIENCE, None])
def test_a_signal_of_another_process_ends_a_long_wait(mux, timeout):
    mux.signal(USR1)
    child = kill_when_told(USR1)
    assert mux.mux(timeout) == Signal(signum=USR1)
    assert child.wait() == 0


def test_a_signal_that_another_thread_sends_ends_a_long_wait(mux):
    mux.signal(USR1)
    thread = threading.Thread(target=send, args=(USR1,))
    thread.start()
    assert mux.mux(PATIENCE) == Signal(signum=USR1)
    thread.join()


# The handlers of before


def test_a_handler_of_the_programs_own_is_still_called(mux):
    seen = []
    with handling(USR1, lambda signum, frame: seen.append((signum, frame is not None))):
        watch = mux.signal(USR1)
        send(USR1)
        assert mux.mux(PATIENCE) == Signal(signum=USR1)
        assert seen == [(USR1, True)]
        watch.cancel()
        send(USR1)
        assert len(seen) == 2
        assert mux.mux(0) == Timeout()


def test_ctrl_c_is_an_event_instead_of_an_exception(mux):
    with handling(signal.SIGINT, signal.default_int_handler):
        watch = mux.signal(signal.SIGINT)
        send(signal.SIGINT)
        assert mux.mux(PATIENCE) == Signal(signum=signal.SIGINT)
        watch.cancel()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_signal_that_would_end_the_program_does_not(mux):
    mux.signal(signal.SIGTERM)
    send(signal.SIGTERM)
    assert mux.mux(PATIENCE) == Signal(signum=signal.SIGTERM)


def test_a_signal_that_was_ignored_is_ignored_again(mux):
    with handling(USR1, signal.SIG_IGN):
        watch = mux.signal(USR1)
        send(USR1)
        assert mux.mux(PATIENCE) == Signal(signum=USR1)
        watch.cancel()
        assert signal.getsignal(USR1) == signal.SIG_IGN


def test_cancel_brings_the_handlers_of_before_back(mux, handlers):
    watch = mux.signal(USR1, USR2)
    assert signal.getsignal(USR1) != handlers[USR1]
    watch.cancel()
    assert signal.getsignal(USR1) == handlers[USR1]
    assert signal.getsignal(USR2) == handlers[USR2]
    watch.cancel()


def test_the_last_watch_of_a_signal_brings_its_handler_back(mux, handlers):
    one, other = mux.signal(USR1), mux.signal(USR2, USR1)
    one.cancel()
    one.cancel()
    send(USR1)
    assert mux.mux(PATIENCE) == Signal(signum=USR1)
    other.cancel()
    assert signal.getsignal(USR1) == handlers[USR1]


@pytest.mark.parametrize("failed", [False, True])
def test_the_end_of_the_mux_brings_the_handlers_of_before_back(handlers, failed):
    with contextlib.suppress(ZeroDivisionError), EventMux() as mux:
        mux.signal(USR1)
        mux.signal(USR1, USR2)
        assert 1 // (not failed)
    assert signal.getsignal(USR1) == handlers[USR1]
    assert signal.getsignal(USR2) == handlers[USR2]
    assert mux.mux() is None


def test_a_handler_that_was_installed_meanwhile_stays(mux):
    watch = mux.signal(USR1)
    seen = []
    theirs = signal.getsignal(USR1)
    with handling(USR1, lambda signum, frame: (seen.append(signum), theirs(signum, frame))):
        send(USR1)
        assert seen == [USR1]
        assert mux.mux(PATIENCE) == Signal(signum=USR1)
        watch.cancel()
        send(USR1)
        assert seen == [USR1, USR1]
        assert mux.mux(0) == Timeout()
    # A hook that was under another handler could not be taken out; it only passes on.
    assert signal.getsignal(USR1) is theirs
    signal.signal(USR1, signal.SIG_DFL)


@pytest.mark.parametrize("first", [0, 1])
def test_two_muxes_on_one_signal_can_end_in_either_order(handlers, first):
    stacks = [contextlib.ExitStack() for _ in range(2)]
    muxes = [stack.enter_context(EventMux()) for stack in stacks]
    for mux in muxes:
        mux.signal(USR1)
    send(USR1)
    assert [mux.mux(PATIENCE) for mux in muxes] == [Signal(signum=USR1)] * 2
    stacks[first].close()
    send(USR1)
    assert muxes[1 - first].mux(PATIENCE) == Signal(signum=USR1)
    stacks[1 - first].close()
    assert signal.getsignal(USR1) == handlers[USR1]


@pytest.mark.parametrize("first", [0, 1])
def test_ctrl_c_is_an_event_for_the_mux_that_is_left(first):
    with handling(signal.SIGINT, signal.default_int_handler):
        stacks = [contextlib.ExitStack() for _ in range(2)]
        muxes = [stack.enter_context(EventMux()) for stack in stacks]
        for mux in muxes:
            mux.signal(signal.SIGINT)
        send(signal.SIGINT)
        assert [mux.mux(PATIENCE) for mux in muxes] == [Signal(signum=signal.SIGINT)] * 2
        stacks[first].close()
        send(signal.SIGINT)
        assert muxes[1 - first].mux(PATIENCE) == Signal(signum=signal.SIGINT)
        stacks[1 - first].close()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# What cannot be


def test_no_signal_is_refused(mux):
    with pytest.raises(ValueError, match="no signal"):
        mux.signal()
    assert mux.mux() is None


@pytest.mark.parametrize("wrong", [0, -1, 1000])
def test_what_is_no_signal_is_refused_and_nothing_stays(mux, handlers, wrong):
    with pytest.raises(ValueError, match="signal number"):
        mux.signal(USR1, wrong)
    assert signal.getsignal(USR1) == handlers[USR1]
    assert mux.mux() is None


def test_a_signal_that_cannot_be_caught_is_refused_and_nothing_stays(mux, handlers):
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        mux.signal(USR1, signal.SIGKILL)
    assert signal.getsignal(USR1) == handlers[USR1]
    assert mux.mux() is None
    watch = mux.signal(USR1)
    watch.cancel()
    assert signal.getsignal(USR1) == handlers[USR1]


def test_signals_can_only_be_watched_in_the_main_thread(mux, handlers):
    error = in_a_thread(lambda: mux.signal(USR1))
    assert isinstance(error, ValueError)
    assert "main thread" in str(error)
    assert signal.getsignal(USR1) == handlers[USR1]
    assert mux.mux() is None


# Cancelling


def test_cancel_drops_what_has_arrived(mux):
    watch = mux.signal(USR1)
    send(USR1)
    watch.cancel()
    assert drain(mux) == []
    mux.signal(USR1)
    assert drain(mux) == []


def test_cancel_drops_what_is_queued(mux):
    watch = mux.signal(USR1, USR2)
    send(USR1, USR2)
    mux.push_event(Event())
    assert mux.mux(PATIENCE) == Event()
    assert isinstance(mux.mux(PATIENCE), Signal)
    assert mux.has_events() == 1
    watch.cancel()
    assert mux.has_events() == 0
    assert mux.mux() is None


def test_cancel_drops_all_that_one_watch_has_queued(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    watch = mux.signal(USR1, USR2)
    send(USR1, USR2)
    assert mux.mux(0, only=fh) == Timeout()
    assert mux.has_events() == 2
    watch.cancel()
    assert mux.has_events() == 0


@pytest.mark.parametrize("first", [0, 1])
def test_cancel_leaves_what_another_watch_waits_for(mux, pair, first):
    fh, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    watches = [mux.signal(USR1), mux.signal(USR1)]
    send(USR1)
    assert mux.mux(0, only=fh) == Timeout()
    watches[first].cancel()
    assert mux.mux(0) == Signal(signum=USR1)


def test_cancel_leaves_other_signals_that_have_arrived(mux):
    watch = mux.signal(USR1)
    mux.signal(USR2)
    send(USR2, USR1, USR2)
    watch.cancel()
    assert drain(mux) == [Signal(signum=USR2, count=2)]


def test_the_end_in_another_thread_closes_everything_and_the_hook_passes_on():
    calls = []
    before = signal.signal(signal.SIGUSR1, lambda *_: calls.append(1))
    try:
        mux = EventMux()
        mux.signal(signal.SIGUSR1)
        thread = threading.Thread(target=mux.__exit__)
        thread.start()
        thread.join()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert calls == [1]
        with pytest.raises(RuntimeError, match="this mux is closed"):
            mux.mux(0)
    finally:
        signal.signal(signal.SIGUSR1, before)
