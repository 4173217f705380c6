"""Child processes: real ones, by a pidfd and by SIGCHLD."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading

import pytest
from support.fakes import RefusingSelector
from support.processes import open_descriptors, waiting_child
from support.pump import PATIENCE, drain, take

from eventmux import Child, EventMux, Ready, Signal, Timeout

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no child processes")


def refuse(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.fixture(params=["pidfd", "sigchld", "old kernel"])
def way(request, monkeypatch):
    """How the end of a child is noticed."""
    if request.param == "sigchld":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif request.param == "old kernel":
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("there is no pidfd_open()")
    return request.param


@pytest.fixture
def mux(way):
    """A mux that leaves no handler and no descriptor behind."""
    handler, descriptors = signal.getsignal(signal.SIGCHLD), open_descriptors()
    with EventMux() as mux:
        yield mux
    assert signal.getsignal(signal.SIGCHLD) == handler
    assert open_descriptors() == descriptors


def start(code=0):
    """Start a child that ends at once."""
    return os.posix_spawn(
        "/bin/sh", ["sh", "-c", f"exit {code}"], {"PATH": os.environ.get("PATH", "")}
    )


@contextlib.contextmanager
def waiting(code="0"):
    """Have a child that ends when its stdin is closed."""
    with waiting_child(code) as process:
        try:
            yield process
        finally:
            process.kill()


def end(process):
    process.stdin.close()


def await_zombie(pid):
    """Wait until a child has ended, and leave it unreaped."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def is_reaped(pid):
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


# The event


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_popen_is_an_event(mux, code):
    with waiting(str(code)) as process:
        mux.child(process)
        assert mux.mux(0) == Timeout()
        end(process)
        event = mux.mux()
        assert event == Child(pid=process.pid, returncode=code)
        assert event.type == "child"
        assert event.fh is None
        assert process.returncode == code
        assert is_reaped(process.pid)
        assert mux.mux() is None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_popen_that_a_signal_ends(mux, signum):
    with waiting() as process:
        mux.child(process)
        process.send_signal(signum)
        assert mux.mux() == Child(pid=process.pid, returncode=-signum)
        assert process.returncode == -signum


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_a_pid_is_an_event(mux, code):
    pid = start(code)
    mux.child(pid)
    assert mux.mux() == Child(pid=pid, returncode=code)
    assert is_reaped(pid)
    assert mux.mux() is None


def test_a_forked_child_that_a_signal_ends(mux):
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)  # until it is killed
        os._exit(1)
    mux.child(pid)
    assert mux.mux(0) == Timeout()
    os.kill(pid, signal.SIGKILL)
    assert mux.mux() == Child(pid=pid, returncode=-signal.SIGKILL)
    os.close(reader)
    os.close(writer)


def test_a_child_that_has_ended_already(mux):
    pid = start(3)
    await_zombie(pid)
    mux.child(pid)
    assert mux.mux() == Child(pid=pid, returncode=3)
    assert is_reaped(pid)


def test_a_popen_that_has_ended_already(mux):
    with waiting("3") as process:
        end(process)
        await_zombie(process.pid)
        mux.child(process)
        assert mux.mux() == Child(pid=process.pid, returncode=3)
        assert mux.mux() is None


def test_a_popen_that_was_waited_for_already(mux):
    with waiting("3") as process:
        end(process)
        process.wait()
        mux.child(process)
        assert mux.mux() == Child(pid=process.pid, returncode=3)
        assert mux.mux() is None


def test_a_popen_that_the_program_waits_for_meanwhile(mux):
    with waiting("3") as process:
        mux.child(process)
        end(process)
        process.wait()
        assert mux.mux() == Child(pid=process.pid, returncode=3)


@pytest.mark.parametrize("is_popen", [False, True])
def test_the_status_of_a_child_that_something_else_has_waited_for_is_lost(mux, is_popen):
    with waiting("3") as process:
        mux.child(process if is_popen else process.pid)
        end(process)
        assert os.waitpid(process.pid, 0) == (process.pid, 3 << 8)
        assert mux.mux() == Child(pid=process.pid, returncode=None)
        assert mux.mux() is None


def test_the_status_of_a_popen_that_something_else_had_waited_for_is_lost(mux):
    with waiting("3") as process:
        end(process)
        os.waitpid(process.pid, 0)
        mux.child(process)
        assert mux.mux() == Child(pid=process.pid, returncode=None)
        assert mux.mux() is None


def test_a_child_that_is_stopped_has_not_ended(mux):
    with waiting() as process:
        mux.child(process)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert mux.mux(0) == Timeout()
        assert mux.mux(0) == Timeout()
        process.send_signal(signal.SIGCONT)
        end(process)
        assert mux.mux() == Child(pid=process.pid, returncode=0)


def test_many_children_at_once(mux):
    pids = [start(number) for number in range(30)]
    for pid in pids:
        mux.child(pid)
    events = list(mux)
    assert sorted((event.pid, event.returncode) for event in events) == [
        (pid, number) for number, pid in sorted(enumerate(pids), key=lambda entry: entry[1])
    ]
    assert all(is_reaped(pid) for pid in pids)


def test_a_child_that_is_watched_twice_ends_once_with_a_status(mux):
    with waiting("3") as process:
        mux.child(process.pid)
        mux.child(process.pid)
        end(process)
        events = list(mux)
        assert [event.pid for event in events] == [process.pid] * 2
        assert {event.returncode for event in events} == {3, None}


