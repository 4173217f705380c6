"""Clients that await their calls, and the server of `ours.py` for all of them.

One is `rpcasync.aio`. The other is what one writes by hand with the streams of asyncio for the same
server: JSON with its length in front, a future for each call, a task that reads.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import rpcasync.aio
from benchmarks.meter import PAYLOAD, Meter, Tally
from benchmarks.peers.ours import RPCAsync

_LENGTH = struct.Struct("!I")

Call = Callable[..., Awaitable[Any]]


class _Awaited(RPCAsync):
    """A task for each call in flight."""

    def __init__(self, codec: str = "json", uvloop: bool = False) -> None:
        super().__init__(codec)
        self._uvloop = uvloop

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        if self._uvloop:
            import uvloop

            uvloop.install()
        asyncio.run(self._drive(port, meter))

    async def _drive(self, port: int, meter: Meter) -> None:
        shape, tally = meter.shape, meter.tally()
        tasks = []
        for _ in range(shape.connections):
            client = await self._connect(port)
            for _ in range(shape.in_flight):
                work = _echo(client, tally) if shape.echo else _add(client, tally, meter)
                tasks.append(asyncio.create_task(work))
        meter.start()
        await asyncio.gather(*tasks)

    async def _connect(self, port: int) -> Any:
        raise NotImplementedError


class AsyncRPC(_Awaited):
    """`rpcasync.aio`."""

    async def _connect(self, port: int) -> Any:
        return await rpcasync.aio.connect(f"tcp://127.0.0.1:{port}", codec=self._codec)


class StreamsJSON(_Awaited):
    """The streams of asyncio, by hand."""

    async def _connect(self, port: int) -> Any:
        return _Streams(*await asyncio.open_connection("127.0.0.1", port))


class _Streams:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count()
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._task = asyncio.create_task(self._read())

    async def add_numbers(self, n1: int, n2: int) -> dict[str, Any]:
        return await self._call(["add_numbers", "n1", n1, "n2", n2])

    async def echo(self, s: str) -> dict[str, Any]:
        return await self._call(["echo", "s", s])

    async def _call(self, call: list[Any]) -> dict[str, Any]:
        id = next(self._ids)
        future = self._pending[id] = asyncio.get_running_loop().create_future()
        body = json.dumps([id, *call]).encode()
        self._writer.write(_LENGTH.pack(len(body) + 4) + body)
        await self._writer.drain()
        return await future

    async def _read(self) -> None:
        while True:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(4))
            id, *values = json.loads(await self._reader.readexactly(size - 4))
            answer = dict(zip(values[::2], values[1::2], strict=True))
            self._pending.pop(id).set_result(answer)


async def _add(client: Any, tally: Tally, meter: Meter) -> None:
    for n1, n2 in meter.pairs:
        answer = await client.add_numbers(n1=n1, n2=n2)
        tally.check(n1 + n2, answer["sum"])


async def _echo(client: Any, tally: Tally) -> None:
    while True:
        answer = await client.echo(s=PAYLOAD)
        tally.check(PAYLOAD, answer["s"])
