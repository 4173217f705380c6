"""zerorpc: msgpack over ZeroMQ, on gevent. Several calls at once are asynchronous results.

Its heartbeats are off, and its pool is as large as the largest number of calls in flight.
"""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks.meter import PAYLOAD, Meter

_ASYNC: dict[str, Any] = {"async": True}  # a keyword of Python now: there is no other way to say it


class ZeroRPC:
    """Both ends from zerorpc."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        import zerorpc

        class Calculator:
            def add_numbers(self, n1: int, n2: int) -> int:
                return n1 + n2

            def echo(self, s: str) -> str:
                return s

        server = zerorpc.Server(Calculator(), heartbeat=None, pool_size=2000)
        server.bind(f"tcp://127.0.0.1:{port}")
        server.run()

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever: one at a time, or all that may be in flight and then their answers."""
        import zerorpc

        shape, tally = meter.shape, meter.tally()
        clients = [zerorpc.Client(heartbeat=None, timeout=30) for _ in range(shape.connections)]
        for client in clients:
            client.connect(f"tcp://127.0.0.1:{port}")
            tally.check(5, client.add_numbers(2, 3))
        meter.start()
        while shape.echo:
            tally.check(PAYLOAD, clients[0].echo(PAYLOAD))
        while shape.in_flight == 1:
            n1, n2 = next(meter.pairs)
            tally.check(n1 + n2, clients[0].add_numbers(n1, n2))
        while True:
            waiting = []
            for client in clients:
                for n1, n2 in itertools.islice(meter.pairs, shape.in_flight):
                    result = client.add_numbers(n1, n2, **_ASYNC)
                    waiting.append((n1 + n2, result))
            for expected, answer in waiting:
                tally.check(expected, answer.get())