def test_children_come_and_go_while_handles_are_served(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    pid = start(0)
    mux.child(pid)
    peer.send(b"hello")
    events = take(mux, 3)
    assert sorted(event.type for event in events) == ["child", "read", "ready"]


# Together with signals


def test_the_program_may_watch_sigchld_itself(mux):
    watch = mux.signal(signal.SIGCHLD)
    pid = start(3)
    mux.child(pid)
    events = []
    while {event.type for event in events} != {"signal", "child"}:
        events.append(mux.mux(PATIENCE))
    assert events.count(Child(pid=pid, returncode=3)) == 1
    assert events.count(Signal(signum=signal.SIGCHLD)) == 1
    watch.cancel()
    assert mux.mux() is None


def test_the_program_may_stop_watching_sigchld_while_a_child_runs(mux):
    watch = mux.signal(signal.SIGCHLD)
    with waiting("3") as process:
        mux.child(process)
        watch.cancel()
        end(process)
        assert mux.mux() == Child(pid=process.pid, returncode=3)


def test_a_sigchld_handler_of_the_programs_own_may_reap(mux):
    reaped = []
    before = signal.signal(
        signal.SIGCHLD, lambda signum, frame: reaped.append(os.waitpid(-1, os.WNOHANG))
    )
    try:
        with waiting("3") as process:
            mux.child(process.pid)
            end(process)
            event = mux.mux()
            assert event.pid == process.pid
            assert event.returncode in (3, None)
            assert is_reaped(process.pid)
            process.returncode = 3
    finally:
        signal.signal(signal.SIGCHLD, before)


# What cannot be


@pytest.mark.parametrize("wrong", ["1", None, 1.0, True, b"1", object()])
def test_what_is_no_process_is_refused(mux, wrong):
    with pytest.raises(TypeError, match="neither a subprocess.Popen nor a pid"):
        mux.child(wrong)
    assert mux.mux() is None


@pytest.mark.parametrize("stranger", [1, 0, -1, 2**22 + 5, 10**30])
def test_a_pid_of_no_child_is_refused(mux, stranger):
    with pytest.raises(ChildProcessError, match=f"{stranger} is no child"):
        mux.child(stranger)
    assert mux.mux() is None


def test_a_child_that_was_waited_for_is_no_child_any_more(mux):
    pid = start(0)
    os.waitpid(pid, 0)
    with pytest.raises(ChildProcessError):
        mux.child(pid)
    assert mux.mux() is None


def test_without_pidfds_children_can_only_be_watched_in_the_main_thread(mux, way):
    raised = []

    def watch(process):
        try:
            mux.child(process)
        except ValueError as error:
            raised.append(error)

    with waiting() as process:
        thread = threading.Thread(target=watch, args=(process,))
        thread.start()
        thread.join()
        end(process)
        if way != "pidfd":
            assert "main thread" in str(raised[0])
            assert mux.mux() is None
        else:
            assert mux.mux() == Child(pid=process.pid, returncode=0)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="there is nothing to register")
def test_what_the_selector_refuses_leaves_nothing():
    selector = RefusingSelector()
    with EventMux(selector=selector) as mux, waiting() as process:
        descriptors = open_descriptors()
        selector.refuse = OSError(errno.ENOSPC, "refused")
        with contextlib.suppress(OSError):
            mux.child(process)
        assert open_descriptors() == descriptors
        assert mux.mux() is None


# Cancelling


def test_cancel_leaves_the_process_to_the_program(mux, way):
    with waiting("3") as process:
        descriptors = open_descriptors()
        watch = mux.child(process.pid)
        assert len(open_descriptors()) == len(descriptors) + (way == "pidfd")
        watch.cancel()
        assert open_descriptors() == descriptors
        assert mux.mux() is None
        end(process)
        await_zombie(process.pid)
        assert drain(mux) == []
        assert process.wait() == 3
        watch.cancel()


def test_cancel_drops_what_is_queued(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    with waiting() as process:
        watch = mux.child(process.pid)
        end(process)
        await_zombie(process.pid)
        assert mux.mux(0, only=fh) == Timeout()
        assert is_reaped(process.pid)
        assert mux.has_events() == 1
        watch.cancel()
        assert mux.has_events() == 0
        assert drain(mux) == []


def test_cancel_after_the_end_does_nothing(mux):
    pid = start(0)
    watch = mux.child(pid)
    mux.mux()
    watch.cancel()
    assert mux.mux() is None


def test_the_end_of_the_mux_leaves_the_process_to_the_program(way):
    handler = signal.getsignal(signal.SIGCHLD)
    with waiting("3") as process:
        descriptors = open_descriptors()
        with EventMux() as mux:
            mux.child(process)
        assert open_descriptors() == descriptors
        assert signal.getsignal(signal.SIGCHLD) == handler
        end(process)
        assert process.wait() == 3


def test_nothing_is_left_of_many_children(mux):
    descriptors = open_descriptors()
    for _ in range(3):
        for number in range(10):
            mux.child(start(number))
        assert len(list(mux)) == 10
    assert open_descriptors() == descriptors
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_output_of_a_child_and_its_end(mux):
    program = "import os; os.write(1, b'hello')"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        mux.add(process.stdout)
        mux.child(process)
        events = list(mux)
    kinds = [event.type for event in events]
    assert sorted(kinds) == ["child", "closed", "closing", "read"]
    assert Child(pid=process.pid, returncode=0) in events


@pytest.mark.parametrize("pid", [0, -1])
def test_a_group_of_processes_is_no_child(mux, pid):
    with pytest.raises(ChildProcessError, match="is no child"):
        mux.child(pid)
    assert mux.mux() is None
