"""`rpcasync listen --workers`: one program in several processes, as users and systemd see them."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from support.loads import Load
from support.namespaces import UNSHARE, why_no_namespace
from support.programs import LIMIT, PROGRAMS, Program

from eventmux import EventMux
from rpcasync import Backoff, Client, Disconnected, connect
from rpcasync.cli import main

CALC = PROGRAMS / "calc_server.py"
LISTEN = [sys.executable, "-m", "rpcasync", "listen"]


class Crew:
    """A parent and its workers; it is told of by `told`, as systemd would be."""

    def __init__(self, folder, count, *words, program=CALC, before=(), env=(), **options):
        self.url = f"unix://{folder}/socket"
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.settimeout(LIMIT)
        self.told.bind(f"{folder}/told")
        environment = ["env", f"NOTIFY_SOCKET={folder}/told", *env]
        command = [*LISTEN, "--workers", str(count), "-u", self.url, *words, program]
        self.program = Program([*environment, *before, *command], **options)
        self.pid = self.program.process.pid

    def close(self):
        running = [*self.workers(), self.pid] if self.program.process.poll() is None else []
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.program.stop()
        self.told.close()

    def hears(self, *states):
        """Wait for what systemd is told next."""
        for state in states:
            assert self.told.recv(1000) == state

    def workers(self):
        with contextlib.suppress(FileNotFoundError):
            return [int(pid) for pid in Path(self._children()).read_text().split()]
        return []

    def _children(self):
        return f"/proc/{self.pid}/task/{self.pid}/children"

    def wait_for_another(self, *before):
        """Return the process of a worker that was not there before, once it serves clients."""
        limit = time.monotonic() + LIMIT
        while True:
            with contextlib.suppress(Disconnected), connect(self.url) as client:
                if (pid := client.call("whoami")["pid"]) not in before:
                    return pid
            assert time.monotonic() < limit, self.program.log

    def ends(self):
        """Wait for the end of it all; return the exit status."""
        status = self.program.process.wait(LIMIT)
        self.program._reader.join(LIMIT)
        return status


@pytest.fixture
def crew(tmp_path):
    with contextlib.ExitStack() as stack:

        def begin(*words, **options):
            started = Crew(tmp_path, *words, **options)
            stack.callback(started.close)
            return started

        yield begin


def pids_of(clients):
    calls = [client.call("whoami") for client in clients]
    return Counter(call.result(LIMIT)["pid"] for call in calls)


def failed(call):
    """Return whether the server of a call has gone."""
    with contextlib.suppress(Disconnected):
        call.result(LIMIT)
        return False
    return True


def answers(client):
    """Return whether the server of a client is still there."""
    with contextlib.suppress(Disconnected):
        client.call("echo")
        return True
    return False


def connected(mux, url, count, **options):
    """Return clients that are all there."""
    clients = [Client(mux, url, **options) for _ in range(count)]
    pids_of(clients)
    return clients


def wait_for_end(pids):
    """Wait until processes have ended that are not ours."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            number = os.pidfd_open(pid)
            try:
                assert select.select([number], [], [], LIMIT)[0], pid
            finally:
                os.close(number)


# Who serves whom


def test_clients_are_spread_evenly(crew):
    four = crew(4)
    four.hears(b"READY=1")
    with EventMux() as mux:
        assert min(pids_of(connected(mux, four.url, 40)).values()) >= 6
    with EventMux() as mux:
        clients = [connected(mux, four.url, 1)[0] for _ in range(40)]
        spread = pids_of(clients)
        assert len(spread) == 4
        assert min(spread.values()) >= 6
        # Who comes back behind the end of a worker goes to the one that is new.
        (dead, count), *_ = spread.items()
        os.kill(dead, signal.SIGKILL)
        four.wait_for_another(*spread)
        left = [client for client in clients if not failed(client.call("echo"))]
        spread = pids_of([*left, *connected(mux, four.url, count)])
        assert len(spread) == 4
        assert min(spread.values()) >= 6


# Rolls


@pytest.mark.parametrize(("count", "rounds"), [(2, 1), pytest.param(4, 3, marks=pytest.mark.slow)])
def test_no_call_fails_while_workers_are_rolled(crew, count, rounds):
    rolled = crew(count)
    rolled.hears(b"READY=1")
    with EventMux() as mux:
        load = Load(mux, [rolled.url], 20)
        load.answer_more(200)
        for _ in range(rounds):
            before, began = {*rolled.workers()}, time.monotonic()
            os.kill(rolled.pid, signal.SIGHUP)
            load.turn_until(lambda before=before: not before & {*rolled.workers()})
            print(f"rolled in {time.monotonic() - began:.1f} s")
            load.answer_more(200)
        load.is_on = False
        load.turn_until(lambda: not any(client.has_requests() for client in load.clients))
        print(f"{load.answers} calls, {len(load.errors)} failed")
        spread = pids_of(load.clients)
        assert len(spread) == count
        assert min(spread.values()) >= 12 // count
    assert load.errors == []


