"""Servers that the program has started itself, and gives to the client: `process`.

Real processes, on a clock that jumps. `test_ending.py` has those that a URL starts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import warnings

import pytest
from support.peers import turn
from support.processes import with_socket

from eventmux import EventMux
from rpcasync import Client, Disconnected, Server
from rpcasync.children.forked import ForkedProcess

START = "import os, signal, socket, sys; s = socket.socket(fileno=int(sys.argv[1]))\n"
READY = "os.write(1, b'ready\\n')\n"
WAIT_FOR_EOF = READY + "while s.recv(1000): pass\n"
IGNORE_EOF = READY + "while True: signal.pause()"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + IGNORE_EOF
DIE = READY + "s.recv(1); os._exit(7)"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


@pytest.fixture
def start():
    """Start children with a program for `python -c`; give the socket to each, and the process."""
    started = []

    def start(program):
        command = [sys.executable, "-S", "-E", "-c", START + program, "{fd}"]
        ours, process = with_socket(*command, stdout=subprocess.PIPE, bufsize=0)
        started.append((ours, process))
        assert process.stdout.readline() == b"ready\n"
        return ours, process

    yield start
    for ours, process in started:
        ours.close()
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(params=["Popen", "pid"])
def given(request):
    """What the client is given for a process that was started."""
    return (lambda process: process) if request.param == "Popen" else lambda process: process.pid


def wait_for_end(process):
    """Return when the process has ended, and leave it to be waited for, if nobody has yet."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def run(mux, client):
    while client.has_work():
        event = mux.mux()
        assert event is not None
        assert client.io(event) is None


def test_a_server_that_ends_by_itself(timed, clock, start, given):
    sock, process = start(WAIT_FOR_EOF)
    client = Client(timed, sock, process=given(process))
    assert client.process.pid == process.pid
    before = clock.now
    client.disconnect()
    assert client.has_work()
    wait_for_end(process)
    run(timed, client)
    assert client.process.returncode == 0
    assert clock.now == before


@pytest.mark.parametrize(
    ("program", "steps", "status"),
    [(IGNORE_EOF, 1, -signal.SIGTERM), (DEAF, 2, -signal.SIGKILL)],
    ids=["ignores EOF", "ignores SIGTERM"],
)
def test_the_ladder_of_signals(timed, clock, start, given, program, steps, status):
    sock, process = start(program)
    client = Client(timed, sock, process=given(process))
    before = clock.now
    client.disconnect(grace=3)
    for _ in range(steps):
        while (event := timed.mux()).type != "timer":
            client.io(event)
        client.io(event)
    wait_for_end(process)
    run(timed, client)
    assert client.process.returncode == status
    assert clock.now == pytest.approx(before + 3 * steps)


def test_the_status_is_told(timed, start, given):
    sock, process = start(DIE)
    client = Client(timed, sock, process=given(process))
    call = client.x()
    turn(timed, client)
    wait_for_end(process)
    with pytest.raises(Disconnected, match="its process has ended with status 7"):
        call.result(5)
    run(timed, client)
    assert client.process.returncode == 7


def test_close_on_idle_ends_the_process(mux, start, given):
    sock, process = start(READY + "s.recv(1000); s.sendall(b'\\0\\0\\0\\7[0]'); s.recv(1)")
    client = Client(mux, sock, process=given(process), codec="json", close_on_idle=True)
    answers = []
    client.x(lambda: answers.append(1))
    run(mux, client)
    assert (answers, client.process.returncode) == ([1], 0)


def test_somebody_else_has_waited_for_it(timed, start, caplog):
    sock, process = start(WAIT_FOR_EOF)
    client = Client(timed, sock, process=process.pid)
    call = client.x()
    process.kill()
    process.wait()
    with pytest.raises(Disconnected) as caught:
        call.result(5)
    assert "status" not in str(caught.value)
    run(timed, client)


