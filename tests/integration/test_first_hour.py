"""The mistakes of a first hour: tiny programs, run as a user runs them, and what the user reads.

Each test has the whole message. The server is a program beside the client's, which starts it.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import textwrap
from pathlib import Path

import pytest
from support.programs import run

pytestmark = pytest.mark.slow

SERVER = """
from eventmux import EventMux
from rpcasync import Server, init_clients

def rpc_add(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)

def rpc_count(caller, to: int, progress=None):
    progress(1)
    rpc.return_(caller, to)

mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""
BEGIN = """
from eventmux import EventMux
from rpcasync import Client

mux = EventMux()
rpc = Client(mux, "python://server.py")
"""
LOOP = """
while rpc.has_requests():
    rpc.io(mux.mux())
"""


@pytest.fixture
def stderr_of(tmp_path):
    """Run a program beside its server; return the lines of stderr, and nothing on stdout."""

    def run_it(source, begin=BEGIN, server=SERVER):
        (tmp_path / "server.py").write_text(server)
        path = tmp_path / "client.py"
        path.write_text(begin + textwrap.dedent(source))
        done = run(sys.executable, path, cwd=tmp_path)
        assert done.stdout == ""
        return done.stderr.splitlines()

    return run_it


def exception_in(lines):
    """Return the last line of a traceback, which is all that there is."""
    assert lines[0] == "Traceback (most recent call last):"
    assert sum(not line.startswith(" ") for line in lines) == 2
    return lines[-1]


# Wrong name


def test_a_procedure_that_is_not_there(stderr_of):
    assert exception_in(stderr_of("rpc.ad(n1=2, n2=3).result()")) == (
        "rpcasync.errors.RemoteError: No sub 'ad' in package 'main'"
    )


def test_a_procedure_that_is_not_there_and_nobody_asks(stderr_of):
    assert stderr_of("rpc.ad(n1=2, n2=3)" + LOOP) == [
        "WARNING rpcasync: a call without a callback failed: ad: No sub 'ad' in package 'main'"
    ]


def test_a_method_of_the_clients_that_is_misspelt(stderr_of):
    (line,) = stderr_of("rpc.disconect()" + LOOP)
    assert line == (
        "WARNING rpcasync: a call without a callback failed: disconect: No sub 'disconect' in"
        " package 'main'; Client itself has disconnect()"
    )


def test_an_option_that_is_misspelt(stderr_of):
    lines = stderr_of("Client(mux, 'tcp://127.0.0.1:7007', tiemout=3)")
    assert exception_in(lines) == (
        "TypeError: Client() has no option 'tiemout'; did you mean 'timeout'?"
    )


def test_the_mux_is_forgotten(stderr_of):
    assert exception_in(stderr_of("Client('tcp://127.0.0.1:7007')")) == (
        "TypeError: Client('tcp://127.0.0.1:7007'): the mux comes first:"
        " Client(mux, 'tcp://127.0.0.1:7007')"
    )


def test_io_without_its_event(stderr_of):
    lines = stderr_of("rpc.add(print, n1=2, n2=3)\nrpc.io(mux.mux)")
    assert exception_in(lines).startswith("TypeError: event is <bound method EventMux.mux of ")
    assert lines[-1].endswith(">, must be an event or None: rpc.io(mux.mux())")


# No server


NO_SERVER = """
import socket
from eventmux import EventMux
from rpcasync import Client

unused = socket.socket()
unused.bind(("127.0.0.1", 0))
mux = EventMux()
rpc = Client(mux, "tcp://127.0.0.1:%d" % unused.getsockname()[1])
"""


@pytest.mark.parametrize(
    "program",
    [
        "rpc.add(n1=2, n2=3).result()",
        "rpc.add(lambda sum: print(sum), n1=2, n2=3)" + LOOP,
    ],
    ids=["result", "callback"],
)
def test_no_server(stderr_of, program):
    head, url, tail = exception_in(stderr_of(program, NO_SERVER)).partition("tcp://127.0.0.1:")
    assert head == "rpcasync.errors.Disconnected: add: "
    assert url + tail.lstrip("0123456789") == (
        "tcp://127.0.0.1:: Connection refused: is the server running?"
    )


def test_no_server_and_nobody_asks(stderr_of):
    (line,) = stderr_of("rpc.add(n1=2, n2=3)" + LOOP, NO_SERVER)
    assert line.startswith(
        "WARNING rpcasync: a call without a callback failed: add: tcp://127.0.0.1:"
    )
    assert line.endswith(": Connection refused: is the server running?")


# A callback that does not fit


def test_a_callback_that_takes_a_value_by_another_name(stderr_of):
    assert exception_in(stderr_of("rpc.add(lambda total: print(total), n1=2, n2=3)" + LOOP)) == (
        "rpcasync.errors.ArgumentError: answer of add, to its callback: unknown name sum; got"
        " ['sum', 5]: write lambda sum: or lambda *values:"
    )


@pytest.mark.parametrize("named", ["progress=done", "'progress', done, lambda *values: None"])
def test_a_callback_that_gets_a_value_without_a_name(stderr_of, named):
    lines = stderr_of(f"def done(x):\n    pass\nrpc.count('to', 3, {named})" + LOOP)
    assert exception_in(lines) == (
        "rpcasync.errors.ArgumentError: values of the server, to argument progress of count: takes"
        " names and values, got an odd number of them: 1; got 1: write def done(x, /):"
    )