SERVER = """
import os, signal, sys
from eventmux import EventMux
from rpcasync import Server, init_clients, notify

def rpc_whoami(caller):
    rpc.return_(caller, pid=os.getpid(), version=VERSION)

mux = EventMux()
rpc = Server(mux, slow=None)
"""
LOOP = """
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""


@pytest.fixture
def program(tmp_path):
    """Write another version of a program."""
    path = tmp_path / "server.py"

    def write(version, source=""):
        path.write_text(f"VERSION = {version!r}\n{SERVER}{source}{LOOP}")
        return path

    return write


def version(crew):
    with connect(crew.url) as client:
        return client.call("whoami")["version"]


def test_a_replacement_that_fails_keeps_the_old_ones(crew, program):
    two = crew(2, program=program(1))
    two.hears(b"READY=1")
    program(2, "sys.exit(3)")
    before = two.workers()
    os.kill(two.pid, signal.SIGHUP)
    two.program.wait_for_log("a replacement failed: the roll ends, with 0 of 2 workers replaced")
    assert two.program.log[-2].endswith(") ended before it was ready: exit status 3")
    assert two.workers() == before
    assert version(two) == 1
    # One that dies now is not there any more, until the program is mended.
    os.kill(before[0], signal.SIGKILL)
    two.program.wait_for_log(f"(process {before[0]}) ended: SIGKILL; it is started again in 0.")
    two.program.wait_for_log("ended: exit status 3; it is started again in ")
    assert version(two) == 1
    program(4)
    os.kill(two.pid, signal.SIGHUP)
    two.program.wait_for_log("2 workers are replaced")
    assert version(two) == 4


def test_a_second_roll_follows_the_first(crew, program):
    one = crew(1, program=program(1))
    one.hears(b"READY=1")
    os.kill(one.pid, signal.SIGHUP)
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    for again in (True, False):
        reloading, _, usec = one.told.recv(1000).partition(b"\nMONOTONIC_USEC=")
        assert reloading == b"RELOADING=1"
        assert abs(int(usec) - now) < LIMIT * 1e6
        if again:
            os.kill(one.pid, signal.SIGHUP)
        one.hears(b"READY=1")


def test_the_signal_is_for_the_parent(crew):
    """`systemctl kill` sends it to all."""
    one = crew(1)
    one.hears(b"READY=1")
    (worker,) = one.workers()
    with connect(one.url) as client:
        client.call("echo")
        os.kill(worker, signal.SIGHUP)
        assert client.call("whoami")["pid"] == worker


# Workers that end


@pytest.mark.parametrize(
    ("source", "status"), [("sys.exit(3)", 3), ("if", 1), ("os.kill(os.getpid(), 9)", 137)]
)
def test_a_program_that_cannot_start(crew, program, source, status):
    four = crew(4, program=program(1, source))
    assert four.ends() == status
    end = "SIGKILL" if status > 128 else f"exit status {status}"
    lasts = [line for line in four.program.log if "before it was ready" in line]
    assert [line.partition(") ")[2] for line in lasts] == [f"ended before it was ready: {end}"]


def test_workers_do_not_outlive_their_parent(crew):
    two = crew(2, "--drain", "0.1")
    two.hears(b"READY=1")
    workers = two.workers()
    with connect(two.url) as client:
        client.call("echo")
        two.program.process.kill()
        wait_for_end(workers)


def test_a_call_is_answered_when_the_parent_has_died(crew):
    one = crew(1)
    one.hears(b"READY=1")
    workers = one.workers()
    with connect(one.url) as client:
        client.call("echo")
        one.program.process.kill()
        one.program.wait_for_log("which started this one, has gone: SIGTERM")
        assert client.call("add_numbers", n1=2, n2=3) == ("sum", 5)
    wait_for_end(workers)


# The end


def waits(name, count):
    limit = "30 s at most; a second signal ends it at once"
    return f"rpcasync: {name}: waits for {count} workers, {limit}"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_all_of_a_terminal(crew, name):
    """So Ctrl-C comes to the parent and to its workers, and systemd's SIGTERM to all of a unit."""
    two = crew(2, start_new_session=True)
    two.hears(b"READY=1")
    with connect(two.url) as client:
        client.call("echo")
        os.killpg(two.pid, signal.Signals[name])
        if name == "SIGTERM":
            for pid in two.workers():
                os.kill(pid, signal.SIGTERM)
        two.hears(b"STOPPING=1")
        assert two.program.wait_for_log("waits for") == waits(name, 2)
        assert client.call("add_numbers", n1=2, n2=3) == ("sum", 5)
    assert two.ends() == 0
    assert len(two.program.log) == 2


