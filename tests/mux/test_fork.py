"""A process that forks while it has a mux: real forks, the child reports through a pipe."""

import contextlib
import os
import selectors
import signal
import socket
import threading
from functools import partial

import pytest
from support.fakes import FakeClock
from support.processes import forked, open_descriptors, waiting_child
from support.pump import PATIENCE, drain, receive, take

from eventmux import Child, Closed, Connect, Event, EventMux, Read, Ready, Signal, Timer
from eventmux.buffers import Split

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork()")


def outcome(action):
    """Return what an action gives, or what it raises, as a text to send to the parent."""
    try:
        return f"returned {action()!r}"
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


# Until after_fork()


CALLS = {
    "mux": lambda mux, fh, other: mux.mux(),
    "mux with a timeout": lambda mux, fh, other: mux.mux(0),
    "timeout": lambda mux, fh, other: mux.timeout(),
    "mux with only": lambda mux, fh, other: mux.mux(only=fh),
    "iteration": lambda mux, fh, other: list(mux),
    "add": lambda mux, fh, other: mux.add(other),
    "connect": lambda mux, fh, other: mux.connect("tcp://127.0.0.1:1"),
    "connect to a name": lambda mux, fh, other: mux.connect("tcp://localhost:1"),
    "listen": lambda mux, fh, other: mux.listen("tcp://127.0.0.1:0"),
    "send": lambda mux, fh, other: mux.send(fh, b"from the child"),
    "send later": lambda mux, fh, other: mux.send(fh, b"from the child", later=True),
    "close": lambda mux, fh, other: mux.close(fh),
    "kill": lambda mux, fh, other: mux.kill(fh),
    "remove": lambda mux, fh, other: mux.remove(fh),
    "set": lambda mux, fh, other: mux.set(fh, buffered=Split()),
    "want_read": lambda mux, fh, other: mux.want_read(fh, False),
    "flush": lambda mux, fh, other: mux.flush(),
    "buflen": lambda mux, fh, other: mux.buflen(fh),
    "meta": lambda mux, fh, other: mux.meta(fh),
    "handles": lambda mux, fh, other: mux.handles(),
    "type": lambda mux, fh, other: mux.type(fh),
    "class_": lambda mux, fh, other: mux.class_(fh),
    "child": lambda mux, fh, other: mux.child(os.getppid()),
}


def test_a_forked_child_is_refused(mux, pair):
    fh, peer = pair()
    other, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)

    def child():
        descriptors = open_descriptors()
        report = {}
        for name, call in CALLS.items():
            said = outcome(partial(call, mux, fh, other))
            report[name] = said, open_descriptors() == descriptors
        return report

    for name, (said, nothing_left) in eval(forked(child)).items():
        assert said.startswith("RuntimeError: "), name
        assert "after_fork()" in said, name
        assert str(os.getpid()) in said, name
        assert nothing_left, name
    peer.send(b"hello")
    assert mux.mux(PATIENCE) == Read(fh, b"hello")
    mux.send(fh, b"from the parent")
    assert receive(peer) == b"from the parent"
    assert drain(mux)[-1].type == "sent"


@pytest.mark.parametrize("call", ["timer", "signal", "fileno"])
def test_a_forked_child_may_watch_nothing(mux, call):
    argument = {"timer": (0,), "signal": (signal.SIGUSR1,), "fileno": ()}[call]

    def child():
        said = outcome(lambda: getattr(mux, call)(*argument))
        return said, signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL

    said, is_default = eval(forked(child))
    assert said.startswith("RuntimeError: ")
    assert is_default