# The loop is never turned


def test_the_loop_is_never_turned(stderr_of):
    (line,) = stderr_of("rpc.add(print, n1=2, n2=3)")
    assert line == (
        "WARNING rpcasync: python://server.py: calls that were never sent: add; they leave when"
        " the connection is up and the loop turns: rpc.io(mux.mux()), or ask for call.result()"
    )


def test_the_loop_is_turned_without_the_client(stderr_of):
    lines = stderr_of("rpc.add(print, n1=2, n2=3)\nfor event in mux:\n    raise KeyboardInterrupt")
    assert lines[-1] == (
        "WARNING rpcasync: python://server.py: rpc.io() was given no event, so nobody hears what"
        " comes of add; turn the loop with rpc.io(mux.mux()), or ask for call.result()"
    )


# In the server: what it logs comes first, and then what the client is told


SERVERS_FAULTS = """
from eventmux import EventMux
from rpcasync import Server, init_clients

def rpc_forget(caller):
    return 5

def rpc_twice(caller):
    rpc.return_(caller, 1)
    rpc.return_(caller, 2)

def rpc_boom(caller):
    raise KeyError("no such user")

def rpc_alone():
    return 5

def rpc_set(caller):
    rpc.return_(caller, users=[{"tags": {1, 2}}])

mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""


@pytest.fixture
def told_by(stderr_of):
    """Call a procedure of a server with faults; return all that does not belong to a traceback."""

    def told(call):
        lines = stderr_of(f"rpc.{call}.result()", server=SERVERS_FAULTS)
        return [line for line in lines if not line.startswith((" ", "Traceback"))]

    return told


def test_values_of_a_wrong_type(stderr_of):
    assert exception_in(stderr_of("rpc.add(n1=2, n2='three').result()")) == (
        "rpcasync.errors.RemoteError: add: n2: cannot convert str 'three' to int"
    )


def test_values_without_names(stderr_of):
    assert exception_in(stderr_of("rpc.add(2, 3).result()")) == (
        "rpcasync.errors.RemoteError: add takes n1=, n2=; got values without names"
    )


def test_an_answer_that_is_forgotten(told_by):
    warning, error, answer = told_by("forget()")
    assert warning == (
        "WARNING rpcasync: procedure forget returned int, which is ignored: answer with return_()"
    )
    assert error == (
        "ERROR rpcasync: procedure forget dropped call 0 without an answer: call return_(caller,"
        " ...), or keep the caller and do so later"
    )
    assert answer == (
        "rpcasync.errors.RemoteError: forget: did not answer: in the server, it has to call"
        " return_(caller, ...)"
    )


def test_an_answer_that_is_given_twice(told_by):
    log, error, end = told_by("twice()")
    assert log == "ERROR rpcasync: procedure twice failed"
    assert re.fullmatch(
        r"ValueError: <Caller 0 twice of fd \d+> is answered already: return_\(\) and error\(\)"
        r" answer once",
        error,
    )
    assert re.fullmatch(
        r"WARNING rpcasync: client fd \d+ disconnected: procedure twice failed", end
    )


def test_an_exception(told_by):
    log, error, end, answer = told_by("boom()")
    assert log == "ERROR rpcasync: procedure boom failed"
    assert error == "KeyError: 'no such user'"
    assert re.fullmatch(r"WARNING rpcasync: client fd \d+ disconnected: procedure boom failed", end)
    assert answer == "rpcasync.errors.RemoteError: boom: failed; see the server's log"


def test_a_procedure_without_the_caller(told_by):
    error, answer = told_by("alone()")
    assert error == (
        "ERROR rpcasync: procedure alone cannot be called: it has no parameter for the caller:"
        " write def rpc_alone(caller)"
    )
    assert answer == ("rpcasync.errors.RemoteError: alone: cannot be called; see the server's log")


# In eventmux alone


LISTEN = """
from eventmux import EventMux

mux = EventMux()
url = "tcp://127.0.0.1:%d" % mux.listen("tcp://127.0.0.1:0").getsockname()[1]
"""


def test_a_port_that_is_in_use(stderr_of):
    error = exception_in(stderr_of("mux.listen(url)", LISTEN))
    assert re.fullmatch(
        r"OSError: \[Errno \d+\] Address already in use: stop the program that has it, or choose"
        r" another port: 'tcp://127\.0\.0\.1:\d+'",
        error,
    )


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc/net")
def test_a_port_that_is_in_use_at_the_command_line(tmp_path):
    (tmp_path / "server.py").write_text(SERVER)
    with socket.create_server(("127.0.0.1", 0)) as used:
        url = f"tcp://127.0.0.1:{used.getsockname()[1]}"
        done = run(
            *(sys.executable, "-m", "rpcasync", "listen", "-u", url, "server.py"), cwd=tmp_path
        )
    problem = f"Address already in use by process {os.getpid()} ("
    assert done.stderr.startswith(f"rpcasync: cannot listen on {url}: {problem}")
    assert done.stderr.endswith("): stop it, or choose another port\n")


def test_text_in_place_of_bytes(stderr_of):
    lines = stderr_of("fh = mux.connect(url)\nmux.send(fh, 'hello')", LISTEN)
    assert exception_in(lines) == (
        "TypeError: cannot send str, only bytes, bytearray or memoryview; encode it, as in"
        " text.encode()"
    )
