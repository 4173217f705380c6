"""A process that is measured, or that measures. `processes.py` starts them:

    serve PEER                         a server of remote procedures
    drive PEER SHAPE WARMUP SECONDS    a client; prints calls per second
    echo SERVER                        an echo server
    load CONNECTIONS SERVER_PID        keeps an echo server busy, see below
    hold KIND COUNT                    connections that have been used once, and are idle
    stand OUTSTANDING LOG              a server that is attacked: see `siege.py`
    attack NAME SECONDS PORT           who attacks it
    ask SECONDS                        an honest client of it
    tls-serve LIBRARY WORK CONNECTIONS SIZE FILE                 one end of TLS: see `tls.py`
    tls-ask LIBRARY WORK CONNECTIONS SIZE FILE WARMUP SECONDS    the other; prints what it
                                       has measured
    tls-flood NAME SECONDS PORT        those who come to TLS: see `tls_flood.py`
    tls-visit SECONDS FILE PORT        an honest client there

A server gets its port as the last argument. A client reads it from stdin, so that it can be
started, and import what it needs, together with its server.
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from benchmarks import siege, tls, tls_ends, tls_flood
from benchmarks.echoes import ECHO_SERVERS
from benchmarks.meter import SHAPES, Meter, fail
from benchmarks.peers import PEERS

PATIENCE = 300  # seconds; what takes longer is ended
_MESSAGE = b"m" * 64
_CALL = json.dumps([1, "add_numbers", "n1", 2, "n2", 3]).encode()
_RESULT = [1, "sum", 5]
_READ_SIZE = 65536
_LENGTH = struct.Struct("!I")


def _drive(peer: str, name: str, warmup: str, seconds: str) -> None:
    shape = next(shape for shape in SHAPES if shape.name == name)
    client = PEERS[peer].load()
    client.drive(_port(), Meter(shape, float(warmup), float(seconds)))


def _port() -> int:
    return int(sys.stdin.readline())


# Echo: the load is the same for all servers


def _load(count: int, server: int) -> None:
    """For each line of stdin, keep the server busy for so many seconds.

    One message is in flight on each connection. Prints messages per second, and the nanoseconds
    of processor time that the server took for one.
    """
    port = _port()
    socks = [_connect(port) for _ in range(count)]
    for sock in socks:
        _ask_echo(sock)
    turn = _asking(socks[0]) if count == 1 else _juggling(socks)
    for line in sys.stdin:
        busy, start = _nanoseconds(server), perf_counter()
        end = start + float(line)
        messages = 0
        while (now := perf_counter()) < end:
            messages += turn()
        print(messages / (now - start), (_nanoseconds(server) - busy) / messages, flush=True)


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A reset at the end: tens of thousands of ports in TIME_WAIT would disturb what comes next.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.settimeout(None)
    return sock


def _ask_echo(sock: socket.socket) -> None:
    sock.sendall(_MESSAGE)
    _check(_receive(sock, len(_MESSAGE)), _MESSAGE)


def _receive(sock: socket.socket, size: int) -> bytes:
    data = sock.recv(_READ_SIZE)
    while len(data) < size and (more := sock.recv(_READ_SIZE)):
        data += more
    return data


def _check(found: object, expected: object) -> None:
    if found != expected:
        fail(f"wrong echo: {found!r:.200}")


def _asking(sock: socket.socket) -> Callable[[], int]:
    def turn() -> int:
        for _ in range(10):
            _ask_echo(sock)
        return 10

    return turn


def _juggling(socks: Sequence[socket.socket]) -> Callable[[], int]:
    poller = select.epoll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for sock in socks:
        poller.register(sock, select.EPOLLIN)
        sock.sendall(_MESSAGE)

    def turn() -> int:
        ready = poller.poll()
        for fd, _ in ready:
            sock = by_fd[fd]
            _check(sock.recv(_READ_SIZE), _MESSAGE)
            sock.send(_MESSAGE)
        return len(ready)

    return turn


def _nanoseconds(pid: int) -> int:
    """Return how long a process of one thread has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


# Idle connections


def _hold(kind: str, count: int) -> None:
    port = _port()
    held = []
    for _ in range(count):
        sock = _connect(port)
        if kind == "echo":
            _ask_echo(sock)
        else:
            _call(sock)
        held.append(sock)
    print(len(held), flush=True)
    sys.stdin.read()


def _call(sock: socket.socket) -> None:
    """Make one call of a server of ours, by hand and in JSON."""
    sock.sendall(_LENGTH.pack(len(_CALL) + 4) + _CALL)
    data = _receive(sock, 4)
    (size,) = _LENGTH.unpack_from(data)
    if len(data) < size:
        data += _receive(sock, size - len(data))
    _check(json.loads(data[4:]), _RESULT)


# TLS


def _work(name: str, connections: str, size: str, pem_file: str) -> tls_ends.Work:
    return tls_ends.Work(name, int(connections), int(size), pem_file)


def _ask_by_tls(library: str, *args: str) -> None:
    """Read the port, and whose processor time is to be measured; ask until the time is over."""
    work = _work(*args[:4])
    port, pid = map(int, sys.stdin.readline().split())
    tls.watch(lambda: work.count, work.connections, pid, *map(float, args[4:]))
    tls_ends.CLIENTS[library](port, work)


def main(role: str, *args: str) -> None:
    """Be what the arguments say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is run.py's to report
    signal.alarm(PATIENCE)
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if role == "serve":
        PEERS[args[0]].load().serve(int(args[1]))
    elif role == "drive":
        _drive(*args)
    elif role == "echo":
        ECHO_SERVERS[args[0]].serve(int(args[1]))
    elif role == "load":
        _load(int(args[0]), int(args[1]))
    elif role == "hold":
        _hold(args[0], int(args[1]))
    elif role == "stand":
        siege.stand(int(args[0]), args[1], int(args[2]))
    elif role == "attack":
        siege.attack(args[0], float(args[1]), int(args[2]))
    elif role == "ask":
        siege.ask(float(args[0]), _port())
    elif role == "tls-serve":
        name, *work, port = args
        tls_ends.SERVERS[name](int(port), _work(*work))
    elif role == "tls-ask":
        _ask_by_tls(*args)
    elif role == "tls-flood":
        tls_flood.flood(args[0], float(args[1]), int(args[2]))
    elif role == "tls-visit":
        tls_flood.visit(float(args[0]), args[1], int(args[2]))


if __name__ == "__main__":
    main(*sys.argv[1:])
