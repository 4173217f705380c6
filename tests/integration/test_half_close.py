"""Ends of one direction, with real programs: nc, a script in Perl, and the relay of examples."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import threading

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, ROOT, Program, listening, run, scarce

LATER = PROGRAMS / "answers_later.py"
needs_nc = pytest.mark.skipif(shutil.which("nc") is None, reason="there is no nc here")
needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")


@pytest.fixture(params=["tcp", "unix"])
def url(request, tmp_path):
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/socket"


def frame(*values):
    payload = json.dumps(values).encode()
    return struct.pack("!I", 4 + len(payload)) + payload


def values_in(data):
    found = []
    while data:
        (size,) = struct.unpack_from("!I", data)
        found.append(json.loads(data[4:size]))
        data = data[size:]
    return found


@needs_nc
def test_calls_that_nc_writes(url):
    with listening(LATER, url) as (address, server):
        place = address.partition("://")[2]
        where = ["-U", place] if address.startswith("unix") else place.split(":")
        calls = frame(1, "later", 5) + frame(2, "add_numbers", "n1", 2, "n2", 3)
        result = subprocess.run(
            ["nc", "-N", *where], input=calls, capture_output=True, timeout=LIMIT, check=True
        )
    assert values_in(result.stdout) == [[2, "sum", 5], [1, 5]]
    assert server.log[1:] == []


@needs_perl
def test_a_script_in_perl(url):
    with listening(LATER, url) as (address, server):
        result = run("perl", PERL / "half_closing_client.pl", address)
    assert result.stdout.splitlines() == ["1 sum 5", "2 7", "3 8", "end"]
    assert server.log[1:] == []


class Upper(threading.Thread):
    """A server that answers when it has heard its client out."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self):
        with self.listener, self.listener.accept()[0] as sock:
            sock.settimeout(LIMIT)
            heard = b""
            while data := sock.recv(100_000):
                heard += data
            sock.sendall(heard.upper())


@pytest.mark.parametrize("size", [5, 5_000_000])
def test_the_relay_passes_on_each_end(size):
    upper = Upper()
    relay = Program(
        [sys.executable, ROOT / "examples" / "tcp_relay.py", "tcp://127.0.0.1:0", upper.url]
    )
    try:
        port = int(relay.stdout.readline().rpartition(", ")[2].strip(")\n"))
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
            sock.sendall(b"a" * size)
            sock.shutdown(socket.SHUT_WR)
            got = b""
            while data := sock.recv(100_000):
                got += data
        assert got == b"A" * size
        upper.join(LIMIT)
    finally:
        relay.stop()
    assert relay.log == []


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted by Linux")
def test_the_relay_outlives_a_lack_of_descriptors():
    """Each client takes two: accepting is put off, and connecting fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        relay = Program(
            [
                *scarce(ROOT / "examples" / "tcp_relay.py", 40),
                *("tcp://127.0.0.1:0", f"tcp://127.0.0.1:{listener.getsockname()[1]}"),
            ]
        )
        clients = []
        try:
            port = int(relay.stdout.readline().rpartition(", ")[2].strip(")\n"))
            for _ in range(30):
                clients.append(socket.create_connection(("127.0.0.1", port), timeout=LIMIT))
            relay.wait_for_log("Too many open files")
            for client in clients:
                client.close()
            with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as client:
                client.sendall(b"still there")
                heard = b""
                while heard != b"still there":  # those before have said nothing
                    with listener.accept()[0] as server:
                        heard = server.recv(100)
        finally:
            relay.stop()
            for client in clients:
                client.close()


@needs_nc
def test_the_relay_with_nc():
    upper = Upper()
    relay = Program(
        [sys.executable, ROOT / "examples" / "tcp_relay.py", "tcp://127.0.0.1:0", upper.url]
    )
    try:
        port = relay.stdout.readline().rpartition(", ")[2].strip(")\n")
        result = subprocess.run(
            ["nc", "-N", "127.0.0.1", port],
            input=b"hello",
            capture_output=True,
            timeout=LIMIT,
            check=True,
        )
    finally:
        relay.stop()
    assert result.stdout == b"HELLO"
