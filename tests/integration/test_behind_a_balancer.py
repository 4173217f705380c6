"""`rpcasync listen --agent --proxy --max-age`: a server that stands behind a balancer."""

from __future__ import annotations

import socket
import sys

import pytest
from support.programs import LIMIT, PROGRAMS, ROOT, Program, run

from eventmux import EventMux
from rpcasync import Client

CALC = PROGRAMS / "calc_server.py"
LISTEN = [sys.executable, "-m", "rpcasync", "listen"]
PROXY = ["--proxy", "require", "--trusted", "unix:"]


@pytest.fixture
def listening(tmp_path):
    """Start a server at a path; it ends with the test."""
    programs = []

    def start(*options):
        url = f"unix://{tmp_path}/socket"
        programs.append(Program([*LISTEN, "-u", url, *options, CALC]))
        programs[-1].wait_for_log("listening on")
        return url, programs[-1]

    yield start
    for program in programs:
        program.stop()


def connected(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(LIMIT)
    sock.connect(str(path))
    return sock


def asked(path):
    with connected(path) as sock, sock.makefile("r") as file:
        return file.read()


def test_the_agent_of_a_program(tmp_path, listening):
    url, program = listening("--agent", f"unix://{tmp_path}/agent")
    with EventMux() as mux, Client(mux, url) as client:
        client.call("whoami").result(LIMIT)
        assert asked(tmp_path / "agent") == "up ready 100%\n"
        program.process.terminate()
        program.wait_for_log("SIGTERM: waits for 1 clients and 0 calls")
        assert asked(tmp_path / "agent") == "drain\n"
    assert program.process.wait(LIMIT) == 0
    assert not (tmp_path / "agent").exists()


def test_an_agent_that_cannot_listen(tmp_path):
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"{tmp_path}/agent")
        taken.listen()
        words = ["-u", f"unix://{tmp_path}/socket", "--agent", f"unix://{tmp_path}/agent"]
        result = run(*LISTEN, *words, CALC)
    assert result.returncode == 1
    expected = f"calc_server.py: cannot answer a balancer at unix://{tmp_path}/agent: Address alr"
    assert expected in result.stderr


def test_a_proxy_says_whose_a_connection_is(tmp_path, listening):
    _, program = listening("--log-level", "debug", *PROXY)
    with connected(tmp_path / "socket") as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.9 56324 443\r\n")
        program.wait_for_log("client 192.0.2.7:56324 connected")


def test_who_says_nothing_is_refused(tmp_path, listening):
    url, program = listening(*PROXY)
    with (
        EventMux() as mux,
        Client(mux, url) as client,
        pytest.raises(ConnectionError),
    ):
        client.call("whoami").result(LIMIT)
    program.wait_for_log("client refused: PROXY header")


def test_those_of_systemd_as_well(tmp_path):
    """The number of a process is known only in it."""
    hand_over = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid());"
    hand_over += "os.dup2(int(sys.argv[1]), 3); os.execvp(sys.argv[2], sys.argv[2:])"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/socket")
        listener.listen()
        start = ["env", "LISTEN_FDS=1", sys.executable, "-c", hand_over, str(listener.fileno())]
        words = [*start, *LISTEN, "--log-level", "debug", *PROXY, CALC]
        program = Program(words, pass_fds=[listener.fileno()], cwd=ROOT)
        try:
            with connected(tmp_path / "socket") as sock:
                sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.9 56324 443\r\n")
                program.wait_for_log("client 192.0.2.7:56324 connected")
        finally:
            program.stop()
