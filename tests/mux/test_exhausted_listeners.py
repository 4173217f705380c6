"""Listeners in a process that has no descriptor left."""

import contextlib
import errno
import gc
import os
import socket

import pytest
from support.fakes import RefusingSelector
from support.pump import PATIENCE, drain, kinds, take

from eventmux import (
    EventMux,
    Read,
    Timeout,
)


@contextlib.contextmanager
def no_descriptors():
    """No more descriptors for this process: the kernel says EMFILE."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        one, two = socket.socketpair()  # the lowest that are free; all below are in use
        lowest = min(one.fileno(), two.fileno())
        one.close()
        two.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        yield


def test_a_listener_without_descriptors_waits_a_second(timed, clock, selector):
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()):
        with no_descriptors():
            error = timed.mux()
            assert (error.type, error.fh, error.errno) == ("error", listener, errno.EMFILE)
            assert error.error == os.strerror(errno.EMFILE)
            del selector.timeouts[:]
            assert timed.mux(0.25) == Timeout()
            assert timed.mux(0.5) == Timeout()
            assert selector.timeouts == [0.25, 0.5]
            again = timed.mux()
            assert (again.type, again.errno) == ("error", errno.EMFILE)
            assert clock.now == 1001
        assert timed.mux().type == "connect"
        assert clock.now == 1002
        assert timed.mux(5) == Timeout()
    assert len(selector.timeouts) < 10


@pytest.mark.parametrize("how", ["kill", "close"])
def test_a_listener_without_descriptors_goes_on_when_one_is_free(timed, clock, pair, how):
    fh, _ = pair()
    timed.add(fh)
    timed.mux()
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()), no_descriptors():
        assert timed.mux().type == "error"
        getattr(timed, how)(fh)
        # Linux says EMFILE for the last descriptor + 1 even if no one waits for it.
        events = [kind for kind in kinds(drain(timed)) if kind != "error"]
        assert events[-2:] == ["closed", "connect"]
        assert clock.now == 1000


def test_two_listeners_without_descriptors(timed, clock, selector):
    listeners = [timed.listen("tcp://127.0.0.1:0") for _ in range(2)]
    with (
        socket.create_connection(listeners[0].getsockname()),
        socket.create_connection(listeners[1].getsockname()),
    ):
        with no_descriptors():
            for _ in range(3):
                assert {event.fh for event in take(timed, 2)} == set(listeners)
            assert clock.now == 1002
        assert {event.parent_fh for event in take(timed, 2)} == set(listeners)
        assert clock.now == 1003


@pytest.mark.parametrize("method", ["kill", "remove", "close"])
def test_a_paused_listener_can_go(timed, clock, selector, method):
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()), no_descriptors():
        assert timed.mux().type == "error"
        getattr(timed, method)(listener)
        drain(timed)
        assert timed.mux() is None
        assert len(selector.get_map()) == 2  # the mux's own: its bell, and that of signals
    listener.close()
    assert clock.now == 1000


def test_a_paused_listener_lets_the_others_go_on(timed, clock, selector, pair):
    fh, peer = pair()
    timed.add(fh)
    timed.mux()
    listener = timed.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()), no_descriptors():
        assert timed.mux().type == "error"
        selector.meanwhile.append((0.5, lambda: peer.send(b"hello")))
        assert timed.mux() == Read(fh, b"hello")
        assert clock.now == 1000.5


def test_a_connection_that_cannot_be_watched_is_an_error_of_the_listener(pair):
    # epoll has a limit of its own (ENOSPC). That the peer came is no reason for mux() to raise.
    selector = RefusingSelector()
    with EventMux(selector=selector) as mux:
        fh, _ = pair()
        mux.add(fh)
        mux.mux()
        listener = mux.listen("tcp://127.0.0.1:0")
        with socket.create_connection(listener.getsockname()) as peer:
            selector.refuse = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            event = mux.mux(PATIENCE)
            assert event.type == "error"
            assert event.errno == errno.ENOSPC
            selector.refuse = None
            assert listener in mux.handles()
            peer.settimeout(PATIENCE)
        gc.collect()  # an accepted socket that was dropped would warn
