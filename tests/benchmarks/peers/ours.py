"""rpcasync, through its public API: the loop of the README, and a callback for each answer.

And the client that waits, with a thread for each call that is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import rpcasync
from benchmarks.meter import PAYLOAD, Meter, Tally, fail
from eventmux import EventMux
from rpcasync import BlockingClient, Caller, Client, Server


class RPCAsync:
    """Client and server on one codec; the server knows it by the first byte of a packet."""

    def __init__(self, codec: str, spin: float | None = None) -> None:
        self._codec = codec
        self._spin = spin  # None: as it is by itself

    def _mux(self) -> EventMux:
        return EventMux() if self._spin is None else EventMux(spin=self._spin)

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        mux = self._mux()

        def rpc_add_numbers(caller: Caller, n1: int, n2: int) -> None:
            rpc.return_(caller, sum=n1 + n2)

        def rpc_echo(caller: Caller, s: str) -> None:
            rpc.return_(caller, s=s)

        rpc = Server(mux, {"rpc_add_numbers": rpc_add_numbers, "rpc_echo": rpc_echo})
        rpc.listen(f"tcp://127.0.0.1:{port}")
        while rpc.has_clients():
            rpc.io(mux.mux())

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever: each answer makes the next call."""
        mux = self._mux()
        url = f"tcp://127.0.0.1:{port}"
        shape = meter.shape
        clients = [Client(mux, url, codec=self._codec) for _ in range(shape.connections)]
        tally = meter.tally()
        for rpc in clients:
            for _ in range(shape.in_flight):
                if shape.echo:
                    _echo_for_ever(rpc, tally)
                else:
                    _add_for_ever(rpc, tally, meter.pairs)
        meter.start()
        if len(clients) == 1:
            while True:
                clients[0].io(mux.mux())
        by_fh: dict[Any, Client] = {rpc.fh: rpc for rpc in clients}
        for event in mux:
            by_fh[event.fh].io(event)


class Blocking(RPCAsync):
    """The same server; `rpcasync.connect()`, whose connection so many threads share."""

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        shape = meter.shape
        url = f"tcp://127.0.0.1:{port}"
        clients = [
            rpcasync.connect(url, codec=self._codec, timeout=None) for _ in range(shape.connections)
        ]
        barrier = threading.Barrier(shape.connections * shape.in_flight, action=meter.start)

        def work(rpc: BlockingClient) -> None:
            try:
                _wait_for_each(rpc, meter, barrier)
            except BaseException as error:  # noqa: BLE001  # a thread alone would end without notice
                fail(repr(error))

        shares = [rpc for rpc in clients for _ in range(shape.in_flight)]
        for rpc in shares[1:]:
            threading.Thread(target=work, args=[rpc]).start()
        work(shares[0])


def _wait_for_each(rpc: BlockingClient, meter: Meter, barrier: threading.Barrier) -> None:
    tally, pairs = meter.tally(), meter.pairs
    barrier.wait()
    if meter.shape.echo:
        while True:
            tally.check(PAYLOAD, rpc.echo(s=PAYLOAD)["s"])
    while True:
        n1, n2 = next(pairs)
        tally.check(n1 + n2, rpc.add_numbers(n1=n1, n2=n2)["sum"])


# One call in flight; its answer makes the next one. The callbacks have no annotations: those of a
# callback convert what it is given.


def _add_for_ever(rpc: Client, tally: Tally, pairs: Iterator[tuple[int, int]]) -> None:
    expected = 0

    def call() -> None:
        nonlocal expected
        n1, n2 = next(pairs)
        expected = n1 + n2
        rpc.add_numbers(answer, n1=n1, n2=n2)

    def answer(sum):  # type: ignore[no-untyped-def]
        tally.check(expected, sum)
        call()

    call()


def _echo_for_ever(rpc: Client, tally: Tally) -> None:
    def answer(s):  # type: ignore[no-untyped-def]
        tally.check(PAYLOAD, s)
        rpc.echo(answer, s=PAYLOAD)

    rpc.echo(answer, s=PAYLOAD)
