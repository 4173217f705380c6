"""What the multiplexer costs: an echo server on eventmux, beside the same on bare selectors and
on asyncio.

    python tests/benchmarks/bench_mux.py [--rounds N] [--seconds S] [--quick]

eventmux has to be importable (`pip install .`, or `PYTHONPATH=.`). Linux; TCP on the loopback.

Each server is a process of its own and does nothing but echo messages of 64 bytes; one client
process, the same for all, keeps one message in flight on each of its connections and checks each
answer. The tables are

- messages per second with 1, 100 and 1,000 connections, all of them busy;
- memory of the server for each connection that is idle (it has echoed one message);
- with 10, 1,000 and 10,000 idle connections, what one message of one busy connection costs: the
  round trip, and the processor time of the server.

How to read it: a ratio is to `selectors` in the same round, in which all peers ran for a fraction
of a second one after the other, in an order of the round's own; all of them are there all the
time, and idle when it is not their turn. `selectors again` is the same server a second time:
what differs no more than that row does is noise. `selectors` is a floor, not a server: it
keeps no state, queues no output and forgets what a full socket does not take.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import random
import resource
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import cast

from eventmux import EventMux

_HOST = "127.0.0.1"
_MESSAGE = b"m" * 64
_READ_SIZE = 65536
_BACKLOG = 4096
_PATIENCE = 300  # seconds; what takes longer is ended
_SPARE = 100  # descriptors for other things than connections
_SEED = 1  # of the order within the rounds, so that runs can be compared
_BASE = "selectors"
_PEERS = (_BASE, "eventmux", "asyncio", "selectors again")


class BenchmarkFailed(Exception):
    """A process that was measured did not do its work."""


# The servers; each announces its port and serves until it is killed


def _serve_eventmux(listener: socket.socket) -> None:
    mux = EventMux()
    mux.add(listener)
    for event in mux:
        if event.type == "read":
            mux.send(event.fh, event.data)


def _serve_selectors(listener: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select():
            sock = cast("socket.socket", key.fileobj)
            if sock is listener:
                with contextlib.suppress(BlockingIOError):
                    sock, _ = listener.accept()
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(sock, selectors.EVENT_READ, None)
                continue
            try:
                data = sock.recv(_READ_SIZE)
                if data:
                    sock.send(data)
                    continue
            except ConnectionResetError:
                pass
            selector.unregister(sock)
            sock.close()


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def _serve_asyncio(listener: socket.socket) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Echo, sock=listener, backlog=_BACKLOG)
        await server.serve_forever()

    asyncio.run(serve())


_SERVERS: dict[str, Callable[[socket.socket], None]] = {
    "eventmux": _serve_eventmux,
    "selectors": _serve_selectors,
    "asyncio": _serve_asyncio,
}


def _serve(peer: str) -> None:
    listener = socket.create_server((_HOST, 0), backlog=_BACKLOG)
    print(listener.getsockname()[1], flush=True)
    _SERVERS[peer](listener)


# The clients


def _connect(port: int) -> socket.socket:
    """Return a connection that is accepted, since it has echoed once."""
    sock = socket.create_connection((_HOST, port), timeout=_PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A reset at the end: tens of thousands of ports in TIME_WAIT would disturb what comes next.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.settimeout(None)
    _echo(sock)
    return sock


def _echo(sock: socket.socket) -> None:
    sock.sendall(_MESSAGE)
    data = sock.recv(_READ_SIZE)
    while len(data) < len(_MESSAGE) and (more := sock.recv(_READ_SIZE)):
        data += more
    _check(data)


def _check(data: bytes) -> None:
    if data != _MESSAGE:
        sys.exit(f"wrong echo: {data!r}")


def _hold(port: int, count: int) -> None:
    """Keep connections open until stdin ends."""
    held = [_connect(port) for _ in range(count)]
    print(len(held), flush=True)
    sys.stdin.read()


def _load(port: int, count: int, server: int) -> None:
    """For each line of stdin, keep the server busy for so many seconds.

    Print messages per second, and the nanoseconds of processor time for one at the server.
    """
    socks = [_connect(port) for _ in range(count)]
    turn = _pinging(socks[0]) if count == 1 else _juggling(socks)
    for line in sys.stdin:
        busy, start = _nanoseconds(server), perf_counter()
        messages = _run(turn, float(line))
        took = perf_counter() - start
        print(messages / took, (_nanoseconds(server) - busy) / messages, flush=True)


def _run(turn: Callable[[], int], seconds: float) -> int:
    end = perf_counter() + seconds
    messages = 0
    while perf_counter() < end:
        messages += turn()
    return messages


def _pinging(sock: socket.socket) -> Callable[[], int]:
    def turn() -> int:
        for _ in range(10):
            _echo(sock)
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
            _check(sock.recv(_READ_SIZE))
            sock.send(_MESSAGE)
        return len(ready)

    return turn


def _nanoseconds(pid: int) -> int:
    """Return how long a process of one thread has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _resident(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# Processes


@contextmanager
def _child(*args: object) -> Iterator[subprocess.Popen[str]]:
    """Run this file in another role, and leave no process behind."""
    command = [sys.executable, __file__, "--role", *map(str, args)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read(process: subprocess.Popen[str], name: str) -> list[float]:
    """Return the numbers of the line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchmarkFailed(f"{name} failed")
    return [float(part) for part in line.split()]


@dataclass(slots=True)
class Figures:
    """What one run measured."""

    rate: float
    cpu: float  # nanoseconds of the server for one message
    memory: float  # bytes of the server for each idle connection; 0 if there are none


@dataclass(slots=True)
class Rig:
    """A server, a client that keeps it busy, and one that is connected and idle."""

    peer: str
    client: subprocess.Popen[str]
    memory: float

    def measure(self, seconds: float) -> Figures:
        """Keep the server busy for a while."""
        assert self.client.stdin is not None
        self.client.stdin.write(f"{seconds}\n")
        rate, cpu = _read(self.client, f"the client of {self.peer}")
        return Figures(rate, cpu, self.memory)


def _rig(stack: contextlib.ExitStack, peer: str, busy: int, idle: int) -> Rig:
    """Start a server and its clients."""
    server = stack.enter_context(_child("serve", peer.split()[0]))
    port = int(_read(server, peer)[0])
    memory = 0.0
    if idle:
        _read(stack.enter_context(_child("hold", port, 10)), "the client that is idle")
        before = _resident(server.pid)
        _read(stack.enter_context(_child("hold", port, idle)), "the client that is idle")
        memory = (_resident(server.pid) - before) / idle
    return Rig(peer, stack.enter_context(_child("load", port, busy, server.pid)), memory)


# Rounds and tables


@dataclass(slots=True)
class Column:
    """One number of a peer: what it was in each round, and its ratio to the base."""

    values: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def ratio(self) -> str:
        """Return the median of the ratios, with minimum and maximum."""
        return f"{median(self.ratios):.2f} ({min(self.ratios):.2f}-{max(self.ratios):.2f})"


Results = dict[tuple[int, str], dict[str, Column]]


def _run_rounds(
    rounds: int, seconds: float, sizes: Sequence[int], build: Callable[..., Rig]
) -> Results:
    """Measure each peer with each size in each round."""
    results: Results = {}
    source = random.Random(_SEED)
    for size in sizes:
        with contextlib.ExitStack() as stack:
            rigs = {peer: build(stack, peer, size) for peer in _PEERS}
            for number in range(rounds + 1):  # the first is to warm up
                order = source.sample(_PEERS, len(_PEERS))
                figures = {peer: rigs[peer].measure(seconds) for peer in order}
                print(f"{size}: {number} of {rounds}", file=sys.stderr)
                for peer in _PEERS if number else ():
                    _note(results.setdefault((size, peer), {}), figures[peer], figures[_BASE])
    return results


def _note(columns: dict[str, Column], figures: Figures, base: Figures) -> None:
    for name in ("rate", "cpu", "memory"):
        value, reference = getattr(figures, name), getattr(base, name)
        column = columns.setdefault(name, Column())
        column.values.append(value)
        column.ratios.append(value / reference if reference > 0 else float("nan"))


def _print_echo(results: Results) -> None:
    print("| busy connections | server | messages/s | ratio | processor, us | ratio |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for (size, peer), columns in sorted(results.items(), key=_place):
        rate = columns["rate"]
        start = f"| {size:,} | {peer} | {median(rate.values):,.0f} | {rate.ratio()} "
        print(start + _processor(columns))


def _print_idle(results: Results) -> None:
    print("| idle connections | server | round trip, us | ratio | processor, us | ratio |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for (size, peer), columns in sorted(results.items(), key=_place):
        trips = [1e6 / rate for rate in columns["rate"].values]
        slower = Column(ratios=[1 / ratio for ratio in columns["rate"].ratios])
        start = f"| {size:,} | {peer} | {median(trips):.1f} | {slower.ratio()} "
        print(start + _processor(columns))


def _processor(columns: dict[str, Column]) -> str:
    cpu = columns["cpu"]
    return f"| {median(cpu.values) / 1000:.1f} | {cpu.ratio()} |"


def _print_memory(results: Results) -> None:
    most = max(size for size, _ in results)
    print(f"| server | bytes for each of {most:,} idle connections |")
    print("| --- | ---: |")
    for peer in _PEERS:
        print(f"| {peer} | {results[most, peer]['memory'].values[0]:,.0f} |")


def _place(item: tuple[tuple[int, str], dict[str, Column]]) -> tuple[int, int]:
    (size, peer), _ = item
    return size, _PEERS.index(peer)


# The command line


def _raise_limit() -> int:
    """Allow as many descriptors as can be; return how many those are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1_000_000 if limit == resource.RLIM_INFINITY else limit


def _fitting(sizes: Sequence[int], limit: int) -> list[int]:
    """Return the sizes, those that are too large made smaller; say so."""
    most = limit - _SPARE
    if max(sizes) > most:
        print(f"RLIMIT_NOFILE is {limit}: {most} connections at most\n")
    return sorted({min(size, most) for size in sizes})


def _play(role: str, *args: str) -> None:
    """Be a server or a client."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.alarm(_PATIENCE)  # the end, whatever happens
    _raise_limit()
    if role == "serve":
        _serve(args[0])
    elif role == "hold":
        _hold(int(args[0]), int(args[1]))
    else:
        _load(*map(int, args))


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What the multiplexer costs, beside others.")
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each run; default: 0.3")
    parser.add_argument("--quick", action="store_true", help="only see whether it works")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not 1 <= options.rounds <= 50 or not 0 < options.seconds <= 1:
        parser.error("rounds are 1 to 50, and seconds above 0 and at most 1")
    return options


def _report(rounds: int, seconds: float, busy: Sequence[int], idle: Sequence[int]) -> None:
    print("Medians; in brackets, minimum and maximum.\n")
    echo = _run_rounds(rounds, seconds, busy, lambda *peer_and_size: _rig(*peer_and_size, 0))
    _print_echo(echo)
    print(flush=True)
    among = _run_rounds(rounds, seconds, idle, lambda stack, peer, size: _rig(stack, peer, 1, size))
    _print_memory(among)
    print()
    _print_idle(among)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    options = _parse_args(argv)
    if options.role:
        _play(*options.role)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended then too
    limit = _raise_limit()
    print(f"{platform.python_implementation()} {platform.python_version()}, ", end="")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n", flush=True)
    try:
        if options.quick:
            _report(1, 0.05, [1, 10], [10, 50])
        else:
            busy, idle = (1, 100, 1000), _fitting((10, 1000, 10_000), limit)
            _report(options.rounds, options.seconds, _fitting(busy, limit), idle)
    except BenchmarkFailed as error:
        print(f"bench_mux: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
