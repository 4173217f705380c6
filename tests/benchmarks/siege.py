"""The server that is attacked, and the honest client: the processes of `under_attack.py`.

The client makes a call every 10 ms, whether the ones before are answered or not, and takes the
time from when each was due: a client that waits for its answers would make fewest calls when the
server is slowest. It is written by hand, so that what it costs is the same for all versions.
"""

from __future__ import annotations

import collections
import logging
import resource
import select
import socket
import time
from contextlib import suppress

from benchmarks.attacks import Attacker, frame

__all__ = ["ask", "stand"]

_EVERY = 0.01  # seconds
_PATIENCE = 20.0  # seconds that answers may be late, at the end
_MEMORY = 1 << 30  # bytes that the server may have
_MILLISECOND = 0.001
_BIG = "x" * 1_000_000
_CALL = frame(b'[1,"add","n1",2,"n2",3]')
_ANSWER = frame(b'[1,"sum",5]')


def stand(outstanding: int, log: str, port: int) -> None:
    """Serve until the process is ended."""
    from eventmux import EventMux
    from rpcasync import Caller, Coderef, Server

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.basicConfig(filename=log, format="%(levelname)s %(name)s: %(message)s")
    kept: list[Caller] = []
    followers: list[Coderef] = []

    def rpc_add(caller: Caller, n1: int = 0, n2: int = 0, **others: object) -> None:
        rpc.return_(caller, sum=n1 + n2)

    def rpc_ms(caller: Caller) -> None:
        end = time.perf_counter() + _MILLISECOND
        while time.perf_counter() < end:
            pass
        rpc.return_(caller)

    def rpc_big(caller: Caller) -> None:
        rpc.return_(caller, _BIG)

    def rpc_keep(caller: Caller) -> None:
        kept.append(caller)

    def rpc_let_go(caller: Caller) -> None:
        for each in kept:
            rpc.return_(each, _BIG)
        kept.clear()
        rpc.return_(caller)

    def rpc_follow(caller: Caller, callback: Coderef) -> None:
        followers.append(callback)
        rpc.return_(caller)

    def rpc_publish(caller: Caller, text: str, /) -> None:
        followers[:] = [each for each in followers if each.alive]
        for each in followers:
            if each.alive:
                each(text)
        rpc.return_(caller)

    def rpc_echo(caller: Caller, *values: object) -> None:
        rpc.return_(caller, *values)

    def rpc_count_values(caller: Caller, *values: object) -> None:
        rpc.return_(caller, len(values))

    def rpc_fails(caller: Caller, text: str, /) -> None:
        raise ValueError(f"cannot work with {text}")

    procedures = {name: value for name, value in locals().items() if name.startswith("rpc_")}
    mux = EventMux()
    rpc = Server(mux, procedures)
    rpc.set_limits(outstanding=outstanding or None)
    rpc.listen(f"tcp://127.0.0.1:{port}")
    while rpc.has_clients():
        rpc.io(mux.mux())


def attack(name: str, seconds: float, port: int) -> None:
    """Attack; print how many connections were made, and how many bytes sent."""
    from benchmarks.attacks import ATTACKS

    attacker = Attacker(port, seconds)
    attacker.attack(ATTACKS[name].once)
    print(attacker.connections, attacker.sent, flush=True)


def ask(seconds: float, port: int) -> None:
    """Call every 10 ms for so long; print the seconds that each call took, sorted.

    A call that is not answered counts with the time until we gave up.
    """
    left = round(seconds / _EVERY)  # calls; a sum of times is off by rounding
    try:
        sock = socket.create_connection(("127.0.0.1", port))
    except OSError:  # it has ended already
        print(*[_PATIENCE] * left, flush=True)
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    waiting: collections.deque[float] = collections.deque()  # when each was due
    found: list[float] = []
    heard = bytearray()
    due = time.monotonic()
    end = due + seconds
    while left or waiting:
        now = time.monotonic()
        if left and now >= due:
            with suppress(BlockingIOError, ConnectionError):
                sock.send(_CALL)  # so small and rare that the kernel takes it whole
            waiting.append(due)
            due += _EVERY
            left -= 1
            continue
        if now > end + _PATIENCE:
            break
        readable, _, _ = select.select([sock], [], [], due - now if left else 1)
        if readable:
            data = b""
            with suppress(ConnectionError):
                data = sock.recv(65536)
            if not data:
                break  # disconnected: the rest is never answered
            heard += data
            now = time.monotonic()
            while heard.startswith(_ANSWER):
                del heard[: len(_ANSWER)]
                found.append(now - waiting.popleft())
            if len(heard) >= len(_ANSWER):
                raise SystemExit(f"wrong answer: {bytes(heard[:80])!r}")
    lost = [_PATIENCE] * (len(waiting) + left)
    print(*sorted(found + lost), flush=True)
