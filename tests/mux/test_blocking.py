"""O_NONBLOCK is not the mux's alone: it is left as it is, or lent, and still nothing waits."""

import contextlib
import errno
import gc
import os
import pty
import select
import selectors
import signal
import socket
import subprocess
import sys
import tty

import pytest
from support.processes import forked
from support.pump import PATIENCE, drain, kinds, take, until
from support.quick import quick_first

from eventmux import Closed, Closing, EventMux, Read, Ready
from eventmux._channels import descriptors, lending
from eventmux._channels.handles import which_file


@pytest.fixture
def own():
    """Close descriptors at the end of the test, as far as they are still open."""
    with contextlib.ExitStack() as stack:

        def own(*fds):
            for fd in fds:
                stack.callback(close_if, fd, which_file(fd))
            return fds

        yield own


def close_if(fd, known):
    if known is not None and which_file(fd) == known:
        os.close(fd)


@pytest.fixture
def make(own):
    """Make something that others share, or not: a descriptor, another one of it, its other end."""

    def make(what, *, shared=True):
        if what == "terminal":
            other, fd = pty.openpty()
            tty.setraw(fd)
        elif what in ("reader", "writer"):
            fd, other = os.pipe() if what == "reader" else reversed(os.pipe())
        else:
            kind = socket.SOCK_DGRAM if what == "packets" else socket.SOCK_STREAM
            one, two = socket.socketpair(type=kind)
            fd, other = one.detach(), two.detach()
        os.set_inheritable(fd, shared)
        return own(fd, os.dup(fd), other)

    return make


WHAT = ["terminal", "reader", "writer", "socket", "packets"]
HOW = ["remove", "close", "kill", "end", "drop"]


def let_go(mux, fd, how):
    if how == "end":
        mux.__exit__()
    elif how != "drop":
        getattr(mux, how)(fd)
        drain(mux)


# What others share is never changed


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("what", WHAT)
def test_what_is_shared_stays_as_it_is(mux, make, what, blocking):
    fd, shared, other = make(what)
    os.set_blocking(fd, blocking)
    mux.add(fd)
    before = os.get_blocking(shared)
    if what != "writer":
        os.write(other, b"hello")
        assert until(mux, "read")[-1] == Read(fd, b"hello")
    if what != "reader":
        mux.send(fd, b"hello")
        assert os.read(other, 99) == b"hello"
    drain(mux)
    assert (before, os.get_blocking(shared)) == (blocking, blocking)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("what", ["terminal", "reader", "writer"])
def test_nothing_is_left_of_a_second_descriptor(make, what, how):
    fd, shared, _ = make(what)
    count = len(os.listdir("/proc/self/fd"))
    mux = EventMux()
    mux.add(fd)
    assert os.get_blocking(shared)
    let_go(mux, fd, how)
    mux.__exit__() if how != "drop" else None
    del mux
    gc.collect()
    is_closed = how in ("close", "kill", "end")
    assert len(os.listdir("/proc/self/fd")) == count - is_closed
    assert os.get_blocking(shared)


@pytest.mark.parametrize("what", ["terminal", "reader", "writer"])
def test_a_second_descriptor_goes_with_one_that_the_program_closed(mux, make, what):
    fd, _, _ = make(what)
    count = len(os.listdir("/proc/self/fd"))
    mux.add(fd)
    os.close(fd)
    assert kinds(drain(mux))[-3:] == ["error", "closing", "closed"]
    assert len(os.listdir("/proc/self/fd")) == count - 1


def test_the_end_of_a_pipe_that_is_shared(mux, make):
    reader, shared, other = make("writer")[::-1]
    os.set_inheritable(reader, True)
    mux.add(reader)
    os.close(shared)
    os.close(other)  # the last writer: ours would count if it were one
    assert drain(mux) == [Closing(reader), Closed(reader)]


