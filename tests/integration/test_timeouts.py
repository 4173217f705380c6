"""examples/patience.py, with times of a fraction of a second: who is silent, slow or dribbling."""

import socket
import sys
from contextlib import contextmanager

import pytest
from support.programs import LIMIT, ROOT, Program

CODE = """
import sys
sys.path.insert(0, "examples")
import patience
patience.STRANGER, patience.FRIEND, patience.LINE = map(float, sys.argv[1:])
patience.serve(port="0")
"""
LONG = "100"
SILENCE = "nothing has come or gone for {} seconds (idle_timeout)"


@contextmanager
def visiting(stranger, friend, line):
    """Give a server with these times, and a connection to it."""
    program = Program([sys.executable, "-u", "-c", CODE, stranger, friend, line], cwd=ROOT)
    try:
        _, _, host, port = program.process.stdout.readline().split()
        with socket.create_connection((host, int(port)), timeout=LIMIT) as sock:
            yield program.process.stdout, sock
    finally:
        program.stop()


def test_a_stranger_who_says_nothing():
    with visiting("0.1", LONG, LONG) as (output, sock):
        assert sock.recv(100) == b""
        assert output.readline() == f"lost: {SILENCE.format(0.1)}\n"


def test_a_friend_who_says_nothing_more():
    with visiting(LONG, "0.1", LONG) as (output, sock):
        sock.sendall(b"Ada\n")
        assert sock.makefile("rb").read() == b"hello, Ada\n"
        assert output.readline() == f"lost: {SILENCE.format(0.1)}\n"


@pytest.mark.parametrize("lines", [0, 1])
def test_somebody_who_never_finishes_a_line(lines):
    with visiting("1", "1", "0.3") as (_, sock):
        sock.sendall(b"Ada\n" * lines)
        sock.settimeout(0.02)
        answer = b""
        while not answer.endswith(b"too slow\n"):
            sock.sendall(b"x")
            try:
                answer += sock.recv(100)
            except TimeoutError:
                continue
        assert answer == b"hello, Ada\n" * lines + b"too slow\n"
