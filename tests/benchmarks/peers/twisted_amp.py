"""Twisted AMP: commands and deferreds; each answer makes the next call.

A value of AMP has 65,535 bytes at most: the echo sends 100 KB as two.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.meter import PAYLOAD, Meter

_HALVES = (PAYLOAD[: len(PAYLOAD) // 2].encode(), PAYLOAD[len(PAYLOAD) // 2 :].encode())


def _commands() -> tuple[Any, Any]:
    from twisted.protocols import amp

    class Add(amp.Command):
        arguments = ((b"n1", amp.Integer()), (b"n2", amp.Integer()))
        response = ((b"sum", amp.Integer()),)

    class Echo(amp.Command):
        arguments = ((b"s1", amp.String()), (b"s2", amp.String()))
        response = arguments

    return Add, Echo


class AMP:
    """Both ends from Twisted, on its epoll reactor."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        from twisted.internet import epollreactor

        epollreactor.install()
        from twisted.internet import protocol, reactor
        from twisted.protocols import amp

        add_command, echo_command = _commands()

        class Calculator(amp.AMP):
            @add_command.responder
            def add_numbers(self, n1: int, n2: int) -> dict[str, int]:
                return {"sum": n1 + n2}

            @echo_command.responder
            def echo(self, s1: bytes, s2: bytes) -> dict[str, bytes]:
                return {"s1": s1, "s2": s2}

        factory = protocol.Factory.forProtocol(Calculator)
        loop: Any = reactor
        loop.listenTCP(port, factory, backlog=1024, interface="127.0.0.1")
        loop.run()

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        from twisted.internet import epollreactor

        epollreactor.install()
        from twisted.internet import defer, endpoints, reactor
        from twisted.protocols import amp

        shape, tally = meter.shape, meter.tally()
        add_command, echo_command = _commands()
        loop: Any = reactor

        def connect() -> Any:
            endpoint = endpoints.TCP4ClientEndpoint(loop, "127.0.0.1", port)
            return endpoints.connectProtocol(endpoint, amp.AMP())

        def ask(client: Any) -> None:
            n1, n2 = next(meter.pairs)
            asked = client.callRemote(add_command, n1=n1, n2=n2)
            asked.addCallback(lambda answer: tally.check(n1 + n2, answer["sum"]))
            asked.addCallbacks(lambda _: ask(client), give_up)

        def ask_echo(client: Any) -> None:
            asked = client.callRemote(echo_command, s1=_HALVES[0], s2=_HALVES[1])
            asked.addCallback(lambda answer: tally.check(_HALVES, (answer["s1"], answer["s2"])))
            asked.addCallbacks(lambda _: ask_echo(client), give_up)

        def begin(clients: list[Any]) -> None:
            for client in clients:
                for _ in range(shape.in_flight):
                    (ask_echo if shape.echo else ask)(client)
            meter.start()

        def give_up(failure: Any) -> None:
            failure.printTraceback()
            os._exit(1)

        connections = defer.gatherResults([connect() for _ in range(shape.connections)])
        connections.addCallbacks(begin, give_up)
        loop.run()
