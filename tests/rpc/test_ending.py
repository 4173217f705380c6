"""The end of a server that is a child process: real processes, on a clock that jumps.

A `ChildSocket` is made by hand, so that the child is what the test says; how programs are started
is for test_programs.py. The child says when it is ready, and its end is waited for without being
taken away, so no test sleeps or depends on how fast the machine is.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys

import pytest
from support.peers import Peer, turn
from support.processes import with_socket

from rpcasync import CallCancelled, CallTimeout, ChildSocket, Client, Disconnected
from rpcasync.children.ending import Ending

START = "import os, signal, socket, sys; s = socket.socket(fileno=int(sys.argv[1]))\n"
READY = "os.write(1, b'ready\\n')\n"
FOR_EVER = "while True: signal.pause()"
WAIT_FOR_EOF = READY + "while s.recv(1000): pass"
IGNORE_EOF = READY + FOR_EVER
DEAF = "signal.signal(signal.SIGTERM, lambda *a: os.write(1, b'ignored\\n'))\n" + IGNORE_EOF
CLOSE_FIRST = "s.close()\n" + IGNORE_EOF


@pytest.fixture
def mux(timed):
    return timed


@pytest.fixture
def start():
    """Start children with a program for `python -c`; give the socket to each."""
    started = []

    def start(program):
        command = [sys.executable, "-S", "-E", "-c", START + program, "{fd}"]
        ours, process = with_socket(*command, stdout=subprocess.PIPE, bufsize=0)
        sock = ChildSocket(ours.family, ours.type, fileno=ours.detach())
        sock.process = process
        sock.stdout = sock.process.stdout
        started.append(sock)
        assert sock.stdout.readline() == b"ready\n"
        return sock

    yield start
    for sock in started:
        sock.close()
        sock.process.kill()
        sock.process.wait()
        sock.stdout.close()


def wait_for_end(process):
    """Return when the process has ended, and leave it to be waited for."""
    if process.returncode is None:  # else the mux was told when it began to watch it
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def is_running(process):
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def step(mux, client, kind):
    """Turn the loop up to an event of this type."""
    while True:
        event = mux.mux()
        assert event is not None
        assert client.io(event) is None
        if event.type == kind:
            return


def run_to_the_end(mux, client):
    for event in mux:
        assert client.io(event) is None


def test_a_server_that_ends_by_itself(mux, clock, start, caplog):
    caplog.set_level(logging.DEBUG, "rpcasync")
    sock = start(WAIT_FOR_EOF)
    client = Client(mux, sock)
    assert (client.process, client.stdout, client.stderr) == (sock.process, sock.stdout, None)
    before = clock.now
    client.disconnect()
    wait_for_end(sock.process)
    run_to_the_end(mux, client)
    assert clock.now == before
    assert sock.process.returncode == 0
    assert [record.levelno for record in caplog.records if "status 0" in record.message] == [10]
    client.disconnect()
    assert mux.mux() is None


def test_a_server_that_ignores_the_end_of_its_client(mux, clock, start):
    sock = start(IGNORE_EOF)
    client = Client(mux, sock)
    client.disconnect(grace=3)
    before = clock.now
    step(mux, client, "timer")
    assert clock.now == pytest.approx(before + 3)
    wait_for_end(sock.process)
    run_to_the_end(mux, client)
    assert sock.process.returncode == -signal.SIGTERM
    assert clock.now == pytest.approx(before + 3)


def test_a_server_that_ignores_sigterm(mux, clock, start, caplog):
    sock = start(DEAF)
    client = Client(mux, sock)
    with client:
        pass
    before = clock.now
    step(mux, client, "timer")
    assert clock.now == pytest.approx(before + 5)
    assert sock.stdout.readline() == b"ignored\n"
    assert is_running(sock.process)
    step(mux, client, "timer")
    assert clock.now == pytest.approx(before + 10)
    wait_for_end(sock.process)
    run_to_the_end(mux, client)
    assert sock.process.returncode == -signal.SIGKILL
    assert clock.now == pytest.approx(before + 10)
    assert caplog.text.count("has not ended within 5") == 2


def test_no_grace_at_all(mux, clock, start):
    sock = start(IGNORE_EOF)
    client = Client(mux, sock)
    client.disconnect(grace=0)
    before = clock.now
    step(mux, client, "timer")
    wait_for_end(sock.process)
    run_to_the_end(mux, client)
    assert clock.now == before
    assert sock.process.returncode in (-signal.SIGTERM, -signal.SIGKILL)


def test_disconnect_does_not_wait_for_what_is_unsent(mux, clock, start):
    sock = start(IGNORE_EOF)  # and does not read
    client = Client(mux, sock)
    call = client.x("x" * 3_000_000)
    before = clock.now
    client.disconnect(grace=1)
    assert is_running(sock.process)
    step(mux, client, "timer")
    wait_for_end(sock.process)
    run_to_the_end(mux, client)
    with pytest.raises(Disconnected):
        call.result()
    assert clock.now == pytest.approx(before + 1)
    assert sock.process.returncode == -signal.SIGTERM


def test_a_server_that_dies(mux, clock, start, caplog):
    sock = start(IGNORE_EOF)
    client = Client(mux, sock)
    errors = []
    client.x(lambda error: errors.append(type(error)))
    sock.process.kill()
    wait_for_end(sock.process)
    before = clock.now
    run_to_the_end(mux, client)
    assert errors == [Disconnected]
    assert sock.process.returncode == -signal.SIGKILL
    assert clock.now == before
    caplog.clear()
    client.disconnect()
    assert mux.mux() is None


def test_a_server_that_closes_and_stays(mux, clock, start):
    sock = start(CLOSE_FIRST)
    client = Client(mux, sock)
    before = clock.now
    step(mux, client, "closed")
    assert clock.now == before
    step(mux, client, "timer")
    assert clock.now == pytest.approx(before + 5)
    wait_for_end(sock.process)
    run_to_the_end(mux, client)
    assert sock.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(("graces", "seconds"), [([1], 1), ([60], 5), ([2, 1, 3], 1)])
def test_a_server_that_has_closed_before_its_client_disconnects(mux, clock, start, graces, seconds):
    sock = start(CLOSE_FIRST)
    client = Client(mux, sock)
    step(mux, client, "closed")
    before = clock.now
    for grace in graces:
        client.disconnect(grace)
    step(mux, client, "timer")
    assert clock.now == pytest.approx(before + seconds)
    wait_for_end(sock.process)
    run_to_the_end(mux, client)
    assert clock.now == pytest.approx(before + seconds)


def test_a_grace_that_was_asked_for_is_not_cut_by_the_end_of_the_connection(mux, clock, start):
    sock = start(CLOSE_FIRST)
    client = Client(mux, sock)
    client.disconnect(grace=60)
    before = clock.now
    step(mux, client, "timer")
    assert clock.now == pytest.approx(before + 60)


def test_an_end_in_the_last_moment(mux, clock, start):
    sock = start(IGNORE_EOF)
    client = Client(mux, sock)
    client.disconnect(grace=3)
    step(mux, client, "closed")
    sock.process.kill()
    wait_for_end(sock.process)
    clock.advance(3)
    before = clock.now
    run_to_the_end(mux, client)  # the timer comes first
    assert sock.process.returncode == -signal.SIGKILL
    assert clock.now == before


def by_the_program(process):
    process.wait()


def by_somebody_else(process):
    os.waitpid(process.pid, 0)


@pytest.mark.parametrize("wait", [by_the_program, by_somebody_else])
def test_a_process_that_was_waited_for(mux, clock, start, wait):
    sock = start(IGNORE_EOF)
    client = Client(mux, sock)
    sock.process.kill()
    wait(sock.process)
    before = clock.now
    client.disconnect()
    run_to_the_end(mux, client)
    assert clock.now == before


def test_after_the_end_of_the_mux(mux, start, caplog):
    sock = start(WAIT_FOR_EOF)
    client = Client(mux, sock)
    mux.__exit__(None, None, None)
    client.disconnect()
    assert "is not waited for" in caplog.text


def test_a_client_without_a_process(mux):
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client(mux, ours)
        assert (client.process, client.stdout, client.stderr) == (None, None, None)
        client.disconnect()
        run_to_the_end(mux, client)
        peer = Peer(theirs)
        assert (peer.read(), peer.ended) == ([], True)


def test_events_of_others(mux, start):
    first, second = start(WAIT_FOR_EOF), start(WAIT_FOR_EOF)
    endings = [Ending(mux, sock.process, "server", 5, sock) for sock in (first, second)]
    mine = mux.timer(0, "mine")
    (event,) = [mux.mux()]
    assert [ending.io(event) for ending in endings] == [False, False]
    second.close()
    wait_for_end(second.process)
    event = mux.mux()
    assert (event.type, event.pid) == ("child", second.process.pid)
    assert [ending.io(event) for ending in endings] == [False, True]
    mine.cancel()


def test_the_programs_own_watch_of_the_process_stays_its_own(mux, start):
    client = Client(mux, start(WAIT_FOR_EOF))
    mux.child(client.process)
    client.disconnect()
    wait_for_end(client.process)
    events = [client.io(event) for event in mux]
    (child,) = [event for event in events if event is not None and event.type == "child"]
    assert child.pid == client.process.pid


# Calls that were lost, until the process has a status


CLOSED = "Broken pipe"
KILLED = f"{CLOSED}; its process has ended with status -9"


@pytest.fixture
def lost(mux, start):
    """A client whose server has closed the connection and lives on, and a call of it."""
    client = Client(mux, start(CLOSE_FIRST))
    call = client.x()
    step(mux, client, "closed")
    return client, call


def run_until_failed(mux, client):
    while client.has_requests():
        assert client.io(mux.mux()) is None


def why(call):
    """Return why a call has failed, without the names."""
    assert call.done
    with pytest.raises(Disconnected) as caught:
        call.result()
    return str(caught.value).rpartition(": ")[2]


def test_io_does_not_wait_for_the_status(mux, clock, lost):
    client, call = lost
    before = clock.now
    assert not call.done
    assert client.has_requests()
    mux.timer(0, "mine")
    event = mux.mux()
    assert client.io(event) is event
    client.process.kill()
    wait_for_end(client.process)
    run_until_failed(mux, client)
    assert why(call) == KILLED
    assert clock.now == before
    assert turn(mux, client) == []
    assert mux.mux() is None


def test_a_status_that_does_not_come(mux, clock, lost):
    client, call = lost
    before = clock.now
    run_until_failed(mux, client)
    assert why(call) == CLOSED
    assert clock.now == pytest.approx(before + 1)
    assert is_running(client.process)


def test_a_status_that_somebody_else_has_waited_for_by_then(mux, clock, lost):
    client, call = lost
    before = clock.now
    client.process.kill()
    client.process.wait()
    run_until_failed(mux, client)
    assert why(call) == KILLED
    assert clock.now == before


def test_result_waits_for_the_status(mux, lost):
    client, call = lost
    client.process.kill()
    wait_for_end(client.process)
    with pytest.raises(Disconnected, match=KILLED):
        call.result()
    run_to_the_end(mux, client)


def test_result_does_not_wait_for_ever(lost):
    client, call = lost
    with pytest.raises(Disconnected, match=f"{CLOSED}$"):
        call.result()
    with pytest.raises(Disconnected, match=f"{CLOSED}$"):  # the moment is over, or the clock stands
        client.y().result(5)


def test_result_with_less_time_than_the_status_has(mux, lost):
    client, call = lost
    with pytest.raises(CallTimeout):
        call.result(0.25)
    assert not client.wait(0.25)
    assert client.has_requests()
    client.process.kill()
    wait_for_end(client.process)
    run_until_failed(mux, client)
    assert why(call) == KILLED


def test_result_of_a_call_with_less_time_than_the_status_has(lost):
    client, call = lost
    short = client.y().set_timeout(0.25)
    with pytest.raises(CallTimeout):
        short.result()
    assert not call.done


def test_result_when_the_loop_has_not_seen_the_end_yet(mux, start):
    client = Client(mux, start(CLOSE_FIRST))
    call = client.x()
    client.process.kill()
    wait_for_end(client.process)
    with pytest.raises(Disconnected, match=KILLED):
        call.result()
    run_to_the_end(mux, client)


def test_calls_in_between(mux, clock, lost):
    client, call = lost
    second = client.y()
    before = clock.now
    turn(mux, client)
    assert (call.done, second.done) == (False, False)
    run_until_failed(mux, client)
    assert [why(each) for each in (call, second)] == [CLOSED, CLOSED]
    assert clock.now == pytest.approx(before + 1)
    third = client.z()
    run_until_failed(mux, client)
    assert why(third) == CLOSED
    assert clock.now == pytest.approx(before + 1)


def test_cancelling_and_timeouts_in_between(mux, clock, lost):
    client, call = lost
    late, cancelled = client.y().set_timeout(0.25), client.z()
    before = clock.now
    assert cancelled.cancel()
    with pytest.raises(CallCancelled):
        cancelled.result()
    step(mux, client, "timer")
    with pytest.raises(CallTimeout):
        late.result()
    assert clock.now == pytest.approx(before + 0.25)
    assert not call.done
    run_until_failed(mux, client)
    assert why(call) == CLOSED
    assert clock.now == pytest.approx(before + 1)


def test_the_only_call_is_cancelled_in_between(mux, clock, lost):
    client, call = lost
    before = clock.now
    call.cancel()
    assert not client.has_requests()
    step(mux, client, "timer")
    assert clock.now == pytest.approx(before + 5)  # for the process alone


def test_disconnecting_in_between(mux, clock, lost):
    client, call = lost
    before = clock.now
    client.disconnect(grace=0)
    assert not call.done  # nothing runs outside io()
    while client.has_requests():
        client.io(mux.mux())
    assert why(call) == CLOSED  # not what SIGTERM makes of it
    assert clock.now == before
    wait_for_end(client.process)
    run_to_the_end(mux, client)


def test_a_callback_that_raises_does_not_keep_the_others(mux, clock, start):
    client = Client(mux, start(CLOSE_FIRST))
    client.x(lambda sum: None)
    call = client.y()
    step(mux, client, "closed")
    with pytest.raises(Disconnected):
        run_until_failed(mux, client)
    assert why(call) == CLOSED
    assert not client.has_requests()


def test_two_clients_that_were_lost(mux, clock, start):
    clients = [Client(mux, start(CLOSE_FIRST)) for _ in range(2)]
    calls = [client.x() for client in clients]
    before = clock.now
    clients[1].process.kill()
    wait_for_end(clients[1].process)
    while clients[1].has_requests():
        event = mux.mux()
        for client in clients:
            event = client.io(event)
        assert event is None
    assert why(calls[1]) == KILLED
    assert clock.now == before
    while clients[0].has_requests():
        clients[0].io(clients[1].io(mux.mux()))
    assert why(calls[0]) == CLOSED
    assert clock.now == pytest.approx(before + 1)


def test_the_end_of_the_mux_in_between(mux, lost):
    client, call = lost
    mux.__exit__(None, None, None)
    with pytest.raises(Disconnected, match=f"{CLOSED}$"):
        call.result()
    client.disconnect()


def test_disconnecting_after_the_end_of_the_mux_in_between(mux, lost):
    client, call = lost
    mux.__exit__(None, None, None)
    client.disconnect()
    with pytest.raises(Disconnected, match=f"{CLOSED}$"):
        call.result()


def test_a_client_that_is_dropped_in_between(mux, lost):
    client, call = lost
    process = client.process
    del client, call
    process.kill()
    wait_for_end(process)
    assert {event.type for event in mux} <= {"child", "timer"}
