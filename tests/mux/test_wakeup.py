"""A signal wakes a mux that waits in the main thread, whoever the kernel gave it to.

The main thread masks the signal, so that it is always another thread that gets it: what the system
does now and then, or when the signal comes just before the wait, happens each time.
"""

import asyncio
import contextlib
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading

import pytest
from support.interrupts import Interrupt, Interrupter
from support.processes import forked, handling, open_descriptors
from support.pump import PATIENCE, SELECTORS_IN_TURN, receive

from eventmux import CanRead, Child, EventMux, Read, Ready, Signal, Timeout
from eventmux._watching import children

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")

USR1 = signal.SIGUSR1


class Stop(Exception):
    """What a handler raises."""


@pytest.fixture
def elsewhere():
    """Give signals to another thread: `elsewhere(mux, signum)` sends one once the mux waits."""
    begin, end = threading.Event(), threading.Event()
    signums = []

    def get_signals():
        begin.set()
        end.wait()

    thread = threading.Thread(target=get_signals)
    thread.start()
    begin.wait()
    masked = (USR1, signal.SIGINT, signal.SIGCHLD)
    signal.pthread_sigmask(signal.SIG_BLOCK, masked)

    def send(mux, signum):
        """Have the signal sent between the mux's look around and its wait."""
        signums.append(signum)
        waiter = mux._poller.waiter

        class Sending:
            waiter = None

            def wait(self, selector, timeout):
                mux._poller.waiter = waiter
                sender = threading.Thread(target=os.kill, args=(os.getpid(), signum))
                # Python's own code runs no handler here: it only sees the flag at the next call.
                sender.start()
                return waiter.wait(selector, timeout)

        mux._poller.waiter = Sending()

    yield send
    end.set()
    thread.join()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, masked)


