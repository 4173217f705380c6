"""RPyC: a service and bound remote methods. Several calls at once are `async_` results.

With TCP_NODELAY at both ends, which is not its default, but makes it 8 times as fast when calls
are pipelined.
"""

from __future__ import annotations

import itertools
import socket
from typing import Any

from benchmarks.meter import PAYLOAD, Meter


class RPyC:
    """Both ends from RPyC, a thread for each connection in the server."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        import rpyc
        from rpyc.utils.server import ThreadedServer

        class Calculator(rpyc.Service):
            def on_connect(self, conn: Any) -> None:
                conn._channel.stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def exposed_add_numbers(self, n1: int, n2: int) -> int:
                return n1 + n2

            def exposed_echo(self, s: str) -> str:
                return s

        ThreadedServer(Calculator, hostname="127.0.0.1", port=port, backlog=1024).start()

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever: one at a time, or all that may be in flight and then their answers."""
        import rpyc

        shape, tally = meter.shape, meter.tally()
        streams = (
            rpyc.SocketStream.connect("127.0.0.1", port, nodelay=True)
            for _ in range(shape.connections)
        )
        clients = [rpyc.connect_stream(stream).root for stream in streams]
        add, echo = clients[0].add_numbers, clients[0].echo
        meter.start()
        while shape.echo:
            tally.check(PAYLOAD, echo(PAYLOAD))
        while shape.in_flight == 1:
            n1, n2 = next(meter.pairs)
            tally.check(n1 + n2, add(n1, n2))
        starts = [rpyc.async_(client.add_numbers) for client in clients]
        while True:
            waiting = []
            for start in starts:
                for n1, n2 in itertools.islice(meter.pairs, shape.in_flight):
                    waiting.append((n1 + n2, start(n1, n2)))
            for expected, result in waiting:
                tally.check(expected, result.value)
