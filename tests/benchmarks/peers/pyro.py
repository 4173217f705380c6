"""Pyro5: a proxy for each thread. Several calls at once are a BatchProxy: one message."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import Meter
from benchmarks.peers.threads import drive_blocking


class Pyro5:
    """Both ends from Pyro5, with its thread pool."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        import Pyro5.api

        @Pyro5.api.expose
        class Calculator:
            def add_numbers(self, n1: int, n2: int) -> int:
                return n1 + n2

            def echo(self, s: str) -> str:
                return s

        daemon = Pyro5.api.Daemon(host="127.0.0.1", port=port)
        daemon.register(Calculator(), "calculator")
        daemon.requestLoop()

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        import Pyro5.api

        def batch(client: Any, pairs: list[tuple[int, int]]) -> list[int]:
            calls = Pyro5.api.BatchProxy(client)
            for n1, n2 in pairs:
                calls.add_numbers(n1, n2)
            return list(calls())

        uri = f"PYRO:calculator@127.0.0.1:{port}"
        drive_blocking(meter, lambda: Pyro5.api.Proxy(uri), batch)
