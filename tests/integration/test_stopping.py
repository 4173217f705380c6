"""SIGTERM and Ctrl-C: how server programs stop that `rpcasync listen` has started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.namespaces import UNSHARE, why_no_namespace
from support.programs import LIMIT, PERL, PROGRAMS, Program, listening

from rpcasync import Disconnected, connect

CALC = PROGRAMS / "calc_server.py"
BOTH = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)

HEAD = """
import os, signal, sys, time
from eventmux import EventMux
from rpcasync import Server, init_clients

def rpc_add(caller, n1: int, n2: int):
    rpc.return_(caller, n1 + n2)

def rpc_drain(caller, deadline: float, /):
    rpc.return_(caller)
    rpc.drain(deadline)

def rpc_is_draining(caller):
    rpc.return_(caller, int(rpc.draining))

mux = EventMux()
rpc = Server(mux, slow=None)
"""
LOOP = """
while rpc.has_clients():
    rpc.io(mux.mux())
print("ended", flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Start a program that `rpcasync listen` runs; return its URL, and the program."""
    with contextlib.ExitStack() as stack:

        def begin(source, *options, before=(), waits=True):
            path = source
            if isinstance(source, str):
                path = tmp_path / "server.py"
                path.write_text(source)
            words = ["-m", "rpcasync", "listen", "-u", f"unix://{tmp_path}/socket", *options, path]
            program = Program([*before, sys.executable, *words])
            stack.callback(program.stop)
            program.wait_for_log("listening on")
            url = f"unix://{tmp_path}/socket"
            if waits:
                with connect(url) as client:  # then it is behind `init_clients()`
                    client.call("methods")
            return url, program

        yield begin


def ended(program):
    """Return the exit status of a program, and what it has said besides where it listens."""
    status = program.process.wait(LIMIT)
    program._reader.join(LIMIT)
    return status, program.log[1:]


def said(name, clients, calls, seconds=30):
    return (
        f"rpcasync: {name}: waits for {clients} clients and {calls} calls, {seconds} s at most;"
        " a second signal ends it at once"
    )


@BOTH
def test_nobody_is_there(start, signum):
    _, program = start(CALC)
    program.process.send_signal(signum)
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[signum]
    assert ended(program) == (0, [f"rpcasync: {word}"])


@BOTH
def test_clients_are_waited_for(start, signum):
    url, program = start(CALC)
    waiting = Program([sys.executable, "-m", "rpcasync", "call", url, "park"])
    with connect(url) as client:
        while client.call("parked") != ("count", 1):
            pass
        program.process.send_signal(signum)
        program.wait_for_log(said(signum.name, 2, 1))
        assert client.call("add_numbers", n1=2, n2=3) == ("sum", 5)
        client.call("release")
        assert waiting.process.wait(LIMIT) == 0
        waiting.stop()
        assert client.call("add_numbers", n1=2, n2=4) == ("sum", 6)
    assert ended(program) == (0, [said(signum.name, 2, 1)])


@BOTH
def test_the_second_signal(start, signum):
    url, program = start(CALC)
    with connect(url) as client:
        client.call("echo")
        program.process.send_signal(signum)
        program.wait_for_log("waits for 1 clients")
        program.process.send_signal(signum)
        assert ended(program) == (0, [said(signum.name, 1, 0)])
        with pytest.raises(Disconnected):
            client.call("echo")


def test_the_other_signal_is_the_second(start):
    url, program = start(CALC)
    with connect(url) as client:
        client.call("echo")
        program.process.send_signal(signal.SIGINT)
        program.wait_for_log("waits for 1 clients")
        program.process.send_signal(signal.SIGTERM)
        assert ended(program)[0] == 0


def test_the_deadline(start):
    url, program = start(CALC, "--drain", "0.2")
    with connect(url) as client:
        client.call("echo")
        program.process.send_signal(signal.SIGTERM)
        status, log = ended(program)
    assert status == 0
    assert log[0] == said("SIGTERM", 1, 0, 0.2)
    assert log[1].endswith("1 clients are disconnected, 0 calls have no answer")


def test_at_once(start):
    url, program = start(CALC, "--drain", "0")
    with connect(url) as client:
        client.call("echo")
        program.process.send_signal(signal.SIGTERM)
        assert ended(program)[0] == 0


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "x"])
def test_times_that_cannot_be(value):
    words = ["-m", "rpcasync", "listen", "-u", "tcp://127.0.0.1:0", f"--drain={value}", str(CALC)]
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"{value!r} is not a number of seconds, 0 or more" in result.stderr


# When the loop does not turn

BLOCKS = """
def rpc_block(caller, path):
    print("blocks", flush=True)
    with open(path) as pipe:
        pipe.read()
    rpc.return_(caller)
"""


@pytest.fixture
def blocking(start, tmp_path):
    """A server that hangs in a procedure, and the pipe that it waits for."""
    os.mkfifo(tmp_path / "pipe")
    url, program = start(HEAD + BLOCKS + "init_clients(rpc)\n" + LOOP)
    caller = Program(
        [sys.executable, "-m", "rpcasync", "call", url, "block", f"path={tmp_path}/pipe"]
    )
    assert program.stdout.readline() == "blocks\n"
    yield program, caller, tmp_path / "pipe"
    caller.stop()


def test_a_procedure_that_blocks(blocking):
    program, caller, pipe = blocking
    program.process.send_signal(signal.SIGTERM)
    pipe.write_text("")
    assert caller.process.wait(LIMIT) == 0  # it is answered
    assert ended(program)[0] == 0
    assert program.stdout.read() == "ended\n"


def test_a_procedure_that_blocks_for_ever(blocking):
    program, caller, _ = blocking
    program.process.send_signal(signal.SIGTERM)
    program.process.send_signal(signal.SIGINT)  # two of a kind might be one, if they come at once
    assert ended(program) == (0, [])
    assert caller.process.wait(LIMIT) == 1


# Before and behind the loop

STARTS = 'print("starts", flush=True)\nsys.stdin.read() or time.sleep(1000)\n'


def test_in_start_up(start):
    _, program = start(HEAD + STARTS + "init_clients(rpc)\n" + LOOP, waits=False)
    assert program.stdout.readline() == "starts\n"
    program.process.send_signal(signal.SIGTERM)
    assert ended(program) == (-signal.SIGTERM, [])


def test_behind_the_loop(start):
    """What the program does then is its own affair."""
    behind = "print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, flush=True)\n"
    stop = "def rpc_stop(caller):\n    rpc.return_(caller)\n    rpc.close_listeners()\n"
    loop = "while (event := mux.mux()) is not None:\n    rpc.io(event)\n"
    url, program = start(HEAD + stop + "init_clients(rpc)\n" + loop + behind)
    with connect(url) as client:
        client.call("stop")
    assert ended(program) == (0, [])  # the signals do not keep the mux
    assert program.stdout.read() == "True\n"


def test_a_child_that_the_program_forks(start):
    fork = """
def rpc_fork(caller):
    pid = os.fork()
    if not pid:
        print("child", flush=True)
        time.sleep(20)
        os._exit(0)
    rpc.return_(caller, pid)

def rpc_wait(caller, pid, /):
    rpc.return_(caller, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    url, program = start(HEAD + fork + "init_clients(rpc)\n" + LOOP)
    with connect(url) as client:
        (pid,) = client.call("fork")
        assert program.stdout.readline() == "child\n"
        os.kill(pid, signal.SIGTERM)
        assert client.call("wait", pid) == (-signal.SIGTERM,)
        assert client.call("is_draining") == (0,)


# Programs that see to it themselves

HANDLER = """
def handle(signum, frame):
    print("mine", flush=True)
    handled.append(signum)
handled = []
"""
WATCHING = """
while rpc.has_clients():
    event = rpc.io(mux.mux())
    if event is not None and event.type == "signal":
        print("mine", flush=True)
"""


@pytest.mark.parametrize(
    "source",
    [
        HANDLER + "signal.signal(signal.SIGTERM, handle)\ninit_clients(rpc)\n" + LOOP,
        HANDLER + "init_clients(rpc)\nsignal.signal(signal.SIGTERM, handle)\n" + LOOP,
        HANDLER
        + "init_clients(rpc)\nbefore = signal.getsignal(signal.SIGTERM)\n"
        + "signal.signal(signal.SIGTERM, lambda *args: (handle(*args), before(*args)))\n"
        + LOOP,
        "mux.signal(signal.SIGTERM)\ninit_clients(rpc)\n" + WATCHING,
        "init_clients(rpc)\nmux.signal(signal.SIGTERM)\n" + WATCHING,
    ],
    ids=["handler before", "handler behind", "handler in front", "watch before", "watch behind"],
)
def test_its_own_handling_comes_first(start, source):
    url, program = start(HEAD + source)
    with connect(url) as client:
        for _ in range(3):
            program.process.send_signal(signal.SIGTERM)
            assert program.stdout.readline() == "mine\n"
            assert client.call("is_draining") == (0,)
        client.call("drain", 0)
        program.process.wait(LIMIT)


def test_signals_that_are_ignored_stay_so(start):
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    url, program = start(HEAD + ignore + "init_clients(rpc)\n" + LOOP)
    with connect(url) as client:
        program.process.send_signal(signal.SIGINT)
        assert client.call("is_draining") == (0,)
        program.process.send_signal(signal.SIGTERM)
        program.wait_for_log("waits for 1 clients")
    assert ended(program)[0] == 0


def test_a_program_that_is_started_by_itself(tmp_path):
    """Then a signal does what it does to any program."""
    path = tmp_path / "server.py"
    path.write_text(HEAD + 'init_clients(rpc)\nprint("here", flush=True)\n' + LOOP)
    program = Program([sys.executable, path, "-u", f"unix://{tmp_path}/socket"])
    assert program.stdout.readline() == "here\n"
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT) == -signal.SIGTERM
    program.stop()


def test_in_another_thread(start):
    """Signals belong to the main thread; the program is served all the same."""
    source = HEAD + (
        "import threading\n"
        "def serve():\n"
        "    init_clients(rpc)\n"
        "    while rpc.has_clients():\n"
        "        rpc.io(mux.mux())\n"
        "thread = threading.Thread(target=serve)\nthread.start()\nthread.join()\n"
    )
    url, program = start(source)
    with connect(url) as client:
        assert client.call("add", n1=2, n2=3) == (5,)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(LIMIT) == -signal.SIGTERM


# The first process of a container


@pytest.fixture
def first(start):
    """Start a program as the first process of a PID namespace; return its pid out here, too."""
    if why := why_no_namespace():
        pytest.skip(f"no PID namespace: {why}")

    def begin(source, **options):
        url, program = start(source, before=UNSHARE, **options)
        pid = program.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return url, program, int(child)

    return begin


@BOTH
def test_as_the_first_process(first, signum):
    url, program, pid = first(HEAD + "init_clients(rpc)\nprint(os.getpid(), flush=True)\n" + LOOP)
    assert program.stdout.readline() == "1\n"
    with connect(url) as client:
        client.call("add", n1=2, n2=3)
        os.kill(pid, signum)
        program.wait_for_log(said(signum.name, 1, 0))
        assert client.call("add", n1=2, n2=3) == (5,)
    assert ended(program)[0] == 0


def test_the_second_signal_as_the_first_process(first):
    url, program, pid = first(HEAD + "init_clients(rpc)\n" + LOOP)
    with connect(url) as client:
        client.call("add", n1=2, n2=3)
        os.kill(pid, signal.SIGTERM)
        program.wait_for_log("waits for 1 clients")
        os.kill(pid, signal.SIGTERM)
        assert ended(program)[0] == 0


def test_in_start_up_as_the_first_process(first):
    _, program, pid = first(HEAD + STARTS + "init_clients(rpc)\n" + LOOP, waits=False)
    assert program.stdout.readline() == "starts\n"
    os.kill(pid, signal.SIGTERM)
    assert ended(program) == (128 + signal.SIGTERM, [])


# Loops that never end

FOREVER = "init_clients(rpc)\nwhile True:\n    rpc.io(mux.mux())\n"


@BOTH
def test_a_loop_that_never_ends(start, signum):
    url, program = start(HEAD + FOREVER)
    with connect(url) as client:
        assert client.add(n1=2, n2=3) == (5,)
        program.process.send_signal(signum)
        program.wait_for_log("waits for 1 clients")
        assert client.add(n1=3, n2=4) == (7,)
    assert ended(program) == (0, [said(signum.name, 1, 0)])


def test_a_loop_that_never_ends_and_waits_for_something_else(start):
    """It goes on, as it has something to do; the second signal ends it."""
    url, program = start(HEAD + "watch = mux.timer(0.01, repeat=True)\n" + FOREVER)
    with connect(url) as client:
        program.process.send_signal(signal.SIGTERM)
        program.wait_for_log("waits for 1 clients")
        assert client.add(n1=3, n2=4) == (7,)
    with pytest.raises(subprocess.TimeoutExpired):
        program.process.wait(0.2)
    program.process.send_signal(signal.SIGINT)
    assert ended(program)[0] == 0


# Under load


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "unix://{}/first"], ids=["tcp", "unix"])
def test_no_call_of_busy_clients_is_lost(tmp_path, url):
    """Twenty move to a second server while they call, when the first one gets SIGTERM."""
    with contextlib.ExitStack() as stack:
        first_url, first = stack.enter_context(listening(CALC, url.format(tmp_path)))
        next_url, _ = stack.enter_context(listening(CALC))
        clients = []
        for _ in range(20):
            words = [PROGRAMS / "moving_client.py", first_url, next_url, "100"]
            clients.append(Program([sys.executable, *words]))
            stack.callback(clients[-1].stop)
        for client in clients:
            assert client.stdout.readline() == "busy\n"
        first.process.send_signal(signal.SIGTERM)
        counts = [[*map(int, client.stdout.readline().split())] for client in clients]
        status, log = ended(first)
    assert all(len(each) == 3 for each in counts), counts
    assert [each[2] for each in counts] == [0] * 20
    assert sum(each[1] for each in counts) >= 20 * 100
    assert status == 0
    (line,) = (line for line in log if "blocked the loop" not in line)  # on a busy machine
    assert line.startswith("rpcasync: SIGTERM: waits for 20 clients and ")


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_a_perl_client_that_asks(start):
    """The function is called once, and the client need not keep it; then it still has answers."""
    url, program = start(CALC)
    client = Program(["perl", PERL / "goaway_client.pl", url])
    try:
        assert client.stdout.readline() == "0 values, told 0 times\n"
        program.process.send_signal(signal.SIGTERM)
        assert client.stdout.readline() == "told 1 times, keeps 0, sum 5\n"
        assert client.process.wait(LIMIT) == 0
        assert ended(program) == (0, [said("SIGTERM", 1, 0)])
    finally:
        client.stop()