def test_the_second_signal(crew):
    two = crew(2)
    two.hears(b"READY=1")
    with connect(two.url) as client:
        client.call("echo")
        two.program.process.send_signal(signal.SIGTERM)
        two.program.wait_for_log("waits for 2 workers")
        two.program.process.send_signal(signal.SIGINT)
        while answers(client):
            pass
    assert two.ends() == 0
    assert len(two.program.log) == 2


def test_in_start_up(crew, program):
    one = crew(1, program=program(1, 'print("starts", flush=True); signal.pause()'))
    assert one.program.stdout.readline() == "starts\n"
    one.program.process.send_signal(signal.SIGTERM)
    assert one.ends() == 0


# As the first process of a container


def test_as_the_first_process(crew, program):
    if why := why_no_namespace():
        pytest.skip(f"no PID namespace: {why}")
    orphan = """
def rpc_leave_orphan(caller):
    os.system("sh -c 'exit 0' &")
    rpc.return_(caller)
"""
    one = crew(1, program=program(1, orphan), before=UNSHARE)
    one.hears(b"READY=1")
    (one.pid,) = one.workers()  # of `unshare`
    workers = one.workers()
    with connect(one.url) as client:
        assert workers == one.workers()
        client.call("leave_orphan")
        limit = time.monotonic() + LIMIT
        while one.workers() != workers:  # it has been, or is, among them
            assert time.monotonic() < limit
        os.kill(one.pid, signal.SIGTERM)
        one.hears(b"STOPPING=1")
        assert client.call("whoami")["version"] == 1
    assert one.ends() == 0


# systemd


def test_a_worker_that_hangs_is_replaced(crew):
    two = crew(2, env=["WATCHDOG_USEC=400000"])
    two.hears(b"READY=1", b"WATCHDOG=1")
    hung, _ = before = two.workers()
    os.kill(hung, signal.SIGSTOP)
    line = two.program.wait_for_log("gave no sign of life")
    assert line.endswith(f"(process {hung}) gave no sign of life for 0.4 s: SIGABRT")
    os.kill(hung, signal.SIGCONT)  # else it is killed, five seconds later
    two.program.wait_for_log(f"(process {hung}) ended: SIGABRT")
    two.wait_for_another(*before)


def test_what_a_worker_tells_systemd_is_passed_on(crew, program):
    one = crew(1, program=program(1, 'notify("STATUS=loads")'))
    one.hears(b"STATUS=worker 1: loads", b"READY=1")


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="no systemd-socket-activate command"
)
def test_the_sockets_of_systemd(tmp_path, crew):
    path = f"{tmp_path}/theirs"
    tool = ["systemd-socket-activate", "-E", "PYTHONPATH", "-E", "NOTIFY_SOCKET", "-l", path]
    two = crew(2, before=tool)
    two.program.wait_for_log("Listening on")
    with EventMux() as mux:
        first = connected(mux, f"unix://{path}", 1)  # it is started by that
        two.hears(b"READY=1")
        clients = connected(mux, f"unix://{path}", 3, reconnect=Backoff(0.01, 0.1))
        before = {*pids_of(clients)}
        assert len(before) == 2
        first[0].disconnect()
        os.kill(two.pid, signal.SIGHUP)
        while before & {*pids_of(clients)}:
            pass
        two.program.wait_for_log("2 workers are replaced")
    with EventMux() as mux:  # it listens there, too
        assert {*pids_of(connected(mux, two.url, 4))} == {*two.workers()}


# The log, and what cannot be


def test_each_line_of_the_log_tells_the_process(tmp_path, crew):
    two = crew(2, "--log-file", f"{tmp_path}/log")
    two.hears(b"READY=1")
    lines = Path(f"{tmp_path}/log").read_text().splitlines()
    for pid in (two.pid, *two.workers()):
        begins = f"INFO rpcasync[{pid}]: {CALC} begins: process {pid}"
        assert [line for line in lines if line.endswith(begins)]


@pytest.mark.parametrize("number", ["0", "-1", "two", "513", "1.5", "1e3"])
def test_numbers_that_cannot_be(number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["listen", f"--workers={number}", "-u", "tcp://127.0.0.1:0", str(CALC)])
    assert f"{number!r} is not a number of workers: 1 to 512" in capsys.readouterr().err


def test_a_report_that_is_one_file(tmp_path, capsys):
    words = ["--shadow", "tcp://127.0.0.1:1", "--shadow-report", f"{tmp_path}/report"]
    with pytest.raises(SystemExit, match="2"):
        main(["listen", "--workers=2", "-u", "tcp://127.0.0.1:0", *words, str(CALC)])
    problem = "--shadow-report is one file, which several workers cannot keep"
    assert problem in capsys.readouterr().err