@pytest.fixture(autouse=True)
def nothing_stays():
    """Each test leaves no descriptor to which signals are written."""
    gc.collect()  # muxes that tests before this one left
    with EventMux():  # which closes what was ended in another thread
        pass
    yield
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture
def theirs():
    """Somebody else's descriptor for signals, and the end to read from."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        reader.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        yield reader
        assert signal.set_wakeup_fd(-1) == writer.fileno()


@pytest.fixture(params=SELECTORS_IN_TURN, ids=lambda kind: kind.__name__)
def kernel(request):
    """A selector that really waits."""
    return request.param()


# What wakes


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_watched_signal(kernel, elsewhere, timeout):
    with EventMux(selector=kernel) as mux:
        mux.signal(USR1)
        elsewhere(mux, USR1)
        assert mux.mux(timeout) == Signal(signum=USR1)
        assert mux.mux(0) == Timeout()


def test_ctrl_c(kernel, elsewhere):
    with EventMux(selector=kernel) as mux, handling(signal.SIGINT, signal.default_int_handler):
        elsewhere(mux, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            mux.mux(PATIENCE)
        assert mux.mux(0) == Timeout()


def test_a_handler_of_the_programs_own_that_raises(kernel, elsewhere):
    def handler(signum, frame):
        raise Stop

    with EventMux(selector=kernel) as mux, handling(USR1, handler):
        elsewhere(mux, USR1)
        with pytest.raises(Stop):
            mux.mux(PATIENCE)
        assert mux.mux(0) == Timeout()


def test_a_handler_of_the_programs_own_that_queues(elsewhere, pair):
    with EventMux() as mux:
        fh, peer = pair()
        mux.add(fh)
        assert mux.mux(0) == Ready(fh)
        with handling(USR1, lambda *_: peer.send(b"x")):
            elsewhere(mux, USR1)
            assert mux.mux(PATIENCE) == Read(fh, b"x")


def test_the_end_of_a_child_without_pidfds(elsewhere, monkeypatch):
    monkeypatch.setattr(children, "_open_pidfd", lambda pid: -1)
    with EventMux() as mux, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        mux.child(child)
        waiter = mux._poller.waiter

        class Ending:
            def wait(self, selector, timeout):
                mux._poller.waiter = waiter
                child.stdin.close()
                return waiter.wait(selector, timeout)

        mux._poller.waiter = Ending()
        assert mux.mux(PATIENCE) == Child(pid=child.pid, returncode=0)


def test_a_mux_in_a_mux(elsewhere):
    with EventMux() as outer, EventMux() as inner:
        outer.add(inner)
        inner.signal(USR1)
        elsewhere(outer, USR1)
        assert outer.mux(PATIENCE) == CanRead(inner)
        assert inner.mux(0) == Signal(signum=USR1)
        assert outer.mux(0) == Timeout()


def test_any_of_several_muxes(elsewhere):
    with contextlib.ExitStack() as stack:
        muxes = [stack.enter_context(EventMux()) for _ in range(3)]
        for mux in (*muxes, muxes[0]):
            watch = mux.signal(USR1)
            elsewhere(mux, USR1)
            assert mux.mux(PATIENCE) == Signal(signum=USR1)
            watch.cancel()


def test_a_mux_that_is_left_when_others_have_gone(elsewhere):
    first, second, third = (EventMux() for _ in range(3))
    with second:
        first.__exit__()
        third.__exit__()
        second.signal(USR1)
        elsewhere(second, USR1)
        assert second.mux(PATIENCE) == Signal(signum=USR1)


def test_a_mux_of_another_thread_takes_nothing_from_the_one_that_waits(elsewhere):
    with EventMux() as mux, EventMux() as other:
        mux.signal(USR1)
        stop = threading.Event()

        def run():
            while not stop.is_set():
                other.mux(0)

        thread = threading.Thread(target=run)
        thread.start()
        for _ in range(3):
            elsewhere(mux, USR1)
            assert mux.mux(PATIENCE) == Signal(signum=USR1)
        stop.set()
        thread.join()


def test_a_mux_of_another_thread_does_not_spin():
    with EventMux(spin=0) as mux, handling(USR1, lambda *_: None):
        os.kill(os.getpid(), USR1)
        turns = []
        thread = threading.Thread(target=lambda: turns.append(mux.mux(0.01)))
        thread.start()
        thread.join()
        assert turns == [Timeout()]
        assert receive_line() == bytes([USR1])
        assert mux._loop.watches.wakeup.armed == 0


def test_a_mux_that_was_made_in_another_thread(elsewhere):
    made = []
    thread = threading.Thread(target=lambda: made.append(EventMux()))
    thread.start()
    thread.join()
    with made[0] as mux:
        mux.signal(USR1)
        elsewhere(mux, USR1)
        assert mux.mux(PATIENCE) == Signal(signum=USR1)


# How often


def test_many_signals_are_one_wakeup(monkeypatch):
    with EventMux(spin=0) as mux:
        mux.signal(USR1)
        for _ in range(1000):
            os.kill(os.getpid(), USR1)
        assert mux.mux(PATIENCE).count == 1000
        waits = []
        waiter = mux._poller.waiter

        class Counting:
            def wait(self, selector, timeout):
                waits.append(timeout)
                return waiter.wait(selector, timeout)

        mux._poller.waiter = Counting()
        assert mux.mux(0.01) == Timeout()
        assert len(waits) == 1


def test_more_signals_than_the_descriptor_takes(capfd):
    with EventMux() as mux:
        with handling(USR1, lambda *_: None):
            for _ in range(3000):
                os.kill(os.getpid(), USR1)
        assert mux.mux(0) == Timeout()
    assert capfd.readouterr() == ("", "")


# Somebody else's


def test_both_get_the_signal(elsewhere, theirs):
    with EventMux() as mux:
        mux.signal(USR1)
        for _ in range(3):
            elsewhere(mux, USR1)
            assert mux.mux(PATIENCE) == Signal(signum=USR1)
            assert receive(theirs) == bytes([USR1])
        os.kill(os.getpid(), signal.SIGWINCH)  # not while the mux waits


def test_theirs_is_in_place_while_the_mux_does_not_wait(theirs):
    with EventMux() as mux, handling(USR1, lambda *_: None):
        mux.timer(0)
        mux.mux(1)
        os.kill(os.getpid(), USR1)
        assert receive(theirs) == bytes([USR1])
        mux.mux(0.001)
        os.kill(os.getpid(), USR1)
        assert receive(theirs) == bytes([USR1])


def test_theirs_comes_back_when_the_wait_ends_with_an_exception(elsewhere, theirs):
    with EventMux() as mux, handling(signal.SIGINT, signal.default_int_handler):
        elsewhere(mux, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            mux.mux(PATIENCE)
        mux.mux(0)
        assert receive(theirs) == bytes([signal.SIGINT])


def test_theirs_comes_back_wherever_the_wait_is_interrupted(theirs):
    number_of_theirs = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number_of_theirs)
    number, has_raised = 0, True
    while has_raised:
        interrupter = Interrupter(number)
        with EventMux(spin=0) as mux, contextlib.suppress(Interrupt):
            interrupter.run(lambda mux=mux: mux.mux(0.0001))
        there = signal.set_wakeup_fd(-1)
        assert there == number_of_theirs, interrupter.where
        signal.set_wakeup_fd(there)
        number, has_raised = number + 1, interrupter.has_raised


def test_a_newer_one_stays(kernel):
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        mux = EventMux(selector=kernel)
        assert signal.set_wakeup_fd(one.fileno()) >= 0
        with mux:
            mux.mux(0)
        assert signal.set_wakeup_fd(-1) == one.fileno()


def test_who_was_over_ours_may_put_it_back(elsewhere):
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        mux = EventMux()
        ours = signal.set_wakeup_fd(one.fileno())
        mux.__exit__()
        assert signal.set_wakeup_fd(ours) == one.fileno()  # it is still open
    with EventMux() as mux:
        mux.signal(USR1)
        elsewhere(mux, USR1)
        assert mux.mux(PATIENCE) == Signal(signum=USR1)


def test_ours_comes_back_when_a_newer_one_has_gone(elsewhere, pair):
    with EventMux() as mux:
        mux.signal(USR1)
        signal.set_wakeup_fd(-1)  # as asyncio leaves it
        mux.signal(USR1)
        elsewhere(mux, USR1)
        assert mux.mux(PATIENCE) == Signal(signum=USR1)


def test_ours_comes_back_while_nothing_happens(elsewhere, timed, pair):
    for _ in range(5):
        timed.add(pair()[0])
    timed.signal(USR1)
    while timed.mux(0).type != "timeout":
        pass
    signal.set_wakeup_fd(-1)
    timed.mux(1)
    there = signal.set_wakeup_fd(-1)
    assert there >= 0
    signal.set_wakeup_fd(there)
    os.kill(os.getpid(), USR1)
    while timed.mux(0) != Signal(signum=USR1):  # else it could come when nobody handles it
        pass


def test_in_asyncio(elsewhere):
    # It has a descriptor of its own, as soon as it watches a signal.
    async def run():
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()
        events = []
        loop.add_signal_handler(USR1, heard.set)
        with EventMux() as mux:
            mux.signal(signal.SIGUSR2)
            loop.add_reader(mux.fileno(), lambda: events.append(mux.mux(0)))
            threading.Timer(0, os.kill, (os.getpid(), USR1)).start()
            await asyncio.wait_for(heard.wait(), PATIENCE)
            os.kill(os.getpid(), signal.SIGUSR2)
            while Signal(signum=signal.SIGUSR2) not in events:
                await asyncio.sleep(0)
            loop.remove_reader(mux.fileno())
        loop.remove_signal_handler(USR1)

    asyncio.run(run())


# The end


def test_no_descriptor_is_left(elsewhere):
    before = open_descriptors()
    for _ in range(2):
        with EventMux() as mux, EventMux():
            mux.signal(USR1)
    assert open_descriptors() == before


def test_an_end_in_another_thread_leaves_it_for_the_next_mux(elsewhere):
    before = open_descriptors()
    mux = EventMux()
    thread = threading.Thread(target=mux.__exit__)
    thread.start()
    thread.join()
    with EventMux() as mux:
        mux.signal(USR1)
        elsewhere(mux, USR1)
        assert mux.mux(PATIENCE) == Signal(signum=USR1)
    assert open_descriptors() == before


def test_a_forked_child_does_not_wake_its_parent():
    with EventMux() as mux:
        mux.mux(0)

        def child():
            with handling(USR1, lambda *_: None):
                os.kill(os.getpid(), USR1)
            return signal.set_wakeup_fd(-1)

        assert forked(child) == "-1"
        with handling(signal.SIGCHLD, signal.SIG_DFL):
            assert not selectors.DefaultSelector().select(0)
            assert mux.mux(0) == Timeout()
        assert not receive_line()


def receive_line():
    """Return what has been written to the descriptor of all muxes."""
    from eventmux._watching import wakeup

    return receive(wakeup._line._ends[0])


def test_a_forked_child_has_one_of_its_own():
    with EventMux() as mux:

        def child():
            mux.after_fork()
            with mux:
                mux.signal(USR1)
                os.kill(os.getpid(), USR1)
                return mux.mux(PATIENCE)

        assert forked(child) == f"Signal(fh=None, signum={int(USR1)}, count=1)"
        assert not receive_line()


@pytest.mark.slow
def test_it_works_at_the_end_of_the_process():
    program = "from eventmux import EventMux; mux = EventMux(); mux.signal(10)"
    assert subprocess.run([sys.executable, "-c", program], check=True).returncode == 0
