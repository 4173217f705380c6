"""A mux that goes out of scope without its end gives back what is the process's."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest
from support.meeting import url_of
from support.processes import open_descriptors
from support.pump import PATIENCE, receive, until
from support.quick import quick_first

from eventmux import EventMux, Ready, Signal
from eventmux._watching import children

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and pipes are those of POSIX")

USR1 = signal.SIGUSR1


@pytest.fixture(autouse=True)
def _as_before():
    """Each test leaves the handlers, the descriptors and the way signals are told as they were."""
    before = [signal.getsignal(signum) for signum in (USR1, signal.SIGCHLD)]
    descriptors = open_descriptors()
    yield
    assert signal.set_wakeup_fd(-1) == -1
    assert [signal.getsignal(signum) for signum in (USR1, signal.SIGCHLD)] == before
    assert open_descriptors() == descriptors


@pytest.fixture
def _no_collector():
    """What is given back is given back at once."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_signals_at_once():
    mux = EventMux()
    watch = mux.signal(USR1)
    mux.mux(0)
    del mux
    assert signal.getsignal(USR1) == signal.SIG_DFL
    watch.cancel()


@pytest.mark.parametrize("first", [0, 1])
def test_two_muxes_on_one_signal_in_either_order(first):
    muxes = [EventMux(), EventMux()]
    for mux in muxes:
        mux.signal(USR1)
    del mux, muxes[first]
    os.kill(os.getpid(), USR1)
    assert muxes[0].mux(PATIENCE) == Signal(signum=USR1)
    del muxes[0]
    assert signal.getsignal(USR1) == signal.SIG_DFL


def test_one_that_is_dropped_and_one_that_is_closed():
    one, other = EventMux(), EventMux()
    one.signal(USR1)
    other.signal(USR1)
    del one
    other.__exit__()
    assert signal.getsignal(USR1) == signal.SIG_DFL


def test_a_mux_in_a_circle():
    mux = EventMux()
    mux.signal(USR1)
    mux.timer(1, data=mux)
    circle = weakref.ref(mux)
    del mux
    gc.collect()
    assert circle() is None


def test_a_mux_that_something_watched_refers_to(pair):
    fh, _ = pair()
    mux = EventMux()
    mux.add(fh, meta=mux)
    circle = weakref.ref(mux)
    del mux
    gc.collect()
    assert circle() is None
    assert fh.getblocking()


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_child_that_is_watched(monkeypatch, pidfd):
    if not pidfd:
        monkeypatch.setattr(children, "_open_pidfd", lambda pid: -1)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        mux = EventMux()
        watch = mux.child(child)
        del mux
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        watch.cancel()
    assert child.returncode == 0


def test_handles_are_as_before(pair):
    fh, peer = pair()
    reader, writer = os.pipe()
    mux = EventMux()
    mux.add(fh)
    mux.add(reader)
    mux.add(peer.fileno())
    assert not os.get_blocking(reader)
    del mux
    gc.collect()
    assert os.get_blocking(reader)
    assert fh.gettimeout() is None
    peer.send(b"x")
    assert receive(fh) == b"x"
    os.close(reader)
    os.close(writer)


def test_sockets_that_the_program_has_are_left_open():
    mux = EventMux()
    listener = mux.listen("tcp://127.0.0.1:0")
    fh = mux.connect(url_of(listener))
    accepted = until(mux, "connect")[-1].fh
    del mux
    gc.collect()
    accepted.send(b"x")
    assert fh.recv(10) == b"x"
    for sock in (listener, fh, accepted):
        sock.close()


def test_a_mux_in_a_mux(pair):
    fh, peer = pair()
    outer, inner = EventMux(), EventMux()
    outer.add(inner)
    inner.add(fh)
    del outer
    gc.collect()
    assert inner.mux(PATIENCE) == Ready(fh)
    peer.send(b"x")
    assert inner.mux(PATIENCE).data == b"x"
    del inner


def test_what_was_refused_says_so():
    mux = EventMux()
    watch = mux.timer(0)
    post = mux._loop.mailbox.post
    del mux
    post()
    watch.cancel()
    with pytest.raises(ValueError, match="spin"):
        EventMux(spin=-1)


@pytest.mark.slow
def test_nobody_hears_of_it_at_the_end_of_the_process():
    program = (
        "from eventmux import EventMux; import signal, sys;"
        "mux = EventMux(); mux.signal(signal.SIGTERM); mux.add(0); sys.mux = mux"
    )
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", program]
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, check=True)
    assert done.stderr == b""


@pytest.mark.parametrize("thread", quick_first([True, False]))
def test_sigterm_ends_a_process_whose_mux_has_gone(thread):
    # In another thread no handler can be put back: then the signal is passed on.
    program = f"""
import os, signal, threading
from eventmux import EventMux
muxes = [EventMux(), EventMux()]
for mux in muxes:
    mux.signal(signal.SIGTERM)
del mux
if {thread}:
    thread = threading.Thread(target=muxes.clear)
    thread.start()
    thread.join()
else:
    muxes.clear()
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGTERM


def test_ctrl_c_is_an_exception_again():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        muxes = [EventMux()]
        muxes[0].signal(signal.SIGINT)
        thread = threading.Thread(target=muxes.clear)
        thread.start()
        thread.join()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with EventMux():  # in another thread nothing could be closed either
            pass
    finally:
        signal.signal(signal.SIGINT, before)
