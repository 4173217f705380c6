"""A fleet behind HAProxy: rolled, loaded, killed, and HAProxy itself with it.

The workers, HAProxy and the clients are those of `examples/fleet/fleet.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from subprocess import PIPE

import pytest
from support.documents import blocks
from support.programs import LIMIT, PERL, PROGRAMS, ROOT, Program
from support.proxies import needs_haproxy

from eventmux import EventMux
from rpcasync import Backoff, Client, Disconnected

pytestmark = needs_haproxy
FOLDER = ROOT / "examples" / "fleet"
SCRIPT = FOLDER / "fleet.py"
PAGE = ROOT / "docs" / "howto" / "fleet.md"
CALC = str(PROGRAMS / "calc_server.py")

_spec = importlib.util.spec_from_file_location("fleet", SCRIPT)
fleet = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fleet)


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


# The script


def play(*options):
    return subprocess.run(
        [sys.executable, SCRIPT, *options], capture_output=True, text=True, timeout=58, check=False
    )


ROW = re.compile(r"(.+?) +w1 +(\d+)   w2 +(\d+)   w3 +(\d+)   w4 +(\d+)   (\d+) failed")


def check(result, clients):
    assert (result.returncode, result.stderr) == (0, "")
    first, *lines, last = result.stdout.splitlines()
    assert first.startswith(f"{clients} clients at tcp://127.0.0.1:")
    assert re.fullmatch(r"\d+ calls, 0 failed", last)
    rows = [ROW.fullmatch(line).groups() for line in lines]
    titles = ["at first", "w1 restarted", "w2 restarted", "w3 restarted", "w4 added"]
    assert [row[0] for row in rows if not row[0].endswith("later")] == titles
    assert int(rows[1][1]) <= 1  # who was just restarted has nobody, or the next who was moved
    assert min(map(int, rows[-1][1:5])) >= clients // 8


def test_the_script():
    check(play("--clients", "6", "--max-age", "1"), 6)


@pytest.mark.slow
def test_the_script_as_it_is():
    check(play(), 20)


@pytest.mark.parametrize("signum", [signal.SIGINT, slow(signal.SIGTERM)])
def test_it_cleans_up(signum, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = Program([sys.executable, SCRIPT, "--max-age", "60"])
    try:
        assert program.stdout.readline().startswith("20 clients at ")
        (folder,) = tmp_path.iterdir()
        assert processes_with(folder)
        program.process.send_signal(signum)
        assert program.process.wait(LIMIT) == 128 + signum
        assert list(tmp_path.iterdir()) == []
        assert processes_with(folder) == []
        assert program.log == []
    finally:
        program.stop()


def processes_with(folder):
    """Return the processes that know of a folder, by an argument or a variable."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            if bytes(folder) in text:
                found.append(path.name)
    return found


# What the documentation shows


def test_the_files_of_the_documentation():
    (lines,) = blocks(PAGE, "haproxy")
    assert lines == (FOLDER / "haproxy.cfg").read_text()
    drop_in = (FOLDER / "worker@.service.d" / "fleet.conf").read_text()
    assert textwrap.indent(drop_in, "    ") in PAGE.read_text()


def test_the_drop_in_has_the_command_of_the_worker():
    """All that is different is what makes it one of a fleet."""
    begin = "ExecStart="
    unit = (ROOT / "examples" / "systemd" / "worker@.service").read_text()
    (usual,) = (line for line in unit.splitlines() if line.startswith(begin))
    _, reset, ours = (FOLDER / "worker@.service.d" / "fleet.conf").read_text().splitlines()
    more = "--proxy require --trusted unix: --agent tcp://127.0.0.1:710%i --max-age 3600 "
    assert (reset, ours.replace(more, "")) == (begin, usual)


# What becomes of calls


class Fleet:
    """Workers and HAProxy, with clients that call without pause."""

    def __init__(self, stack, folder, count, *, options=(), program=CALC, max_age=3600):
        self._stack = stack
        self.workers = [fleet.Worker(n, folder, max_age) for n in range(1, 5)]
        self.used = self.workers[:count]
        for worker in self.workers:
            worker.command[-1:] = [*options, program]
            stack.callback(worker.stop)
        self.balancer = fleet.Balancer(folder, self.workers)
        stack.callback(self.balancer.stop)
        self.mux = stack.enter_context(EventMux())
        self.load = fleet.Load(self.mux, self.balancer.url, 0)
        for worker in self.used:
            worker.start()
        for worker in self.used:
            self.wait(lambda w=worker: self.balancer.has(w))

    def wait(self, is_over):
        self.load.go_on(is_over, "something")

    def begin(self, clients, retry=None):
        """Have clients, each of which has had answers, and none an error."""
        self.load = Load(self.mux, self.balancer.url, clients, retry)
        self._stack.callback(self.load.stop)
        self.go_on()

    def go_on(self, calls=200):
        """Have so many more answers."""
        goal = self.load.calls + calls
        self.wait(lambda: self.load.calls >= goal)

    def restart(self, worker):
        worker.drain()
        self.wait(worker.has_ended)
        assert worker.process.returncode == 0
        worker.start()
        self.wait(lambda: self.balancer.has(worker))