def test_a_socket_object_is_left_blocking(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    peer.send(b"hello")
    assert take(mux, 2) == [Ready(fh), Read(fh, b"hello")]
    assert os.get_blocking(fh.fileno())


# Nothing waits, whoever takes what was there


class Thief(selectors.DefaultSelector):
    """A selector during which somebody else reads what has just made a handle readable."""

    steal = None

    def select(self, timeout=None):
        ready = super().select(timeout)
        if ready and self.steal is not None:
            self.steal()
            self.steal = None
        return ready


def refuse(*_args, **_options):
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("again", [True, False], ids=["opened again", "not opened again"])
@pytest.mark.parametrize("what", ["terminal", "reader", "socket", "packets", "master"])
def test_somebody_else_was_faster(make, own, monkeypatch, what, again, shared):
    fd, other_one, other = make("terminal" if what == "master" else what, shared=shared)
    if what == "master":
        fd, other = other, fd
        (other_one,) = own(os.dup(fd))
        os.set_inheritable(fd, shared)
    if not again:
        monkeypatch.setattr(descriptors.os, "open", refuse)
    selector = Thief()
    with EventMux(selector=selector) as mux:
        mux.add(fd)
        drain(mux)
        selector.steal = lambda: os.read(other_one, 99)
        os.write(other, b"line\n")
        assert select.select([other_one], [], [], PATIENCE)[0]  # a terminal takes a moment
        assert mux.mux(0).type == "timeout"
        assert selector.steal is None
        monkeypatch.undo()
        assert os.get_blocking(other_one) or not shared


@pytest.mark.parametrize("again", [True, False], ids=["opened again", "not opened again"])
@pytest.mark.parametrize("what", ["terminal", "writer", "socket", "packets"])
def test_what_is_full_is_waited_for(mux, make, monkeypatch, what, again):
    fd, shared, other = make(what)
    if not again:
        monkeypatch.setattr(descriptors.os, "open", refuse)
    mux.add(fd)
    for _ in range(1000):
        if mux.send(fd, b"x" * 1000):
            break
    assert mux.buflen(fd)
    assert os.get_blocking(shared)
    mux.want_read(fd, False)
    os.set_blocking(other, False)
    while mux.buflen(fd):
        with contextlib.suppress(BlockingIOError):
            os.read(other, 100_000)
        mux.mux(0)
    assert os.get_blocking(shared)


def test_one_terminal_for_input_and_output(mux, make):
    stdin, stdout, master = make("terminal")
    os.set_inheritable(stdout, True)
    mux.add(stdin)
    mux.add(stdout)
    assert kinds(drain(mux)) == ["ready", "ready"]
    os.write(master, b"in\n")  # both are readable, and one of them gets it
    assert select.select([stdin], [], [], PATIENCE)[0]
    assert [event.data for event in drain(mux)] == [b"in\n"]
    mux.send(stdout, b"out")
    assert os.read(master, 99) == b"out"
    assert os.get_blocking(stdin)
    assert os.get_blocking(stdout)


# What is lent


LENT = ["reader", "writer", "listener", "manual", "timeout"]


@pytest.fixture
def lend(make):
    """Add what has to be made non-blocking; return the handle, and a function that looks at it."""
    with contextlib.ExitStack() as stack:

        def lend(mux, what):
            if what in ("reader", "writer"):
                fh, shared, _ = make(what, shared=False)
                mux.add(fh)
                return fh, lambda: os.get_blocking(shared)
            if what == "listener":
                fh = socket.create_server(("127.0.0.1", 0))
            else:
                fh, other = socket.socketpair()
                stack.enter_context(other)
            stack.enter_context(fh)
            shared = stack.enter_context(fh.dup())
            if what == "timeout":
                fh.settimeout(2.5)
            mux.add(fh, manual_read=what == "manual")
            if what == "timeout":
                return fh, lambda: fh.fileno() < 0 or fh.gettimeout() == 2.5
            return fh, lambda: os.get_blocking(shared.fileno())

        yield lend


@pytest.mark.parametrize("how", [*HOW, "exit"])
@pytest.mark.parametrize("what", LENT)
def test_what_is_lent_is_given_back(lend, what, how):
    mux = EventMux()
    fh, is_as_before = lend(mux, what)
    assert not is_as_before()
    if how == "exit":
        lending._give_all_back()
    else:
        let_go(mux, fh, how)
    mux.__exit__() if how not in ("drop", "exit") else None
    if how == "drop":
        del mux
        gc.collect()
    assert is_as_before()


@pytest.mark.parametrize("what", ["reader", "listener"])
def test_a_forked_child_gives_nothing_back(mux, lend, what):
    _, is_as_before = lend(mux, what)
    assert forked(lambda: (lending._give_all_back(), is_as_before())) == "(None, False)"
    assert not is_as_before()


def test_what_did_not_block_before_does_not_afterwards(mux, pair):
    fh, _ = pair()
    os.set_blocking(fh.fileno(), False)
    mux.add(fh, manual_read=True)  # the object does not know it
    mux.remove(fh)
    assert fh.gettimeout() is None
    assert not os.get_blocking(fh.fileno())


def test_a_number_that_is_used_again_is_given_nothing(mux, make):
    fd, _, _ = make("reader", shared=False)
    mux.add(fd)
    reader, _, _ = make("reader", shared=False)
    os.set_blocking(reader, False)
    os.dup2(reader, fd)
    lending._give_all_back()
    assert not os.get_blocking(fd)


def test_another_process_has_set_the_listener_back(mux, own):
    thief = Thief()
    with EventMux(selector=thief) as mux, socket.create_server(("127.0.0.1", 0)) as listener:
        mux.add(listener)
        os.set_blocking(listener.fileno(), True)
        with socket.create_connection(listener.getsockname()):
            thief.steal = lambda: listener.accept()[0].close()
            assert mux.mux(0).type == "timeout"


# A program that ends, however it does


PROGRAM = """
import os, signal, sys
from eventmux import EventMux
mux = EventMux()
mux.add(0)
mux.add(sys.stdout)
mux.send(sys.stdout, b"sent")
"""
ENDS = {
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "_exit": "os._exit(0)",
    "exit": "sys.exit()",
    "exception": "raise ZeroDivisionError",
    "end": "",
}


@pytest.mark.parametrize("end", quick_first(ENDS))
@pytest.mark.parametrize("what", quick_first(["terminal", "pipe", "socket"]))
def test_a_program_leaves_what_it_shares_as_it_was(make, own, what, end):
    if what == "pipe":
        stdin, _ = own(*os.pipe())
        other, stdout = own(*os.pipe())
    else:
        stdin, stdout, other = make(what)
    subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM + ENDS[end]],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert os.read(other, 99) == b"sent"
    assert os.get_blocking(stdin)
    assert os.get_blocking(stdout)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["exit", "exception", "end"])
