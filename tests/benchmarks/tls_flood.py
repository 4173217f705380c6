"""An honest client's wait while 2,000 others a second come to the port of TLS.

    python tests/benchmarks/tls_flood.py [--seconds S] [--floods NAME ...] [--write-docs]

The server echoes, on eventmux and on asyncio. Its honest client says 64 bytes every 50 ms on a
connection that it has, and makes a new one every 200 ms; each time counts from when it was due.
Those of the flood say nothing, or garbage, or do the whole handshake; they come by the clock, as
far as the machine is fast enough to make them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

from support.certificates import ca_file, pem_file  # noqa: E402

from benchmarks.processes import BenchmarkFailed, child, server, wait_for  # noqa: E402
from benchmarks.report import Table, machine, write_between  # noqa: E402

__all__ = ["FLOODS", "LATE", "Wait", "flood", "main", "measure", "visit"]

BEGIN = "<!-- tls_flood.py writes from here -->"
_DOCS = _ROOT / "docs" / "benchmarks.md"
_HOST = "127.0.0.1"
_RATE = 2000  # connections a second
_TICK = 0.005  # seconds
_TOGETHER = 16  # handshakes
_EVERY = 0.05  # seconds: an echo
_NEW_EVERY = 0.2
_HELD = 2000  # connections of the flood that are open at a time; the eldest goes
LATE = 10.0  # seconds; what takes longer counts as this
_MESSAGE = b"m" * 64
_RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: no ports are left in TIME_WAIT


# ---- the processes -----------------------------------------------------------------------


def flood(name: str, seconds: float, port: int) -> None:
    """Come 2,000 times a second for so long; print how many a second it were."""
    # Whoever does a handshake waits for the server, so others come meanwhile.
    count = _TOGETHER if name == "handshakes" else 1
    came: list[int] = []
    start = time.perf_counter()

    def run() -> None:
        came.append(_flood(name, port, start, seconds, _RATE / count))

    together = [threading.Thread(target=run) for _ in range(count)]
    for each in together:
        each.start()
    for each in together:
        each.join()
    print(sum(came) / (time.perf_counter() - start), flush=True)


def _flood(name: str, port: int, start: float, seconds: float, rate: float) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    held: collections.deque[socket.socket] = collections.deque()
    came = 0
    while (now := time.perf_counter() - start) < seconds:
        while came < now * rate and time.perf_counter() - start < seconds:
            with contextlib.suppress(OSError):
                held.append(_come(name, port, context))
            came += 1
            if len(held) > _HELD * rate / _RATE:
                held.popleft().close()
        time.sleep(_TICK)
    return came


def _come(name: str, port: int, context: ssl.SSLContext) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if name == "handshakes":
        sock.settimeout(LATE)
        sock.connect((_HOST, port))
        return context.wrap_socket(sock)
    sock.setblocking(False)
    sock.connect_ex((_HOST, port))
    if name == "garbage":
        sock.send(b"GET / HTTP/1.1\r\n\r\n")
    return sock


def visit(seconds: float, file: str, port: int) -> None:
    """Be honest for so long; print the seconds of echoes, then those of new connections."""
    context = ssl.create_default_context(cafile=file)
    old = _connect(port, context)
    start = time.perf_counter() + 0.1
    waits: list[list[float]] = [[], []]

    def new() -> None:
        with _connect(port, context) as sock:
            _echo(sock)

    beats = [
        threading.Thread(target=_beat, args=(_EVERY, start, seconds, lambda: _echo(old), waits[0])),
        threading.Thread(target=_beat, args=(_NEW_EVERY, start, seconds, new, waits[1])),
    ]
    for each in beats:
        each.start()
    for each in beats:
        each.join()
    for found in waits:
        print(*sorted(found), flush=True)


def _beat(
    every: float, start: float, seconds: float, act: Callable[[], None], waits: list[float]
) -> None:
    """Do something again and again; note how long after it was due it was done."""
    for number in range(round(seconds / every)):
        due = start + number * every
        time.sleep(max(0.0, due - time.perf_counter()))
        try:
            act()
            waits.append(min(time.perf_counter() - due, LATE))
        except OSError:  # refused, or too late
            waits.append(LATE)


def _connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection((_HOST, port), timeout=LATE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(sock, server_hostname=_HOST)


def _echo(sock: ssl.SSLSocket) -> None:
    sock.sendall(_MESSAGE)
    heard = b""
    while len(heard) < len(_MESSAGE):
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionResetError
        heard += piece


# ---- what is measured --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wait:
    """What an honest client has seen.

    Args:
        rate: how many came a second.
        echoes: seconds for each, sorted.
        connections: seconds until a new one has had its first echo, sorted.
    """

    rate: float
    echoes: Sequence[float]
    connections: Sequence[float]


FLOODS = {
    "nobody": "nobody",
    "silent": "say nothing, 2,000 of them held",
    "garbage": "say `GET / HTTP/1.1`",
    "handshakes": "do a handshake",
}
_LIBRARIES = ("eventmux", "asyncio")


def measure(library: str, name: str, seconds: float) -> Wait:
    """Return how an honest client is served during a flood.

    Raises:
        BenchmarkFailed: a process failed.
    """
    serve = ("tls-serve", library, "echo", 1, 64, pem_file("server"))
    with server(*serve) as (serving, port):
        wait_for(serving, port)
        with child("tls-visit", seconds, ca_file(), port) as visitor:
            rate = 0.0
            if name == "nobody":
                echoes, connections = visitor.read(), visitor.read()
            else:
                with child("tls-flood", name, seconds, port) as crowd:
                    (rate,) = crowd.read()
                    echoes, connections = visitor.read(), visitor.read()
        if serving.ended:
            raise serving.failure()
    return Wait(rate, echoes, connections)


def table(floods: Sequence[str], seconds: float) -> Table:
    """Measure all; return what came out."""
    found = Table(
        "An honest client's wait in a flood of handshakes",
        ("those who come; server", "a second", "echo: p50, ms", "max, ms", "new: p50, ms", "max"),
        note="Echoes on a connection from before; new connections with their first echo.",
    )
    for name in floods:
        for library in _LIBRARIES:
            print(f"{name}: {library}", file=sys.stderr)
            wait = measure(library, name, seconds)
            cells = [f"{wait.rate:,.0f}"]
            for times in (wait.echoes, wait.connections):
                cells += [f"{1000 * times[len(times) // 2]:,.1f}", f"{1000 * times[-1]:,.1f}"]
            found.rows.append((f"{FLOODS[name]}; {library}", *cells))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    parser = argparse.ArgumentParser(prog="tls_flood.py", description="A flood of handshakes.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each; default: 5")
    parser.add_argument("--floods", nargs="+", choices=FLOODS, default=list(FLOODS), metavar="NAME")
    parser.add_argument("--write-docs", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args(argv)
    try:
        text = table(options.floods, options.seconds).markdown()
    except BenchmarkFailed as error:
        print(f"tls_flood.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = f"{machine()} {options.seconds:g} s for each.\n\n{text}"
    print(text)
    if options.write_docs:
        write_between(_DOCS, text, BEGIN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
