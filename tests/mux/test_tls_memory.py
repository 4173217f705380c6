"""However much is sent both ways at once, and however slowly the peer reads, memory stays flat.

The server is a process of its own: what a process has had at most is never less again.
"""

from __future__ import annotations

import select
import ssl
import subprocess
import sys
import zlib
from socket import create_connection

import pytest
from support.certificates import client_context, pem_file
from support.programs import ROOT
from support.pump import PATIENCE
from support.quick import quick_first

_MILLION = 1_000_000
_PIECE = 65536

# It echoes, and tells what it has at most, once the first 10 MB are through and at the end.
_SERVER = """
import resource, ssl, sys
from eventmux import EventMux

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1])
mux = EventMux()
listener = mux.listen("tls://127.0.0.1:0", tls=context, high_water=500_000)
print(listener.getsockname()[1], flush=True)
heard = first = 0
for event in mux:
    if event.type == "read":
        heard += len(event.data)
        if not first and heard > 10_000_000:
            first = most()
        mux.send(event.fh, event.data)
    elif event.type == "closed":
        print(event.reason, most() - first, flush=True)
        break
"""


@pytest.fixture
def server():
    """A process; it has said where it listens."""
    command = [sys.executable, "-c", _SERVER, pem_file("server")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def talk(sock: ssl.SSLSocket, total: int) -> tuple[int, int]:
    """Send so many bytes and read as many; return the checksums of both.

    It reads only while the server takes nothing: what it has not read is what makes the server
    wait.
    """
    sock.setblocking(False)
    piece = bytes(range(256)) * (_PIECE // 256)
    sent = heard = said = back = 0
    while heard < total:
        try:
            if sent < total:
                size = sock.send(piece[: total - sent])
                said = zlib.crc32(piece[:size], said)
                sent += size
                continue
        except ssl.SSLWantWriteError:
            pass
        try:
            data = sock.recv(_PIECE)
            back = zlib.crc32(data, back)
            heard += len(data)
        except ssl.SSLWantReadError:
            writable = [sock] if sent < total else []
            assert any(select.select([sock], writable, [], PATIENCE)), f"{sent} sent, {heard} heard"
    return said, back


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in another unit elsewhere")
@pytest.mark.parametrize("megabytes", quick_first([60, 1000]))
def test_memory_is_flat(server, megabytes):
    address = ("127.0.0.1", int(server.stdout.readline()))
    with client_context().wrap_socket(
        create_connection(address, PATIENCE), server_hostname="localhost"
    ) as sock:
        said, back = talk(sock, megabytes * _MILLION)
        assert said == back
        sock.settimeout(PATIENCE)
        sock.unwrap()
    reason, grown = server.stdout.readline().split()
    assert reason == "None"
    assert int(grown) < 4 * _MILLION