def test_what_is_queued_is_not_handed_out_in_the_child(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    peer.send(b"one\ntwo\n")
    assert mux.mux(PATIENCE) == Ready(fh)
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    mux.timer(0)
    mux.post(Event())
    assert "RuntimeError" in forked(lambda: outcome(lambda: mux.mux(0)))
    assert forked(lambda: (mux.after_fork(), mux.has_events(), mux.mux())) == "(None, 0, None)"
    assert drain(mux) == [Timer(), Read(fh, b"two"), Event()]


@pytest.mark.parametrize("is_reset", [False, True])
def test_what_was_put_off_is_not_sent_by_the_child(mux, pair, is_reset):
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.send(fh, b"once", later=True)

    def child():
        if is_reset:
            mux.after_fork()
        return outcome(lambda: mux.mux(0))

    report = forked(child)
    assert ("Timeout" if is_reset else "RuntimeError") in report
    mux.mux(0)
    assert receive(peer) == b"once"


def test_what_did_not_fit_is_not_sent_by_the_child(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    data = b"x" * 3_000_000
    assert mux.send(fh, data)
    assert forked(lambda: (mux.after_fork(), mux.mux())) == "(None, None)"
    received = receive(peer)
    while mux.mux(0).type != "sent":
        received += receive(peer)
    assert received + receive(peer) == data


def test_the_parent_is_not_harmed_by_a_child_that_ends(mux, pair):
    # EM-11: the Perl mux shut an inherited connection down. And epoll is shared by a fork.
    pairs = [pair() for _ in range(5)]
    for fh, _ in pairs:
        mux.add(fh)
    assert len(take(mux, 5)) == 5
    for _ in range(3):
        forked(lambda: mux.after_fork())
        for fh, peer in pairs:
            peer.send(b"hello")
            assert mux.mux(PATIENCE) == Read(fh, b"hello")
            mux.send(fh, b"answer")
            assert mux.mux(PATIENCE).type == "sent"
            assert receive(peer) == b"answer"


def test_an_accepted_connection_survives_a_child(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()) as peer:
        event = mux.mux(PATIENCE)
        assert isinstance(event, Connect)
        forked(lambda: mux.after_fork())
        peer.sendall(b"hello")
        assert mux.mux(PATIENCE) == Read(event.fh, b"hello")
        with socket.create_connection(listener.getsockname()):
            assert isinstance(mux.mux(PATIENCE), Connect)


def test_what_a_child_posts_does_not_reach_the_parent(mux):
    forked(lambda: mux.post(Event()))
    assert drain(mux) == []


def test_watches_of_the_parent_can_be_cancelled_in_the_child(mux):
    with waiting_child() as process:
        watches = [mux.timer(1), mux.signal(signal.SIGUSR1), mux.child(process)]

        def child():
            for watch in watches:
                watch.cancel()
            said = outcome(lambda: mux.mux(0))
            mux.after_fork()
            for watch in watches:
                watch.cancel()
            return said, mux.mux()

        assert "RuntimeError" in eval(forked(child))[0]
        process.stdin.close()
        assert mux.mux(PATIENCE).type in ("child", "timer")
        for watch in watches:
            watch.cancel()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_fork_while_another_thread_posts(mux):
    # The thread is not in the child, so the lock that it holds there would never be released.
    holds, may_go = threading.Event(), threading.Event()

    def post():
        with mux._loop.mailbox._lock:
            holds.set()
            assert may_go.wait(PATIENCE)
            mux.post(Event())

    thread = threading.Thread(target=post)
    thread.start()
    try:
        assert holds.wait(PATIENCE)
        report = forked(lambda: (mux.after_fork(), mux.post(Event()), mux.mux().type))
        assert report == "(None, None, '')"
    finally:
        may_go.set()
        thread.join()
    assert mux.mux(PATIENCE) == Event()


def test_a_grandchild_is_refused_as_the_child_is(mux, pair):
    fh, _ = pair()
    mux.add(fh)

    def grandchild():
        said = outcome(lambda: mux.mux(0))
        return said, outcome(mux.after_fork)

    with EventMux() as other:
        report = eval(eval(forked(lambda: forked(grandchild))))
        assert other.mux() is None
    assert report[0].startswith("RuntimeError: ")
    assert report[1] == "returned None"


def test_a_grandchild_of_a_child_that_has_started_anew(mux, pair):
    def child():
        mux.after_fork()
        ours, theirs = socket.socketpair()
        mux.add(ours)
        mux.mux(PATIENCE)
        report = forked(lambda: (outcome(lambda: mux.mux(0)), outcome(mux.after_fork)))
        theirs.send(b"hello")
        return report, mux.mux(PATIENCE).data

    report, data = eval(forked(child))
    assert "RuntimeError" in report
    assert "returned None" in report
    assert data == b"hello"


# after_fork()


def test_only_a_forked_child_starts_anew(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    with pytest.raises(RuntimeError, match="child of a fork"):
        mux.after_fork()
    peer.send(b"hello")
    assert take(mux, 2) == [Ready(fh), Read(fh, b"hello")]


def test_the_child_cannot_start_anew_twice(mux):
    report = forked(lambda: (mux.after_fork(), outcome(mux.after_fork)))
    assert "child of a fork" in report


def test_the_child_serves_connections_of_its_own(mux, pair):
    fh, peer = pair()
    ours, theirs = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)

    def child():
        mux.after_fork()
        handles = mux.handles()
        mux.add(theirs)
        theirs_ready = mux.mux(PATIENCE) == Ready(theirs)
        request = mux.mux(PATIENCE)
        mux.send(theirs, request.data.upper())
        mux.close(theirs)
        return handles, theirs_ready, [event.type for event in mux]

    ours.send(b"request")
    assert forked(child) == "([], True, ['sent', 'closing', 'closed'])"
    assert receive(ours) == b"REQUEST"
    peer.send(b"hello")
    assert mux.mux(PATIENCE) == Read(fh, b"hello")


def test_the_handles_of_the_parent_are_closed_in_the_child(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    go, gone = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            mux.after_fork()
            os.write(gone[1], str(fh.fileno()).encode())
            os.close(go[1])
            os.read(go[0], 1)  # stays until the parent has seen what it has to
        os._exit(0)
    assert os.read(gone[0], 10) == b"-1"
    mux.kill(fh)
    assert mux.mux(PATIENCE) == Closed(fh)
    peer.settimeout(PATIENCE)
    assert peer.recv(10) == b""  # although the child lives
    for descriptor in (*go, *gone):
        os.close(descriptor)
    os.waitpid(pid, 0)


def test_what_is_kept_stays_open_in_the_child(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    other = mux.listen("tcp://127.0.0.1:0")

    def child():
        mux.after_fork(keep=[listener])
        mux.add(listener)
        with socket.create_connection(listener.getsockname()) as peer:
            accepted = mux.mux(PATIENCE).fh
            mux.send(accepted, b"from the child")
            return other.fileno(), peer.recv(100)

    assert forked(child) == "(-1, b'from the child')"
    with socket.create_connection(listener.getsockname()):
        assert isinstance(mux.mux(PATIENCE), Connect)


def test_what_is_kept_may_be_any_iterable(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    assert forked(lambda: (mux.after_fork(keep=(each for each in [fh])), fh.fileno())) == repr(
        (None, fh.fileno())
    )


def test_the_child_has_no_descriptors_of_the_mux_left(pair):
    before = len(open_descriptors())
    with EventMux() as mux, waiting_child() as process:
        fh, _ = pair()
        mux.add(fh)
        mux.child(process)

        def child():
            mux.after_fork()
            mux.__exit__(None, None, None)
            return len(open_descriptors()) - before

        # The peer, the stdin of the process, and the pipe that brings this number.
        assert int(forked(child)) == 3
        process.stdin.close()
        assert take(mux, 2)[-1].type in ("child", "ready")


def test_the_end_of_the_with_block_in_the_child_closes_only_copies(pair):
    fh, peer = pair()
    with EventMux() as mux:
        mux.add(fh)
        assert mux.mux(PATIENCE) == Ready(fh)
        mux.send(fh, b"later", later=True)

        def child():
            mux.__exit__(None, None, None)
            mux.__exit__(None, None, None)
            return fh.fileno()

        assert forked(child) == "-1"
        peer.send(b"hello")
        assert take(mux, 1) == [Read(fh, b"hello")]
        assert receive(peer) == b"later"


def test_the_handlers_of_before_are_back_in_the_child(mux):
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda signum, frame: seen.append(signum))
    theirs = signal.getsignal(signal.SIGUSR2)
    try:
        mux.signal(signal.SIGUSR1, signal.SIGUSR2)

        def child():
            default = signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
            own = signal.getsignal(signal.SIGUSR2) is theirs
            os.kill(os.getpid(), signal.SIGUSR2)
            return default, own, len(seen)

        assert forked(child) == "(True, True, 1)"
        os.kill(os.getpid(), signal.SIGUSR1)
        assert mux.mux(PATIENCE) == Signal(signum=signal.SIGUSR1)
    finally:
        mux.__exit__(None, None, None)
        signal.signal(signal.SIGUSR2, before)


def test_the_child_may_watch_signals_and_children_again(mux):
    def child():
        mux.after_fork()
        mux.signal(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        first = mux.mux(PATIENCE) == Signal(signum=signal.SIGUSR1)
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {})
        mux.child(pid)
        return first, mux.mux(PATIENCE) == Child(pid=pid, returncode=3)

    assert forked(child) == "(True, True)"
    assert mux.mux() is None


def test_a_selector_of_the_programs_own_is_replaced_by_one_of_its_class(pair):
    fh, peer = pair()
    with EventMux(selector=selectors.SelectSelector()) as mux:
        mux.add(fh)
        assert mux.mux(PATIENCE) == Ready(fh)

        def child():
            mux.after_fork(keep=[fh])
            return type(mux._poller._selector).__name__

        assert forked(child) == "'SelectSelector'"
        peer.send(b"hello")
        assert mux.mux(PATIENCE) == Read(fh, b"hello")


def test_the_clock_and_the_defaults_stay(pair):
    clock = FakeClock()
    with EventMux(clock=clock, read_size=3) as mux:

        def child():
            mux.after_fork()
            ours, theirs = socket.socketpair()
            mux.add(ours)
            mux.mux(PATIENCE)
            theirs.send(b"abcdef")
            data = mux.mux(PATIENCE).data
            mux.timer(5)
            clock.advance(5)
            return data, [mux.mux(0).type for _ in range(2)]

        assert forked(child) == "(b'abc', ['timer', 'read'])"


def test_a_mux_that_has_ended_is_no_trouble_in_a_child():
    with EventMux() as mux:
        mux.timer(1)
    with EventMux() as other:
        report = forked(lambda: (outcome(lambda: other.mux(0)), outcome(mux.after_fork)))
        assert "RuntimeError" in report
        assert "returned None" in report
        assert other.mux() is None


def test_a_mux_in_a_mux_is_left_to_itself_in_the_child(mux):
    if not hasattr(selectors.DefaultSelector, "fileno"):
        pytest.skip("the selector has no descriptor")
    with EventMux() as inner:
        mux.add(inner)

        def child():
            mux.after_fork()
            inner.after_fork()
            mux.add(inner)
            inner.post(Event())
            return mux.mux(PATIENCE).fh is inner, inner.mux(0).type

        assert forked(child) == "(True, '')"
        inner.push_event(Event())
        assert mux.mux(PATIENCE).fh is inner
