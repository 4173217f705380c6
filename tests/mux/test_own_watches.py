"""Timers and child processes that belong to a handle: their events come with it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from support.pump import PATIENCE, drain, kinds

from eventmux import Child, Timeout, Timer


@pytest.fixture
def handle(mux):
    """A handle that is watched, and its peer."""
    ours, theirs = socket.socketpair()
    with theirs:
        mux.add(ours)
        drain(mux)
        yield ours


@pytest.fixture
def child():
    """A process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process
    process.wait()


def test_the_events_have_the_handle(mux, handle, child):
    mux.timer(0, "mine", fh=handle)
    mux.child(child, fh=handle)
    events = [mux.mux(PATIENCE), mux.mux(PATIENCE)]
    assert sorted(map(repr, events)) == sorted(
        map(repr, [Timer(handle, "mine"), Child(handle, child.pid, 0)])
    )
    assert Timer().fh is None


def test_a_timer_that_repeats(mux, handle):
    watch = mux.timer(0.001, "beat", repeat=True, fh=handle)
    assert [mux.mux(PATIENCE) for _ in range(3)] == [Timer(handle, "beat")] * 3
    watch.cancel()


def test_any_handle_will_do(mux):
    """It is a name tag: that the handle is watched is not asked."""
    mux.timer(0, fh=4711)
    assert mux.mux() == Timer(4711)


def test_waiting_for_one_handle_alone(mux, handle, child):
    """Its own timers and processes come, and nobody else's."""
    other = mux.timer(0, "other")
    mux.timer(0, "mine", fh=handle)
    assert mux.mux(PATIENCE, only=handle) == Timer(handle, "mine")
    mux.child(child, fh=handle)
    assert mux.mux(PATIENCE, only=handle) == Child(handle, child.pid, 0)
    assert isinstance(mux.mux(0, only=handle), Timeout)
    assert mux.mux() == Timer(None, "other")
    other.cancel()


def test_what_is_due_later_ends_the_wait_for_one_handle(mux, handle):
    mux.timer(0.001, "mine", fh=handle)
    assert mux.mux(PATIENCE, only=handle) == Timer(handle, "mine")


def test_waiting_for_a_handle_that_has_gone(mux, handle, child):
    """As long as something is watched that is its own, there is something to wait for."""
    mux.kill(handle)
    assert kinds([mux.mux(only=handle)]) == ["closed"]
    assert mux.mux(only=handle) is None
    mux.timer(0.001, "mine", fh=handle)
    assert mux.mux(only=handle) == Timer(handle, "mine")
    assert mux.mux(only=handle) is None
    mux.child(child, fh=handle)
    assert mux.mux(only=handle) == Child(handle, child.pid, 0)
    assert mux.mux(only=handle) is None


@pytest.mark.parametrize("end", ["kill", "remove"])
def test_the_end_of_the_handle_drops_nothing_of_it(mux, handle, child, end):
    """A process whose end was seen already would never be told of else."""
    mux.child(child, fh=handle)
    mux.timer(0, "mine", fh=handle)
    other, peer = socket.socketpair()
    mux.add(other)
    for _ in range(3):  # both are seen, and stay in the queue
        mux.mux(0.01, only=other)
    mux.remove(other)
    assert mux.has_events() == 2
    getattr(mux, end)(handle)
    expected = ["child", "closed", "timer"] if end == "kill" else ["child", "timer"]
    assert mux.has_events() == len(expected)
    assert sorted(kinds(drain(mux))) == expected
    for sock in (handle, other, peer):
        sock.close()


def test_cancelling_takes_them_back(mux, handle, child):
    watches = [mux.child(child, fh=handle), mux.timer(0, fh=handle)]
    for watch in watches:
        watch.cancel()
    assert kinds(drain(mux)) == []
