"""A Perl server that the program has started itself, over a socket that it has inherited."""

import os
import shutil
import signal
import socket
import subprocess

import pytest
from support.processes import with_socket
from support.programs import LIMIT, PERL

from eventmux import EventMux
from rpcasync import Client, Disconnected

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")


@pytest.fixture
def start():
    started = []

    def start(*how, **options):
        """Start it, and return the URL of our end of its socket, and the process."""
        ours, process = with_socket("perl", PERL / "fd_server.pl", "{fd}", *how, **options)
        started.append(process)
        return f"cfd://{ours.detach()}", process

    yield start
    for process in started:
        process.kill()
        process.wait()


def run(mux, client):
    while client.has_work():
        client.io(mux.mux(LIMIT))


@pytest.mark.parametrize("is_pid", [False, True])
def test_one_that_ends_by_itself(start, is_pid):
    url, process = start(stdout=subprocess.DEVNULL)
    with EventMux() as mux:
        rpc = Client(mux, url, process=process.pid if is_pid else process)
        assert rpc.pid().result(LIMIT) == (process.pid,)
        rpc.disconnect()
        run(mux, rpc)
        assert rpc.process.returncode == 0


def test_one_that_has_to_be_killed(start, caplog):
    url, process = start("deaf", stdout=subprocess.PIPE)
    lines = []
    with EventMux() as mux:
        rpc = Client(mux, url, process=process, output=lambda *line: lines.append(line))
        rpc.pid().result(LIMIT)
        rpc.disconnect(grace=0.05)
        run(mux, rpc)
        assert rpc.process.returncode == -signal.SIGKILL
    assert lines[0] == ("stdout", b"the client has gone")
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == [
        "SIGTERM",
        "SIGKILL",
    ]


def test_one_that_ends_in_a_call(start):
    url, process = start()
    with EventMux() as mux:
        rpc = Client(mux, url, process=process.pid)
        with pytest.raises(Disconnected, match="its process has ended with status 3"):
            rpc.call("exit", 3).result(LIMIT)
        run(mux, rpc)


def test_forked_and_executed():
    ours, theirs = socket.socketpair()
    pid = os.posix_spawnp(
        "perl",
        ["perl", str(PERL / "fd_server.pl"), "9"],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 9)],
    )
    theirs.close()
    with EventMux() as mux:
        rpc = Client(mux, ours, process=pid, close_on_idle=True)
        answers = []
        rpc.echo(1, "two", lambda *values: answers.append(values))
        run(mux, rpc)
    assert answers == [(1, "two")]
    assert rpc.process.returncode == 0


def test_what_it_prints(start):
    url, process = start(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = []
    with EventMux() as mux:
        rpc = Client(mux, url, process=process, output=lambda *line: lines.append(line))
        rpc.say("one\ntwo\n", "three\nfour").result(LIMIT)
        rpc.disconnect()
        run(mux, rpc)
    assert [line for stream, line in lines if stream == "stdout"] == [
        b"one",
        b"two",
        b"the client has gone",
    ]
    assert [line for stream, line in lines if stream == "stderr"] == [b"three", b"four"]
