"""aiorpcX: JSON-RPC sessions on asyncio, a task for each call in flight.

Its own limits on what a session may cost are off: they would slow it down on purpose.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.meter import PAYLOAD, Meter


async def _add_numbers(n1: int, n2: int) -> int:
    return n1 + n2


async def _echo(s: str) -> str:
    return s


_HANDLERS = {"add_numbers": _add_numbers, "echo": _echo}


def _session() -> Any:
    import aiorpcx

    class Session(aiorpcx.RPCSession):
        cost_soft_limit = cost_hard_limit = 0
        initial_concurrent = 2000

        async def handle_request(self, request: Any) -> Any:
            handler = _HANDLERS.get(request.method)
            return await aiorpcx.handler_invocation(handler, request)()

    return Session


class AiorpcX:
    """Both ends from aiorpcX."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        asyncio.run(_serve(port))

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        asyncio.run(_drive(port, meter))


async def _serve(port: int) -> None:
    import aiorpcx

    await aiorpcx.serve_rs(_session(), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


async def _drive(port: int, meter: Meter) -> None:
    import aiorpcx

    shape, tally = meter.shape, meter.tally()

    async def add(session: Any) -> None:
        for n1, n2 in meter.pairs:
            tally.check(n1 + n2, await session.send_request("add_numbers", (n1, n2)))

    async def echo(session: Any) -> None:
        while True:
            tally.check(PAYLOAD, await session.send_request("echo", (PAYLOAD,)))

    tasks = []
    for _ in range(shape.connections):
        connector = aiorpcx.connect_rs("127.0.0.1", port, session_factory=_session())
        _, protocol = await connector.create_connection()
        session = protocol.session
        session.sent_request_timeout = 60
        # It would adapt, and let fewer of our calls be in flight than the column says.
        session.recalc_concurrency = lambda: None
        work = echo if shape.echo else add
        tasks += [asyncio.create_task(work(session)) for _ in range(shape.in_flight)]
    meter.start()
    await asyncio.gather(*tasks)
