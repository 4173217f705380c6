"""JSON with its length in front, by hand with asyncio: what one writes who needs no more.

A write for each message, a future for each call, and a task for each call that is in flight.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from typing import Any, cast

from benchmarks.meter import PAYLOAD, Meter, Tally

_HEADER = struct.Struct("!I")


class AsyncioJSON:
    """asyncio as it is, with smaller reads, or on uvloop.

    Args:
        read_size: None is asyncio's own, which is 256 KB. It cannot be set by any public name.
        uvloop: run on uvloop.
    """

    def __init__(self, read_size: int | None = None, uvloop: bool = False) -> None:
        self._read_size = read_size
        self._uvloop = uvloop

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        self._run(_serve(port))

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        self._run(_drive(port, meter))

    def _run(self, main: Any) -> None:
        if self._read_size is not None:
            transport: Any = vars(asyncio.selector_events)["_SelectorSocketTransport"]
            transport.max_size = self._read_size
        if self._uvloop:
            import uvloop

            uvloop.install()
        asyncio.run(main)


class _Messages(asyncio.Protocol):
    """JSON messages; what they mean is the subclass's affair."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, message: object) -> None:
        body = json.dumps(message).encode()
        self.transport.write(_HEADER.pack(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _HEADER.size:
            body = start + _HEADER.size
            end = body + _HEADER.unpack_from(buffer, start)[0]
            if end > len(buffer):
                break
            self.receive(json.loads(buffer[body:end]))
            start = end
        del buffer[:start]

    def receive(self, message: Any) -> None:
        raise NotImplementedError


def _add_numbers(n1: int, n2: int) -> dict[str, int]:
    return {"sum": n1 + n2}


def _echo(s: str) -> dict[str, str]:
    return {"s": s}


_PROCEDURES: dict[str, Any] = {"add_numbers": _add_numbers, "echo": _echo}


class _Server(_Messages):
    def receive(self, message: Any) -> None:
        id, name, args = message
        self.send([id, _PROCEDURES[name](**args)])


class _Client(_Messages):
    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count()
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def call(self, procedure: str, **args: object) -> asyncio.Future[dict[str, Any]]:
        id = next(self._ids)
        future = self._pending[id] = self._loop.create_future()
        self.send([id, procedure, args])
        return future

    def receive(self, message: Any) -> None:
        id, answer = message
        self._pending.pop(id).set_result(answer)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Server, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def _drive(port: int, meter: Meter) -> None:
    loop = asyncio.get_running_loop()
    shape, tally = meter.shape, meter.tally()
    tasks = []
    for _ in range(shape.connections):
        _, client = await loop.create_connection(_Client, "127.0.0.1", port)
        for _ in range(shape.in_flight):
            work = _repeat_echo(client, tally) if shape.echo else _add(client, tally, meter)
            tasks.append(asyncio.create_task(work))
    meter.start()
    await asyncio.gather(*tasks)


async def _add(client: _Client, tally: Tally, meter: Meter) -> None:
    for n1, n2 in meter.pairs:
        answer = await client.call("add_numbers", n1=n1, n2=n2)
        tally.check(n1 + n2, answer["sum"])


async def _repeat_echo(client: _Client, tally: Tally) -> None:
    while True:
        answer = await client.call("echo", s=PAYLOAD)
        tally.check(PAYLOAD, answer["s"])