def test_the_programs_own_watch_of_the_pid(timed, start):
    sock, process = start(WAIT_FOR_EOF)
    client = Client(timed, sock, process=process.pid)
    timed.child(client.process)
    client.disconnect()
    wait_for_end(process)
    events = [client.io(event) for event in timed]
    (child,) = [event for event in events if event is not None]
    assert (child.pid, child.returncode) == (process.pid, 0)
    assert client.process.returncode == 0


def test_a_pid_that_is_free_again_gets_no_signal(start, monkeypatch):
    _, process = start(DIE)
    forked = ForkedProcess(process.pid)
    process.kill()
    process.wait()
    monkeypatch.setattr(os, "kill", None)
    forked.terminate()
    forked.kill()
    assert (forked.poll(), forked.is_lost) == (0, True)


def test_waiting_for_one_that_was_forked(start):
    _, process = start(WAIT_FOR_EOF)
    forked = ForkedProcess(process.pid)
    assert forked.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.01)
    forked.kill()
    assert forked.wait() == -signal.SIGKILL
    assert forked.wait(1) == -signal.SIGKILL
    assert (forked.poll(), forked.is_lost) == (-signal.SIGKILL, False)


@pytest.mark.parametrize(
    "pid",
    [os.getpid(), os.getppid(), 0, -1, 2**31 - 1, 2**70],
    ids=["ours", "our parent's", "0", "-1", "too high", "too large"],
)
def test_a_pid_of_no_child(mux, pid):
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ChildProcessError, match=f"process is {pid}, which is no ch"):
        Client(mux, ours, process=pid)
    assert mux.handles() == []


@pytest.mark.parametrize("process", ["12", True, 1.0, [], object()])
def test_what_is_no_process(mux, process):
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TypeError, match=r"must be a subprocess\.Popen or the pid of"):
        Client(mux, ours, process=process)


@pytest.mark.parametrize("url", ["python://server.py", "perl2://server.pl"])
def test_a_url_that_starts_one_itself(mux, start, url):
    _, process = start(WAIT_FOR_EOF)
    with pytest.raises(TypeError, match=f"and '{url}' starts one itself"):
        Client(mux, url, process=process)


def test_a_server_that_listens(mux, start, tmp_path):
    """The process is of a server that the program connects to by a URL."""
    path = tmp_path / "socket"
    _, process = start(
        f"l = socket.socket(socket.AF_UNIX); l.bind({str(path)!r}); l.listen()\n"
        + READY
        + "c = l.accept()[0]; c.recv(1000); os._exit(3)"
    )
    client = Client(mux, f"unix://{path}", process=process)
    with pytest.raises(Disconnected, match="its process has ended with status 3"):
        client.x().result(10)
    run(mux, client)


@needs_fork
def test_a_child_that_was_forked():
    """Not on a fake clock: the child has the mux, too."""

    class Worker:
        def rpc_add(self, caller, n1, n2):
            rpc.return_(caller, sum=n1 + n2)

        def rpc_die(self, caller):
            os._exit(9)

    with EventMux() as mux:
        clients = []
        for _ in range(2):
            ours, theirs = socket.socketpair()
            with warnings.catch_warnings():  # newer Pythons warn of forks while there are threads
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if not pid:
                try:
                    mux.after_fork()
                    ours.close()
                    rpc = Server(mux, Worker())
                    rpc.add_client(theirs)
                    while rpc.has_clients():
                        rpc.io(mux.mux())
                    os._exit(0)
                finally:
                    os._exit(99)
            theirs.close()
            clients.append(Client(mux, ours, process=pid, close_on_idle=True))
        first, second = clients
        first.add(lambda sum: results.append(sum), n1=2, n2=3)
        second.die(lambda error: results.append(str(error).rpartition("; ")[2]))
        results = []
        while first.has_work() or second.has_work():
            second.io(first.io(mux.mux()))
        assert sorted(map(str, results)) == ["5", "its process has ended with status 9"]
        assert [client.process.returncode for client in clients] == [0, 9]