class Load(fleet.Load):
    """Clients that may send a call again."""

    def __init__(self, mux, url, count, retry):
        super().__init__(mux, url, 0)
        self.clients = [
            Client(mux, url, reconnect=Backoff(0.01, 0.2), retry=retry) for _ in range(count)
        ]
        for client in self.clients:
            self.call(client)


@pytest.fixture
def make():
    """Make a fleet, in a folder whose name is short: HAProxy has 90 characters for a socket."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        yield lambda *args, **options: Fleet(stack, folder, *args, **options)


def test_a_worker_that_is_killed_loses_what_it_had(make):
    """Each error says that the call may have run; no other call fails."""
    it = make(2)
    it.begin(10)
    theirs = it.balancer.clients()[it.used[0].name]
    it.used[0].process.kill()
    it.wait(it.used[0].has_ended)
    it.go_on()
    errors = it.load.errors
    assert 0 < len(errors) <= theirs
    assert all(isinstance(error, Disconnected) and error.may_have_run for error in errors)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_that_may_run_twice(make):
    it = make(2)
    it.begin(10, "idempotent")
    it.used[0].process.kill()
    it.wait(it.used[0].has_ended)
    it.go_on()
    assert it.load.errors == []


@pytest.mark.parametrize("retry", [slow(None), "idempotent"])
def test_haproxy_is_killed(make, retry):
    """It takes all connections with it, and each client had a call under way."""
    it = make(2)
    it.begin(10, retry)
    it.balancer.process.kill()
    it.balancer.process.wait()
    it.balancer.start()
    it.go_on(400)
    errors = it.load.errors
    assert len(errors) <= (0 if retry else 10)
    assert all(isinstance(error, Disconnected) and error.may_have_run for error in errors)
    assert errors or retry


@pytest.mark.slow
def test_haproxy_is_reloaded(make):
    """The old one serves the connections that it has, and the new one those that come."""
    it = make(2)
    it.begin(10)
    old = it.balancer.process
    it.balancer.start("-sf", str(old.pid))
    it.wait(lambda: it.balancer.has(it.used[0]) and not sum(it.balancer.clients().values()))
    it.go_on()
    assert old.poll() is None
    for worker in it.used:
        it.restart(worker)
    it.wait(lambda: old.poll() is not None)  # all clients have moved
    assert sum(it.balancer.clients().values()) == 10
    assert it.load.errors == []


def test_a_loaded_worker_gets_less(make):
    it = make(2, options=["--outstanding", "4"])
    loaded, idle = it.used
    with socket.socket(socket.AF_UNIX) as sock:  # past HAProxy
        sock.connect(loaded.command[loaded.command.index("-u") + 1].removeprefix("unix://"))
        sock.sendall(b"PROXY UNKNOWN\r\n")
        client = Client(it.mux, sock)
        it.load.clients.append(client)
        for _ in range(32):
            client.park()

        def weights():
            return [it.balancer.rows()[worker.name]["weight"] for worker in it.used]

        it.wait(lambda: weights() == ["11", "100"])  # 100 / (1 + 32 / 4)
        others = [Client(it.mux, it.balancer.url) for _ in range(10)]
        it.load.clients += others
        it.wait(lambda: sum(it.balancer.clients().values()) == 10)
        clients = it.balancer.clients()
        assert clients[loaded.name] <= 1
        assert clients[idle.name] >= 9
        for each in others:
            each.disconnect(0)
        client.disconnect(0)
        it.wait(lambda: weights() == ["100", "100"])


class PerlClient:
    """A program in Perl that calls without pause, and connects anew behind so many calls."""

    def __init__(self, stack, url, calls):
        self.program = Program(["perl", PERL / "rolling_client.pl", url, str(calls)], stdin=PIPE)
        stack.callback(self.program.stop)
        assert self.program.stdout.readline() == "busy\n"

    def end(self):
        """Return how often it has connected, how many calls were answered, and how many failed."""
        self.program.process.stdin.close()
        line = self.program.stdout.readline()
        assert self.program.process.wait(LIMIT) == 0, self.program.log
        return [int(number) for number in re.findall(r"\d+", line)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_perl_clients_while_workers_are_rolled(make):
    """They cannot be asked to go. One that stays fails once for each worker that it has outstayed.

    One that connects anew from time to time fails never, if it does so before the deadline.
    """
    it = make(3, options=["--drain", "1"])
    with contextlib.ExitStack() as stack:
        staying = [PerlClient(stack, it.balancer.url, 0) for _ in range(3)]
        coming = [PerlClient(stack, it.balancer.url, 20) for _ in range(3)]
        for worker in it.used:
            it.restart(worker)
        stayed, came = [each.end() for each in staying], [each.end() for each in coming]
    print(f"those who stay: {stayed}, those who come again: {came}")
    for connections, calls, failed in stayed:
        assert calls > 0
        assert 1 <= failed <= 3
        assert connections == failed + 1
    for connections, calls, failed in came:
        assert calls > 0
        assert connections > 3
        assert failed == 0
