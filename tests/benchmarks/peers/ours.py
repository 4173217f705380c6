"""rpcasync, through its public API: the loop of the README, and a callback for each answer."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import PAYLOAD, Meter, Tally
from eventmux import EventMux
from rpcasync import Caller, Client, Server


class RPCAsync:
    """Client and server on one codec; the server knows it by the first byte of a packet."""

    def __init__(self, codec: str) -> None:
        self._codec = codec

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        mux = EventMux()

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
        mux = EventMux()
        url = f"tcp://127.0.0.1:{port}"
        shape = meter.shape
        clients = [Client(mux, url, codec=self._codec) for _ in range(shape.connections)]
        tally = meter.tally()
        for rpc in clients:
            for _ in range(shape.in_flight):
                if shape.echo:
                    _Echo(rpc, tally).call()
                else:
                    _Add(rpc, tally, meter).call()
        meter.start()
        if len(clients) == 1:
            while True:
                clients[0].io(mux.mux())
        by_fh: dict[Any, Client] = {rpc.fh: rpc for rpc in clients}
        for event in mux:
            by_fh[event.fh].io(event)


class _Add:
    """One of the calls in flight."""

    def __init__(self, rpc: Client, tally: Tally, meter: Meter) -> None:
        self._rpc = rpc
        self._tally = tally
        self._pairs = meter.pairs

    def call(self) -> None:
        n1, n2 = next(self._pairs)
        self._expected = n1 + n2
        self._rpc.add_numbers(self.answer, n1=n1, n2=n2)

    # Without annotations, here and below: those of a callback convert what it is given.
    def answer(self, sum):  # type: ignore[no-untyped-def]
        self._tally.check(self._expected, sum)
        self.call()


class _Echo:
    def __init__(self, rpc: Client, tally: Tally) -> None:
        self._rpc = rpc
        self._tally = tally

    def call(self) -> None:
        self._rpc.echo(self.answer, s=PAYLOAD)

    def answer(self, s):  # type: ignore[no-untyped-def]
        self._tally.check(PAYLOAD, s)
        self.call()