def test_a_program_leaves_a_listener_as_it_was(end):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = PROGRAM.partition("mux.add(sys")[0]
        subprocess.run(
            [sys.executable, "-S", "-c", program + ENDS[end]],
            stdin=listener,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert os.get_blocking(listener.fileno())


@pytest.mark.slow
def test_a_job_in_the_background_is_told_that_it_cannot_read():
    program = """
import os, signal
from eventmux import EventMux
signal.signal(signal.SIGTTIN, signal.SIG_IGN)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
if os.fork():
    os.wait()
else:
    os.setpgid(0, 0)
    mux = EventMux()
    mux.add(0)
    print("go", flush=True)
    print(*[event.error for event in mux if event.type == "error"], flush=True)
"""
    pid, master = pty.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-c", program])
    output = b""
    with contextlib.suppress(OSError), open(master, "r+b", buffering=0) as terminal:
        while b"go" not in output:
            output += terminal.read(99)
        terminal.write(b"for the job in front\n")
        while data := terminal.read(99):
            output += data
    os.waitpid(pid, 0)
    assert os.strerror(errno.EIO).encode() in output


# SIGPIPE, should the program have set it to end the process


@pytest.mark.parametrize("what", ["writer", "socket", "number", "later", "seqpacket", "connected"])
def test_a_peer_that_has_gone_is_no_signal(mux, make, pair, what):
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        if what in ("writer", "number"):
            fh, _, other = make("writer" if what == "writer" else "socket")
            mux.add(fh)
            drain(mux)
            os.close(other)
        else:
            kind = {"seqpacket": socket.SOCK_SEQPACKET}.get(what, socket.SOCK_STREAM)
            fh, peer = pair(kind)
            mux.add(fh)
            drain(mux)
            peer.close()
        mux.send(fh, b"hello", later=what == "later")
        assert "error" in kinds(until(mux, "closed"))
        assert signal.sigpending() == set()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_a_signal_that_is_pending_stays_so(mux, make):
    reader, writer = make("writer")[::2][::-1]
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        mux.add(writer)
        os.close(reader)
        signal.raise_signal(signal.SIGPIPE)
        mux.send(writer, b"hello")
        assert signal.sigpending() == {signal.SIGPIPE}
        assert signal.sigtimedwait({signal.SIGPIPE}, PATIENCE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGPIPE, before)
