"""What a child process prints, line by line: `output`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings
from support.handled import forgetting
from support.line_interrupts import Interrupter
from support.peers import turn
from support.processes import with_socket
from support.pump import PATIENCE

from eventmux import EventMux
from rpcasync import Client, Disconnected
from rpcasync.children.output import LONGEST_LINE, Output

ECHO = "import os, socket, sys; s = socket.socket(fileno=int(sys.argv[1]))\n"
ANSWER = "s.recv(1000); s.sendall(b'\\0\\0\\0\\7[0]')\n"


class Pipes:
    """Two pipes of which we have both ends, and what was printed."""

    def __init__(self, mux):
        self.lines = []
        self.fails = False
        pairs = {name: os.pipe() for name in ("stdout", "stderr")}
        self.ends = {name: ends[1] for name, ends in pairs.items()}
        pipes = {name: os.fdopen(ends[0], "rb", 0) for name, ends in pairs.items()}
        self.output = Output(mux, pipes, self.tell)

    def tell(self, name, line):
        self.lines.append((name, line))

    def write(self, data, name="stdout"):
        assert os.write(self.ends[name], data) == len(data)

    def close(self):
        for end in self.ends.values():
            os.close(end)
        self.ends.clear()


@pytest.fixture
def pipes(mux):
    pipes = Pipes(mux)
    yield pipes
    pipes.close()
    drain(mux, pipes.output)


def drain(mux, output):
    while (event := mux.mux(0)) is not None and event.type != "timeout":
        assert output.has(event)
        output.todo = [*output.todo, event]
        output.take()


def test_lines(mux, pipes):
    pipes.write(b"one\ntwo\nthr")
    drain(mux, pipes.output)
    assert pipes.lines == [("stdout", b"one"), ("stdout", b"two")]
    pipes.write(b"ee\n\nlast")
    pipes.write(b"error\n", "stderr")
    drain(mux, pipes.output)
    assert [line for name, line in pipes.lines if name == "stderr"] == [b"error"]
    pipes.close()
    drain(mux, pipes.output)
    assert [line for name, line in pipes.lines if name == "stdout"] == [
        *(b"one", b"two", b"three", b"", b"last")
    ]
    assert not pipes.output.is_open


def test_a_long_line_comes_in_pieces(mux, pipes):
    for _ in range(5):
        pipes.write(b"x" * 30_000)
        drain(mux, pipes.output)
    pipes.write(b"y\nz\n")
    drain(mux, pipes.output)
    lines = [line for _, line in pipes.lines]
    assert list(map(len, lines)) == [LONGEST_LINE, LONGEST_LINE, 150_001 - 2 * LONGEST_LINE, 1]
    assert b"".join(lines) == b"x" * 150_000 + b"yz"


@pytest.mark.parametrize("size", [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1])
def test_a_line_of_about_the_longest(mux, pipes, size):
    for data in (b"x" * 40_000, b"x" * (size - 40_000) + b"\n"):
        pipes.write(data)
        drain(mux, pipes.output)
    assert b"".join(line for _, line in pipes.lines) == b"x" * size
    assert len(pipes.lines) == (1 if size <= LONGEST_LINE else 2)


@given(st.data(), st.lists(st.binary(max_size=6)))
def test_however_it_is_written(data, lines):
    printed = b"\n".join(lines)
    with EventMux() as mux:
        pipes = Pipes(mux)
        for chunk in data.draw(chunkings(printed)):
            if chunk:
                pipes.write(chunk)
                drain(mux, pipes.output)
        pipes.close()
        drain(mux, pipes.output)
    assert [line for _, line in pipes.lines] == (printed.split(b"\n") if printed else [])[
        : None if not printed.endswith(b"\n") else -1
    ]


# A client


@pytest.fixture
def start(mux):
    """Start a child with a program for `python -c`, and a client of it."""
    started = []

    def start(program, tell, **options):
        command = [sys.executable, "-S", "-E", "-c", ECHO + program, "{fd}"]
        ours, process = with_socket(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return Client(mux, ours, process=process, output=tell, codec="json", **options)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def run(mux, client):
    while client.has_work():
        event = mux.mux(PATIENCE)
        assert event is None or event.type != "timeout"
        assert client.io(event) is None


def test_the_last_words(mux, start):
    lines = []
    client = start(
        "print('hello', flush=True); s.recv(1); print('bye')", lambda *line: lines.append(line)
    )
    client.disconnect()
    run(mux, client)
    assert lines == [("stdout", b"hello"), ("stdout", b"bye")]


def test_last_words_that_are_many():
    """Its end is known before all that it has printed was read."""
    lines = []
    with EventMux(read_size=1000, reads_per_turn=1) as mux:
        ours, theirs = socket.socketpair()
        program = "for n in range(3000): print(n)"
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", program], stdout=subprocess.PIPE
        )
        theirs.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        client = Client(mux, ours, process=process, output=lambda _, line: lines.append(line))
        run(mux, client)
        client.disconnect()
        run(mux, client)
    assert lines == [b"%d" % number for number in range(3000)]


def test_a_child_that_dies(mux, start):
    lines = []
    client = start("s.recv(1); 1 / 0", lambda *line: lines.append(line))
    with pytest.raises(Disconnected, match="its process has ended with status 1"):
        client.x().result(PATIENCE)
    run(mux, client)
    assert lines[-1] == ("stderr", b"ZeroDivisionError: division by zero")


def test_more_than_pipes_hold_while_a_result_is_waited_for(mux, start):
    """Each line is an event of its own: beyond so many, a mux that waits for another reads none."""
    count = 0

    def tell(name, line):
        nonlocal count
        count += 1

    client = start(
        "for n in range(2000): os.write(1, b'x' * 200 + b'\\n')\n" + ANSWER + "s.recv(1)",
        tell,
    )
    assert client.x().result(PATIENCE) == ()
    client.disconnect()
    run(mux, client)
    assert count == 2000


def test_a_grandchild_that_keeps_the_pipes(mux, start):
    """The loop does not wait for it."""
    lines = []
    client = start(
        "r, w = os.pipe()\n"
        "if os.fork() == 0: os.close(w); s.close(); os.read(r, 1); os._exit(0)\n"
        "os.close(r); print('there', flush=True); s.recv(1)",
        lambda *line: lines.append(line),
    )
    # the pipe `w` closes with the child: the grandchild ends behind it, but not at once
    client.disconnect()
    run(mux, client)
    assert lines == [("stdout", b"there")]


def test_a_function_that_raises_loses_no_line(mux, start):
    lines = []

    def tell(name, line):
        lines.append(line)
        if line == b"1":
            raise ValueError("on purpose")

    client = start("for n in range(4): print(n)", tell)
    with pytest.raises(ValueError, match="on purpose"):
        client.wait(PATIENCE, client.x())
    client.disconnect()
    run(mux, client)
    assert lines == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("url", ["python://examples/add_server.py", "perlroot://server.pl"])
def test_a_url_without_pipes(mux, url):
    language = url.partition("://")[0]
    meant = url.replace("python", "python2").replace("perl", "perl2")
    with pytest.raises(
        ValueError, match=f"'{language}:.* prints where we print; '{meant}' has pip"
    ):
        Client(mux, url, output=print)
    assert mux.handles() == []


def test_no_process_at_all(mux):
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="output: there is no process with pipes"):
        Client(mux, ours, output=print)


def test_what_cannot_be_called(mux):
    with pytest.raises(TypeError, match="output is 1, must be a function"):
        Client(mux, "python2://examples/add_server.py", output=1)


def test_pipes_that_are_watched_already(mux):
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([sys.executable, "-S", "-c", ""], stdout=subprocess.PIPE)
    with ours, theirs, process:
        mux.add(process.stdout)
        with pytest.raises(ValueError, match="watched"):
            Client(mux, ours, process=process, output=print)
        assert mux.handles() == [process.stdout]
        mux.remove(process.stdout)


@pytest.mark.parametrize("sample", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_ctrl_c_at_any_line(sample):
    at = 0
    while True:
        at += sample
        with EventMux() as mux:
            ours, theirs = socket.socketpair()
            client = Client(mux, ours)
            pipes = Pipes(mux)
            client._output = pipes.output
            interrupter = Interrupter(at)
            forgetting(print_and_interrupt, mux, client, pipes, interrupter)
            pipes.close()
            while pipes.output.is_open:
                client.io(mux.mux(PATIENCE))
            turn(mux, client)
            theirs.close()
        expected = [b"%d" % number for number in range(6)]
        lines = [line for _, line in pipes.lines]
        lost = [line for line in expected if line not in lines]
        assert len(lost) <= interrupter.place.endswith(" take"), interrupter.place
        assert lines == [line for line in expected if line not in lost], interrupter.place
        if not interrupter.has_fired:
            break


def print_and_interrupt(mux, client, pipes, interrupter):
    pipes.write(b"0\n1\n2")
    event = mux.mux(PATIENCE)
    while event.type != "read":
        client.io(event)
        event = mux.mux(PATIENCE)
    try:
        with interrupter:
            client.io(event)
    except KeyboardInterrupt:
        if not client._inbox.is_woken and not pipes.lines:
            client.io(event)  # it is as if it had come before the call
    pipes.write(b"\n3\n4")
    with contextlib.suppress(KeyboardInterrupt), interrupter:
        client.wait(0)
        client._output.read()
    pipes.write(b"\n5")
